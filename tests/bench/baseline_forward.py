"""Plain PyTorch doing the work of `bench-forward`: the denominator of our speed claims.

A random model of width 1024 (8 layers, 16 heads, ff 4096, vocabulary 126,464), one forward over 1,000 rows,
logits of 128 of them, the weights as PyTorch holds them. Prints one JSON line per dtype.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

WIDTH, LAYERS, HEADS, FF, VOCAB = 1024, 8, 16, 4096, 126464
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def rms_norm(x, weight):
    h = x.float()
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-5)
    return h.to(x.dtype) * weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Model:
    def __init__(self, dtype, seed=1, embeddings=False):
        torch.manual_seed(seed)
        matrix = lambda rows, columns: (torch.randn(rows, columns) * columns ** -.5).to(dtype)
        self.layers = [dict(
            norm1=torch.ones(WIDTH, dtype=dtype), norm2=torch.ones(WIDTH, dtype=dtype),
            **{k: matrix(WIDTH, WIDTH) for k in ("q", "k", "v", "o")},
            gate=matrix(FF, WIDTH), up=matrix(FF, WIDTH), down=matrix(WIDTH, FF)) for _ in range(LAYERS)]
        self.norm, self.head, self.dtype = torch.ones(WIDTH, dtype=dtype), matrix(VOCAB, WIDTH), dtype
        self.embedding = torch.randn(VOCAB, WIDTH).to(dtype) if embeddings else None

    def forward(self, x, head_rows=None):
        """x [L, d] -> float32 logits of `head_rows` (a slice; None: of all)"""
        dim = WIDTH // HEADS
        inv = 500000.0 ** -(torch.arange(0, dim, 2) / dim)
        angle = torch.arange(len(x), dtype=torch.float32)[:, None] * inv
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        split = lambda t: t.view(1, len(x), HEADS, dim).transpose(1, 2)
        for w in self.layers:
            n = rms_norm(x, w["norm1"])
            q, k, v = (split(F.linear(n, w[p])) for p in "qkv")
            a = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
            x = x + F.linear(a.transpose(1, 2).reshape(len(x), WIDTH), w["o"])
            n = rms_norm(x, w["norm2"])
            x = x + F.linear(F.silu(F.linear(n, w["gate"])) * F.linear(n, w["up"]), w["down"])
        x = x if head_rows is None else x[head_rows]
        return F.linear(rms_norm(x, self.norm), self.head).float()


@torch.inference_mode()
def measure(dtype, rows, head_rows, runs):
    model = Model(DTYPES[dtype])
    x = torch.randn(rows, WIDTH).to(DTYPES[dtype])
    seconds = []
    for i in range(runs + 1):
        start = time.perf_counter()
        model.forward(x, slice(rows - head_rows, rows))
        if i:  # the first one warms up
            seconds.append(time.perf_counter() - start)
    return seconds


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--dtype", choices=DTYPES, action="append", help="may be repeated; default: both")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--runs", type=int, default=5)
    ap.add_argument("--rows", type=int, default=1000)
    ap.add_argument("--head-rows", type=int, default=128)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    for dtype in a.dtype or DTYPES:
        s = measure(dtype, a.rows, a.head_rows, a.runs)
        print(json.dumps({"dtype": dtype, "threads": a.threads, "seconds": round(statistics.median(s), 4),
                          "seconds_min": round(min(s), 4), "runs": a.runs, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
