"""The published denoising loop in plain PyTorch, as it stands: every step runs all rows, gives logits of all rows, and
takes the float64 softmax of all of them.

The model of baseline_forward.py, a prompt of 750 picture rows and 60 text rows (random), an answer of 64 tokens in
one block. Only the first `--forwards` steps are run, for they all cost the same. Prints one JSON line per dtype.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

import baseline_forward as base

PICTURE_ROWS, TEXT_ROWS, ANSWER, MASK, SUPPRESSED = 750, 60, 64, 126336, [126081, 126080, 126346, 126347]


@torch.inference_mode()
def steps(model, forwards):
    """-> seconds in the model and seconds in all, per step"""
    mask = model.embedding[MASK]
    rows = torch.cat([torch.randn(PICTURE_ROWS + TEXT_ROWS, base.WIDTH).to(model.dtype),
                      mask.expand(ANSWER, base.WIDTH)])
    lo, in_model, in_all = PICTURE_ROWS + TEXT_ROWS, [], []
    for _ in range(forwards):
        start = time.perf_counter()
        masked = ((rows - mask).abs() < 1e-5).all(-1)
        logits = model.forward(rows)
        in_model.append(time.perf_counter() - start)
        logits[masked.nonzero(), SUPPRESSED] = -torch.inf
        tokens = logits.argmax(-1)
        conf = F.softmax(logits.double(), -1).gather(-1, tokens[:, None])[:, 0]
        conf[~masked] = -torch.inf
        conf[:lo] = -torch.inf
        best = conf.topk(1).indices
        rows[best] = model.embedding[tokens[best]]
        in_all.append(time.perf_counter() - start)
    return in_model, in_all


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--dtype", choices=base.DTYPES, action="append", help="may be repeated; default: both")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--forwards", type=int, default=3)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    for dtype in a.dtype or base.DTYPES:
        in_model, in_all = steps(base.Model(base.DTYPES[dtype], embeddings=True), a.forwards + 1)
        middle = lambda s: round(statistics.median(s[1:]), 4)  # the first one warms up
        print(json.dumps({"dtype": dtype, "threads": a.threads, "rows": PICTURE_ROWS + TEXT_ROWS + ANSWER,
                          "seconds_per_forward": middle(in_all), "seconds_in_model": middle(in_model),
                          "seconds_for_64_tokens": round(ANSWER * middle(in_all), 1), "forwards": a.forwards,
                          "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
