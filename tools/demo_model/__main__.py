"""python -m tools.demo_model build|continue|evaluate|scenes ..."""
import argparse
import json
import random
from pathlib import Path

import torch

from . import data, evaluate, export, tokenizer, tower, train
from . import scenes as S


def build(a):
    work, begin = Path(a.work), a.begin and Path(a.begin)
    data.draw(work / "scenes", a.shards, a.per_shard, a.scene_seed)
    words = begin or work / "tokenizer"
    if not (words / "special_tokens_map.json").exists():
        tokenizer.train(words)
    compiled = dict(compile_layers=not a.no_compile)
    tower.train(work / "scenes", work / "tower.pt", a.device, begin, steps=a.tower_steps, minutes=a.tower_minutes, **compiled)
    train.train(work / "scenes", words, work / "model.pt", a.device, work / "tower.pt", begin, **compiled, **options(a))
    export.write(work / "model.pt", words, a.out)
    evaluate.evaluate(a.out, a.test_scenes, device=a.device)


def go_on(a):
    """Trains an exported checkpoint further; the tokenizer stays as it is."""
    work, begin = Path(a.work), Path(a.checkpoint)
    data.draw(work / "scenes", a.shards, a.per_shard, a.scene_seed)
    train.train(work / "scenes", begin, work / "model.pt", a.device, begin=begin, earlier=a.heads,
                compile_layers=not a.no_compile, **options(a))
    export.write(work / "model.pt", begin, a.out)


def options(a):
    return {k: v for k in train.DEFAULTS if (v := getattr(a, k)) is not None}


def training_options(parser, shards, scene_seed, defaults):
    parser.add_argument("--shards", type=int, default=shards)
    parser.add_argument("--per-shard", type=int, default=512)
    parser.add_argument("--scene-seed", type=int, default=scene_seed, help="of the first shard")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile (needs a C++ compiler)")
    for k, v in defaults.items():
        parser.add_argument("--" + k.replace("_", "-"), type=type(v), help=f"default {v}")


def scenes(a):
    """Held-out pictures; their seeds must not be among those of the training shards (3000 to 4999)."""
    out, rng = Path(a.out), random.Random(a.seed)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "truths.jsonl", "w") as f:
        for i in range(a.count):
            scene = S.sample_scene(rng, words=a.words)
            picture, _ = S.render(scene, rng)
            asked = {}
            while len(asked) < 4:
                kind, question, answer = S.question(scene, rng)
                asked[question] = dict(kind=kind, question=question, answer=answer)
            jpeg = rng.random() < a.jpeg
            name = f"{i:03d}.{'jpg' if jpeg else 'png'}"
            picture.save(out / name, **(dict(quality=90) if jpeg else dict(optimize=True)))
            f.write(json.dumps(dict(file=name, scene=scene, caption=S.long_caption(scene),
                                    short=S.short_caption(scene), questions=list(asked.values()))) + "\n")


def main():
    ap = argparse.ArgumentParser(prog="tools.demo_model", description="train and measure the demo model")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--device", default="cpu", help="cpu or cuda")
    sub = ap.add_subparsers(required=True)
    b = sub.add_parser("build", help="from nothing to a checkpoint; goes on where it was interrupted")
    b.add_argument("work", help="folder for scenes (2.5 GB), tokenizer and training states")
    b.add_argument("out", help="checkpoint folder to write")
    b.add_argument("--begin", help="checkpoint folder whose tokenizer and weights to begin from instead")
    b.add_argument("--tower-steps", type=int, default=tower.DEFAULTS["steps"])
    b.add_argument("--tower-minutes", type=float, default=0.0, help="0: as many steps as --tower-steps says")
    training_options(b, 88, 3000, train.DEFAULTS)
    b.add_argument("--test-scenes", default="tests/data/scenes")
    b.set_defaults(run=build)
    c = sub.add_parser("continue", help="train an exported checkpoint further; goes on where it was interrupted")
    c.add_argument("checkpoint", help="checkpoint folder to begin from")
    c.add_argument("work", help="folder for scenes and the training state")
    c.add_argument("out", help="checkpoint folder to write, another one")
    c.add_argument("--heads", help="model.pt of the training that wrote the checkpoint; default: new heads, taught first")
    training_options(c, 40, 4000, train.DEFAULTS | train.CONTINUED)
    c.set_defaults(run=go_on)
    e = sub.add_parser("evaluate", help="accuracy of a checkpoint on scenes with truths")
    e.add_argument("checkpoint")
    e.add_argument("scenes", nargs="?", default="tests/data/scenes")
    e.add_argument("--limit", type=int)
    e.add_argument("--divide", type=int, nargs="*", default=[1], help="steps = 64 / D for each D")
    e.set_defaults(run=lambda a: evaluate.evaluate(a.checkpoint, a.scenes, a.limit, a.divide, a.device))
    s = sub.add_parser("scenes", help="write pictures with truths")
    s.add_argument("out")
    s.add_argument("count", type=int)
    s.add_argument("seed", type=int)
    s.add_argument("--words", type=float, default=0.0, help="share of scenes with a printed word")
    s.add_argument("--jpeg", type=float, default=.3, help="share of JPEG files")
    s.set_defaults(run=scenes)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    a.run(a)


if __name__ == "__main__":
    main()
