"""python -m tools.reference generate|verify ..."""
import argparse
import json
import sys

from . import images, sampler, text, verify
from .model import Model


def generate(a):
    model = Model(a.model)
    pictures = [images.open_rgb(f) for f in a.image]
    how = "video" if a.video else a.image_mode or ("anyres" if len(pictures) == 1 else "pad_list")
    marks = " ".join(["<image>"] * (1 if a.video else len(pictures)))
    ids = model.text.prompt_ids(text.chat([("user", f"{marks}\n{a.prompt}" if pictures else a.prompt)]))
    rows = model.prompt_rows(ids, pictures, how)
    out = sampler.generate(model, rows, a.gen_length, a.block_length or a.gen_length, a.steps or a.gen_length,
                           a.temperature, a.cfg_scale, a.remasking, a.stop, a.suffix, a.seed)
    print(json.dumps({"text": out["text"], "ids": out["result_ids"], "finish_reason": out["finish_reason"],
                      "prompt_rows": out["prompt_rows"], "forwards": out["forwards"]}, ensure_ascii=False))
    return 0


def main():
    ap = argparse.ArgumentParser(prog="tools.reference", description="LLaDA-V in NumPy")
    sub = ap.add_subparsers(required=True)
    g = sub.add_parser("generate", help="answer one prompt, print ids and text as JSON")
    g.add_argument("--model", required=True, metavar="DIR")
    g.add_argument("--image", action="append", default=[], metavar="FILE", help="may be repeated")
    g.add_argument("--prompt", default="Please describe the image in detail.")
    g.add_argument("--image-mode", choices=["anyres", "pad_list", "pad_tensor", "square_list"])
    g.add_argument("--video", action="store_true", help="the pictures are the frames of one video")
    g.add_argument("--gen-length", type=int, default=64)
    g.add_argument("--block-length", type=int, help="default: gen-length")
    g.add_argument("--steps", type=int, help="default: gen-length")
    g.add_argument("--temperature", type=float, default=0.0)
    g.add_argument("--cfg-scale", type=float, default=0.0)
    g.add_argument("--remasking", choices=["low_confidence", "random"], default="low_confidence")
    g.add_argument("--seed", type=int, default=0)
    g.add_argument("--stop", action="append", help="default: <|eot_id|>")
    g.add_argument("--suffix")
    g.set_defaults(run=generate)
    v = sub.add_parser("verify", help="run every golden case below DIR and compare")
    v.add_argument("dir")
    v.add_argument("--only", default="", help="cases whose name contains this")
    v.set_defaults(run=lambda a: verify.verify(a.dir, a.only))
    a = ap.parse_args()
    if "stop" in a and a.stop is None:
        a.stop = ["<|eot_id|>"]
    return a.run(a)


if __name__ == "__main__":
    sys.exit(main())
