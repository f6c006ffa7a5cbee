"""Accuracy against forwards as a picture, from what `tests/e2e/quality.py ENDPOINT --sweep` printed.

    python -m tools.demo_model.plot lines.jsonl docs/accuracy.svg

Also prints the same as a Markdown table.
"""
import argparse
import json
import math
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 380, 60, 20, 610, 330
COLOURS = ("#b2182b", "#ef8a62", "#67a9cf", "#2166ac")


def points(lines):
    """-> {block length: [(forwards, facts in percent, steps)]}, by falling steps"""
    out = {}
    for line in lines:
        f = line["fields"]
        out.setdefault(f["block_length"], []).append((line["caption_cost"]["forwards"], 100 * line["facts"], f["steps"]))
    return {block: sorted(some, reverse=True) for block, some in sorted(out.items())}


def svg(curves):
    every = [p for curve in curves.values() for p in curve]
    low_x, high_x = min(p[0] for p in every) * .85, max(p[0] for p in every) * 1.15
    low_y = 10 * math.floor(min(p[1] for p in every) / 10)
    x = lambda v: LEFT + (RIGHT - LEFT) * math.log(v / low_x) / math.log(high_x / low_x)
    y = lambda v: BOTTOM - (BOTTOM - TOP) * (v - low_y) / (100 - low_y)
    text = lambda at_x, at_y, s, anchor="middle": f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{s}</text>'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for v in range(low_y, 101, 10 if low_y < 80 else 5):
        out += [f'<path d="M{LEFT} {y(v):.1f}H{RIGHT}" stroke="#ddd"/>', text(LEFT - 8, y(v) + 4, f"{v} %", "end")]
    for v in (v for v in (2, 4, 8, 16, 32, 64) if low_x < v < high_x):
        out += [f'<path d="M{x(v):.1f} {TOP}V{BOTTOM}" stroke="#ddd"/>', text(x(v), BOTTOM + 18, v)]
    out.append(text((LEFT + RIGHT) / 2, HEIGHT - 12, "forwards per caption (64 tokens)"))
    for k, (block, curve) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        path = " ".join(f"{x(f):.1f},{y(a):.1f}" for f, a, _ in curve)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(f):.1f}" cy="{y(a):.1f}" r="4" fill="{colour}"/>' for f, a, _ in curve]
        at = BOTTOM - 20 * (len(curves) - k)
        out += [f'<circle cx="{RIGHT - 110}" cy="{at - 4}" r="4" fill="{colour}"/>', text(RIGHT - 100, at, f"blocks of {block}", "start")]
    return "\n".join(out + ["</svg>"]) + "\n"


def table(curves):
    steps = sorted({p[2] for curve in curves.values() for p in curve}, reverse=True)
    rows = ["| block length | " + " | ".join(f"{s} steps" for s in steps) + " |", "| --- |" + " --- |" * len(steps)]
    for block, curve in curves.items():
        by = {s: f"{a:.1f} % ({f:.1f})" for f, a, s in curve}
        rows.append(f"| {block} | " + " | ".join(by[s] for s in steps) + " |")
    return "\n".join(rows)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("lines")
    ap.add_argument("picture")
    a = ap.parse_args()
    curves = points([json.loads(line) for line in Path(a.lines).read_text().splitlines()])
    Path(a.picture).write_text(svg(curves))
    print(table(curves))


if __name__ == "__main__":
    main()
