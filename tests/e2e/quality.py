"""How much of what a running cluster says about the demo scenes is right, and what it cost, by profile or any sampling.

    python tests/e2e/quality.py ENDPOINT [--scenes N] [--profile P] [--set rule=RULE_FACTOR --set factor=0.5 ...]
    python tests/e2e/quality.py ENDPOINT --sweep

prints one JSON line: the score of tools/demo_model/score.py for captions (64 tokens) and questions (16 tokens) of held-out
scenes, forwards and tokens per forward; with --sweep one for every number of steps and block length, captions only. The
model must be models/demo.
"""

import argparse
import concurrent.futures
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import api
from api import pb
from tools.demo_model import score

SCENES = ROOT / "tests" / "data" / "scenes"
PROMPT = "Please describe the image in detail."
CAPTION_TOKENS, ANSWER_TOKENS = 64, 16
SWEEP = [{"steps": CAPTION_TOKENS // divide, "block_length": block} for divide in (1, 2, 4, 8) for block in (8, 16, 32, 64)]
PARALLEL = 8


def truths(count=None, folder=SCENES):
    return [{**truth, "path": folder / truth["file"]}
            for truth in list(score.read_truths(folder / "truths.jsonl").values())[:count]]


def ask_all(client, jobs, fields):
    """jobs: (path of the picture, prompt, tokens); the results in order."""
    def run(job):
        path, prompt, tokens = job
        sampling = pb.Sampling(**{"gen_length": tokens, "block_length": tokens, **fields})
        return client.once(api.ask(prompt, [path.read_bytes()], sampling=sampling), timeout=600)

    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        return list(pool.map(run, jobs))


def cost_of(results):
    forwards = sum(result.usage.forwards for result in results)
    committed = sum(result.usage.tokens_per_forward * result.usage.forwards for result in results)
    return {
        "forwards": round(forwards / len(results), 2),
        "refreshes": round(sum(result.usage.refreshes for result in results) / len(results), 2),
        "tokens_per_forward": round(committed / forwards, 2),
        "compute_ms": round(sum(result.usage.compute_us for result in results) / len(results) / 1e3, 1),
    }


def measure(client, scenes, fields, questions=True):
    """-> {"profile", "captions", "facts", "attributes", ..., "caption_cost", "answer_cost"}; rates from 0 to 1"""
    out = score.Score()
    captions = ask_all(client, [(scene["path"], PROMPT, CAPTION_TOKENS) for scene in scenes], fields)
    for scene, result in zip(scenes, captions):
        out.caption(scene["scene"], result.text)
    costs = {"caption_cost": cost_of(captions)}
    if questions:
        asked = [(scene["path"], question) for scene in scenes for question in scene["questions"]]
        answers = ask_all(client, [(path, question["question"], ANSWER_TOKENS) for path, question in asked], fields)
        for (_, question), result in zip(asked, answers):
            out.answer(question, result.text)
        costs["answer_cost"] = cost_of(answers)
    return {"profile": captions[0].usage.profile, **out.summary(), **costs}


def parse_field(text):
    name, value = text.split("=", 1)
    if hasattr(pb, value):
        return name, getattr(pb, value)
    return name, float(value) if "." in value else int(value)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("endpoint")
    ap.add_argument("--folder", type=pathlib.Path, default=SCENES, help="other scenes with truths.jsonl")
    ap.add_argument("--scenes", type=int, help="only the first so many; default: all")
    ap.add_argument("--profile", default="")
    ap.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of Sampling")
    ap.add_argument("--captions-only", action="store_true")
    ap.add_argument("--sweep", action="store_true")
    a = ap.parse_args()
    fields = {"profile": a.profile, **dict(parse_field(text) for text in a.set)}
    with api.Client(a.endpoint) as client:
        for more in SWEEP if a.sweep else [{}]:
            result = measure(client, truths(a.scenes, a.folder), {**fields, **more}, not (a.captions_only or a.sweep))
            print(json.dumps({"fields": {**fields, **more}, **result}), flush=True)


if __name__ == "__main__":
    main()
