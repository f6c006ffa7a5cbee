"""Our forward against PyTorch's, alternately in one run, so that a busy machine slows both.

    bench_forward.py build/release/bin/bench-forward [--threads 2] [--runs 3] [--rounds 3] [--require 1.0]

The program prints one JSON line {"dtype", "seconds"} per run. A ratio above 1 means that ours is faster.
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

BASELINE = Path(__file__).with_name("baseline_forward.py")


def run(command):
    """-> the JSON lines a command printed"""
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if not lines:
        sys.exit(f"{command[0]} printed no result")
    return lines


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("binary")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--require", type=float, help="exit 1 where the ratio of the medians is below this")
    a = ap.parse_args()
    slow = []
    for dtype in ("f32", "bf16"):
        common = ["--dtype", dtype, "--threads", str(a.threads), "--runs", str(a.runs)]
        ours, theirs = [], []
        for i in range(a.rounds):
            t = run([sys.executable, str(BASELINE), *common])[0]["seconds"]
            o = statistics.median(line["seconds"] for line in run([a.binary, *common]))
            theirs.append(t)
            ours.append(o)
            print(f"{dtype} round {i + 1}: ours {o:.3f} s, PyTorch {t:.3f} s, ratio {t / o:.2f}", flush=True)
        ratio = statistics.median(theirs) / statistics.median(ours)
        print(json.dumps({"dtype": dtype, "threads": a.threads, "ours_seconds": round(statistics.median(ours), 4),
                          "torch_seconds": round(statistics.median(theirs), 4), "ratio": round(ratio, 3),
                          "ratio_min": round(min(t / o for t, o in zip(theirs, ours)), 3),
                          "ratio_max": round(max(t / o for t, o in zip(theirs, ours)), 3)}), flush=True)
        if a.require and ratio < a.require:
            slow.append(dtype)
    if slow:
        sys.exit(f"slower than required ({a.require}): {', '.join(slow)}")


if __name__ == "__main__":
    main()
