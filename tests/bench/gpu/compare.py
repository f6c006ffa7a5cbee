"""The rows of bench-gpu beside the same work in plain PyTorch (SDPA, no compilation), in one run on one GPU.

    compare.py BIN/bench-gpu [--dtype bf16|f16] [--runs N] [--out FILE] [-- ARGS of bench-gpu]

Prints a table (ours, PyTorch's, their ratio, our share of the limit) and writes everything as JSON lines, each row as soon
as it is measured. $RMK_LIBRARY_PATH: where bench-gpu alone finds CUDA's libraries. Needs PyTorch with CUDA; with --small it
runs anywhere, to see that it runs. Both sides have random weights, two sets of layers in turn,
and read the head as the worker does: the best id and the log-sum-exp of the rows that are read.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

FULL = dict(layers=32, width=4096, heads=32, ff=12288, vocab=126464, keys=3039, queries=32, reads=64, block=64, steps=64,
            block_steps=20, tower_layers=26, tower_width=1152, tower_heads=16, tower_ff=4304, tile_rows=729, tiles=5)
SMALL = dict(layers=2, width=64, heads=2, ff=96, vocab=500, keys=70, queries=4, reads=8, block=8, steps=2, block_steps=2,
             tower_layers=2, tower_width=72, tower_heads=1, tower_ff=80, tile_rows=9, tiles=2)
SETS, REQUESTS, CAPTION_RUNS_MAX = 2, 16, 3


class Layer:
    def __init__(self, make, width, up, down, bias):
        self.q, self.k, self.v, self.out = (make(width, width, bias) for _ in range(4))
        self.up, self.down = make(up, width, bias), make(width, down, bias)


class Model:
    def __init__(self, size, device, dtype):
        self.size, self.device, self.dtype = size, device, dtype
        generator = torch.Generator(device=device).manual_seed(1)

        def make(n, k, bias):
            weight = torch.empty(n, k, device=device, dtype=dtype).normal_(0, 0.02, generator=generator)
            return weight, torch.zeros(n, device=device, dtype=dtype) if bias else None

        s = argparse.Namespace(**size)
        self.s = s
        self.text = [Layer(make, s.width, 2 * s.ff, s.ff, False) for _ in range(SETS)]
        self.tower = [Layer(make, s.tower_width, s.tower_ff, s.tower_ff, True) for _ in range(SETS)]
        self.projector = [make(s.width, s.tower_width, True), make(s.width, s.width, True)]
        self.head = make(s.vocab, s.width, False)[0]
        self.ones = {w: torch.ones(w, device=device, dtype=dtype) for w in (s.width, s.tower_width)}
        half = s.width // s.heads // 2
        angles = torch.arange(s.keys, device=device)[:, None] * torch.logspace(0, -4, half, device=device)[None]
        self.cos, self.sin = (torch.cat([f(angles)] * 2, -1).to(dtype) for f in (torch.cos, torch.sin))
        shape = (REQUESTS, s.heads, s.keys, s.width // s.heads)
        self.caches = [[torch.zeros(shape, device=device, dtype=dtype) for _ in range(2)] for _ in range(SETS)]
        self.x = torch.randn(REQUESTS * s.block + s.keys + s.tiles * s.tile_rows, max(s.width, s.tower_width),
                             device=device, dtype=torch.float32)

    def rotate(self, x, begin):
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        rows = slice(begin, begin + x.shape[-2])
        return x * self.cos[rows] + turned * self.sin[rows]

    def forward(self, requests, queries, reads):
        s = self.s
        begin = s.keys - queries
        x = self.x[:requests * queries, :s.width].view(requests, queries, s.width).to(self.dtype)

        def heads(y):
            return y.view(requests, queries, s.heads, -1).transpose(1, 2)

        for i in range(s.layers):
            layer, (keys, values) = self.text[i % SETS], self.caches[i % SETS]
            n = F.rms_norm(x, (s.width,), self.ones[s.width], 1e-5)
            q, k, v = (heads(F.linear(n, *w)) for w in (layer.q, layer.k, layer.v))
            keys[:requests, :, begin:] = self.rotate(k, begin)
            values[:requests, :, begin:] = v
            a = F.scaled_dot_product_attention(self.rotate(q, begin), keys[:requests], values[:requests])
            x = x + F.linear(a.transpose(1, 2).reshape(requests, queries, s.width), *layer.out)
            n = F.rms_norm(x, (s.width,), self.ones[s.width], 1e-5)
            gate, up = F.linear(n, *layer.up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, *layer.down)
        logits = F.linear(x.reshape(-1, s.width)[:reads], self.head).float()
        return logits.argmax(-1).cpu(), logits.logsumexp(-1).cpu()

    def cached(self):
        s = self.s
        q = self.x[:REQUESTS * s.queries, :s.width].to(self.dtype).view(REQUESTS, s.queries, s.heads, -1).transpose(1, 2)
        for i in range(s.layers):
            F.scaled_dot_product_attention(q, *self.caches[i % SETS])

    def eyes(self):
        s, w = self.s, self.s.tower_width
        x = self.x[:s.tiles * s.tile_rows, :w].view(s.tiles, s.tile_rows, w).to(self.dtype)
        ones, zeros = self.ones[w], torch.zeros_like(self.ones[w])
        for i in range(s.tower_layers):
            layer = self.tower[i % SETS]
            n = F.layer_norm(x, (w,), ones, zeros, 1e-6)
            q, k, v = (F.linear(n, *p).view(s.tiles, s.tile_rows, s.tower_heads, -1).transpose(1, 2)
                       for p in (layer.q, layer.k, layer.v))
            x = x + F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape), *layer.out)
            n = F.layer_norm(x, (w,), ones, zeros, 1e-6)
            x = x + F.linear(F.gelu(F.linear(n, *layer.up), approximate="tanh"), *layer.down)
        return F.linear(F.gelu(F.linear(x, *self.projector[0])), *self.projector[1])

    def rows(self):
        s = self.s

        def official():
            self.eyes()
            for _ in range(s.steps):
                self.forward(1, s.keys, s.reads)

        def blk64():
            for _ in range(REQUESTS):
                self.eyes()
                self.forward(1, s.keys, s.reads)
            for _ in range(s.block_steps):
                self.forward(REQUESTS, s.block, REQUESTS * s.block)

        return {"full": lambda: self.forward(1, s.keys, s.reads), "block1": lambda: self.forward(1, s.queries, s.queries),
                "block16": lambda: self.forward(REQUESTS, s.queries, REQUESTS * s.queries), "cached": self.cached,
                "tower": self.eyes, "official": official, "blk64": blk64}


def median_ms(run, runs, device):
    times = []
    for i in range(runs + 1):
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        if i > 0:  # the first warms up
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def save(table, path):
    if path:
        with open(path, "w") as file:
            for row in table.values():
                print(json.dumps(row), file=file)


def ours(program, dtype, runs, arguments, path):
    command = [program, "--dtype", dtype, "--runs", str(runs), *arguments]
    environment = dict(os.environ)
    if "RMK_LIBRARY_PATH" in environment:
        environment["LD_LIBRARY_PATH"] = environment["RMK_LIBRARY_PATH"]
    table = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        for line in running.stdout:
            print(line, end="", flush=True)
            row = json.loads(line)
            table[row["row"]] = row
            save(table, path)
    if running.returncode != 0:
        sys.exit(f"compare.py: {program} ended with {running.returncode}")
    return table


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("program")
    ap.add_argument("--dtype", choices=["bf16", "f16"], default="bf16")
    ap.add_argument("--runs", type=int, default=10)
    ap.add_argument("--only")
    ap.add_argument("--small", action="store_true")
    ap.add_argument("--out")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    a = ap.parse_args(sys.argv[1:at])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not a.small:
        sys.exit("compare.py: PyTorch sees no GPU")
    extra = sys.argv[at + 1:] + (["--small"] if a.small else []) + (["--only", a.only] if a.only else [])
    table = ours(a.program, a.dtype, a.runs, extra, a.out)  # its memory is free again when it has ended
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    print(f"{table['machine']['device']}; PyTorch {torch.__version__} on {name}, {a.dtype}")
    print(f"{'row':<10} {'id':<3} {'ours ms':>10} {'torch ms':>10} {'ratio':>6} {'limit ms':>9} {'share':>6}")
    with torch.inference_mode():
        model = Model(SMALL if a.small else FULL, device, torch.bfloat16 if a.dtype == "bf16" else torch.float16)
        for row, run in model.rows().items():
            if row not in table:
                continue
            mine = table[row]
            mine["torch_ms_median"] = median_ms(run, min(a.runs, CAPTION_RUNS_MAX) if "pictures_per_s" in mine else a.runs,
                                                device)
            mine["torch_ratio"] = round(mine["torch_ms_median"] / mine["ms_median"], 3)
            print(f"{row:<10} {mine['id']:<3} {mine['ms_median']:>10.3f} {mine['torch_ms_median']:>10.3f} "
                  f"{mine['torch_ratio']:>6.2f} {mine.get('limit_ms', float('nan')):>9.3f} "
                  f"{mine.get('share', float('nan')):>6.3f}", flush=True)
            save(table, a.out)


if __name__ == "__main__":
    main()
