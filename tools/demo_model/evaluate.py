"""Measure a checkpoint on picture files with truths."""
import json
import time
from pathlib import Path

import torch

from tools.reference import images

from . import export, sampler, tiles
from . import scenes as S
from .score import Score, read_truths


def answers(net, text, jobs, gen_length, steps, chunk=25):
    """jobs: [(picture, question)] -> texts, mean forwards, seconds per answer. Equal picture sizes share a batch."""
    by_size, out, forwards, begin = {}, [""] * len(jobs), 0, time.time()
    for i, (picture, _) in enumerate(jobs):
        by_size.setdefault(picture.size, []).append(i)
    for size, members in by_size.items():
        for at in range(0, len(members), chunk):
            some = members[at:at + chunk]
            pixels = [torch.from_numpy(images.anyres(jobs[i][0], tiles.TILE, tiles.PINPOINTS)) for i in some]
            with torch.no_grad():
                features = net.features(torch.stack(pixels))
            ids, count = sampler.generate(net, text, features, size, [jobs[i][1] for i in some], gen_length, steps)
            forwards += int(count.sum())
            for i, x in zip(some, ids):
                out[i] = text.answer(x)
    return out, forwards / len(jobs), (time.time() - begin) / len(jobs)


def evaluate(checkpoint, scenes, limit=None, divide=(1,), device="cpu"):
    """Prints one JSON line per number of steps, and one for the questions."""
    net, text = export.read(checkpoint)
    net = net.to(device)
    truths = list(read_truths(Path(scenes) / "truths.jsonl").values())[:limit]
    pictures = [images.open_rgb(Path(scenes) / t["file"]) for t in truths]
    for d in divide:
        said, forwards, seconds = answers(net, text, [(p, S.LONG_PROMPTS[0]) for p in pictures], 64, 64 // d)
        score = Score()
        for t, s in zip(truths, said):
            score.caption(t["scene"], s)
        exact = sum(s == t["caption"] for t, s in zip(truths, said)) / len(truths)
        print(json.dumps(dict(score.summary(), steps=64 // d, exact_text=round(exact, 4), forwards=round(forwards, 1),
                              seconds=round(seconds, 3))), flush=True)
    asked = [(p, q) for p, t in zip(pictures, truths) for q in t["questions"]]
    said, forwards, seconds = answers(net, text, [(p, q["question"]) for p, q in asked], 16, 16)
    score = Score()
    for (_, q), s in zip(asked, said):
        score.answer(q, s)
    print(json.dumps(dict(score.summary(), forwards=round(forwards, 1), seconds=round(seconds, 3))), flush=True)
