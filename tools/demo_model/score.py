"""How much of what a model says is right: facts of captions, answers to questions. Wording does not count.

    remask caption --json tests/data/scenes/*.png | python -m tools.demo_model.score tests/data/scenes/truths.jsonl

reads lines {"image", "text", ...} and prints one JSON line. A line with a "prompt" that is one of the scene's
questions is scored as an answer; `--question N` says that the lines answer the N-th question (from 0) of their scene.
"""
import argparse
import json
import re
import sys
from pathlib import Path

from . import scenes as S

SHAPE, COLOUR = "|".join(S.SHAPES + S.WORDS) + r"|digit \d", "|".join(S.COLOURS)
OBJECT = re.compile(rf"an? (small|large) ({COLOUR}) ({SHAPE})")
RELATION = re.compile(rf"The ({COLOUR}) ({SHAPE}) is (left of|right of|above|below) the ({COLOUR}) ({SHAPE})")


def caption_facts(scene, caption):
    """-> [(kind, right)]: number of objects, background, and from left to right size, colour and shape of each object
    and the relation of each neighbouring pair"""
    objects, said = scene["objects"], OBJECT.findall(caption.split(".")[0])
    head = re.match(r"There (?:is|are) (\w+) object", caption)
    facts = [("count", bool(head) and head[1] == S.NUMBERS[len(objects)] and len(said) == len(objects)),
             ("background", f"on a {scene['background']} background" in caption)]
    for i, o in enumerate(objects):
        words = said[i] if i < len(said) else ("", "", "")
        facts += [(kind, word == o[kind]) for kind, word in zip(("size", "colour", "shape"), words)]
    relations = RELATION.findall(caption)
    for i, (a, b) in enumerate(zip(objects, objects[1:])):
        truth = (a["colour"], a["shape"], S.relation(a, b), b["colour"], b["shape"])
        facts.append(("relation", i < len(relations) and relations[i] == truth))
    return facts


def same_answer(said, truth):
    """Articles, case and the full stop do not count."""
    plain = lambda s: re.sub(r"^(a|an|the|on the) ", "", s.strip().lower().rstrip("."))
    return plain(said) == plain(truth)


class Score:
    def __init__(self):
        self.counts, self.captions, self.answers = {}, 0, 0

    def add(self, group, facts):
        for kind, right in facts:
            good, total = self.counts.get((group, kind), (0, 0))
            self.counts[group, kind] = (good + bool(right), total + 1)

    def caption(self, scene, text):
        self.captions += 1
        facts = caption_facts(scene, text)
        self.add("caption", facts)
        self.add("attributes", [("all", right) for kind, right in facts if kind != "relation"])

    def answer(self, question, text):
        self.answers += 1
        self.add("answer", [(question["kind"], same_answer(text, question["answer"]))])

    def rate(self, group, kind=None):
        chosen = [v for (g, k), v in self.counts.items() if g == group and kind in (None, k)]
        return round(sum(g for g, _ in chosen) / sum(t for _, t in chosen), 4) if chosen else None

    def summary(self):
        kinds = lambda group: {k: self.rate(group, k) for g, k in self.counts if g == group}
        out = {}
        if self.captions:
            out.update(captions=self.captions, facts=self.rate("caption"), attributes=self.rate("attributes"),
                       relations=self.rate("caption", "relation"), by_kind=kinds("caption"))
        if self.answers:
            out.update(answers=self.answers, answers_right=self.rate("answer"), answers_by_kind=kinds("answer"))
        return out


def score(truths, lines, question=None):
    """truths: {file name: line of truths.jsonl}; lines: dicts of `remask caption --json`"""
    out = Score()
    for line in lines:
        truth = truths[Path(line["image"]).name]
        asked = {q["question"]: q for q in truth["questions"]}.get(line.get("prompt"))
        if question is not None:
            asked = truth["questions"][question]
        if asked:
            out.answer(asked, line["text"])
        else:
            out.caption(truth["scene"], line["text"])
    return out


def read_truths(path):
    return {t["file"]: t for t in map(json.loads, Path(path).read_text().splitlines())}


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("truths", help="truths.jsonl of the scenes")
    ap.add_argument("lines", nargs="?", help="output of remask caption --json; default: standard input")
    ap.add_argument("--question", type=int, metavar="N", help="the lines answer the N-th question of their scene")
    ap.add_argument("--require", type=float, help="exit 1 when fewer facts (or answers) than this are right")
    a = ap.parse_args()
    with (open(a.lines) if a.lines else sys.stdin) as f:
        result = score(read_truths(a.truths), [json.loads(x) for x in f if x.strip()], a.question).summary()
    print(json.dumps(result))
    reached = [result[k] for k in ("facts", "answers_right") if k in result]
    return int(not reached or (a.require is not None and min(reached) < a.require))


if __name__ == "__main__":
    sys.exit(main())
