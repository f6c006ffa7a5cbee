"""The published denoising loop in plain PyTorch, as it stands: every step runs all rows, gives logits of all rows, and
takes the float64 softmax of all of them.

The model of baseline_forward.py, random rows for a prompt of a picture and some text, an answer of 64 tokens in one
block. Only the first `--forwards` steps are run, for they all cost the same; the rest is multiplication. Prints one
JSON line per dtype; with --on-request one for each line on stdin, so that a driver can measure something else between.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import baseline_forward as base

ANSWER, MASK, SUPPRESSED = 64, 126336, [126081, 126080, 126346, 126347]


@torch.inference_mode()
def steps(model, prompt_rows, forwards):
    """-> seconds in the model and seconds in all, per step"""
    mask = model.embedding[MASK]
    rows = torch.cat([torch.randn(prompt_rows, base.WIDTH).to(model.dtype), mask.expand(ANSWER, base.WIDTH)])
    in_model, in_all = [], []
    for _ in range(forwards):
        start = time.perf_counter()
        masked = ((rows - mask).abs() < 1e-5).all(-1)
        logits = model.forward(rows)
        in_model.append(time.perf_counter() - start)
        logits[masked.nonzero(), SUPPRESSED] = -torch.inf
        tokens = logits.argmax(-1)
        conf = F.softmax(logits.double(), -1).gather(-1, tokens[:, None])[:, 0]
        conf[~masked] = -torch.inf
        conf[:prompt_rows] = -torch.inf
        best = conf.topk(1).indices
        rows[best] = model.embedding[tokens[best]]
        in_all.append(time.perf_counter() - start)
    return in_model, in_all


def report(model, a, dtype):
    in_model, in_all = (round(statistics.mean(s), 4) for s in steps(model, a.prompt_rows, a.forwards))
    print(json.dumps({"dtype": dtype, "threads": a.threads, "rows": a.prompt_rows + ANSWER,
                      "seconds_per_forward": in_all, "seconds_in_model": in_model,
                      "seconds_for_64_tokens": round(ANSWER * in_all, 1), "forwards": a.forwards,
                      "torch": torch.__version__}), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--dtype", choices=base.DTYPES, action="append", help="may be repeated; default: both")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--forwards", type=int, default=3)
    ap.add_argument("--prompt-rows", type=int, default=810)
    ap.add_argument("--on-request", action="store_true", help="measure once for each line on stdin")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    for dtype in a.dtype or base.DTYPES:
        model = base.Model(base.DTYPES[dtype], embeddings=True)
        steps(model, a.prompt_rows, 1)  # warms up
        for _ in sys.stdin if a.on_request else range(1):
            report(model, a, dtype)


if __name__ == "__main__":
    main()
