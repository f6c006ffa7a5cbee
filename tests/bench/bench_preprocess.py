#!/usr/bin/env python3
"""Decode and anyres preprocess of a 12-megapixel JPEG: bench-preprocess against Pillow + NumPy, turn by turn.

    tests/bench/bench_preprocess.py build/release/bin/bench-preprocess [--rounds 15]

Prints one JSON object; `ratio` is ours over Pillow's, medians of the rounds. Both use one thread. The tiles of the two are
compared, so a fast wrong answer is an error.
"""
import argparse
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import PIL
from PIL import Image, features

TILE = 384


def synthetic_jpeg(width=4000, height=3000):
    """Like a photograph to a decoder: smooth areas, edges, and noise that leaves some work in every block."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = 128 + 60 * np.sin(x / 190) * np.cos(y / 130) + 40 * ((x // 257 + y // 191) % 2)
    rgb = np.stack([base, base * 0.8 + 20 * np.sin(y / 60), 255 - base], axis=2)
    rgb += rng.normal(0, 6, rgb.shape).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


def best_resolution(width, height):
    best, best_effective, best_waste = None, 0, math.inf
    for w in range(TILE, 7 * TILE, TILE):
        for h in range(TILE, 7 * TILE, TILE):
            s = min(w / width, h / height)
            effective = min(int(width * s) * int(height * s), width * height)
            waste = w * h - effective
            if effective > best_effective or (effective == best_effective and waste < best_waste):
                best, best_effective, best_waste = (w, h), effective, waste
    return best


def with_pillow(data):
    """What the official program does, written without waste: one NumPy pass over the stacked tiles."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    w, h = best_resolution(width, height)
    sw, sh = w / width, h / height
    new = (w, min(math.ceil(height * sw), h)) if sw < sh else (min(math.ceil(width * sh), w), h)
    canvas = Image.new("RGB", (w, h))
    canvas.paste(image.resize(new, Image.BICUBIC), ((w - new[0]) // 2, (h - new[1]) // 2))
    grid = np.asarray(canvas).reshape(h // TILE, TILE, w // TILE, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    base = np.asarray(image.resize((TILE, TILE), Image.BICUBIC))
    tiles = np.concatenate([base[None], grid])
    # Same floats as the reference: 256 of them, looked up, after the transpose because bytes are cheaper to move.
    table = ((np.arange(256) * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)
    return tiles, table[np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))]


def sum_of(tiles):
    """The polynomial sum that bench-preprocess prints, modulo 2^64."""
    values = tiles.reshape(-1)
    powers = np.array([pow(31, i, 1 << 64) for i in range(4096)], np.uint64)
    total = 0
    for begin in range(0, len(values), len(powers)):
        part = values[begin : begin + len(powers)].astype(np.uint64)
        step = pow(31, len(part), 1 << 64)
        total = (total * step + int((part * powers[: len(part)][::-1]).sum(dtype=np.uint64))) % (1 << 64)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    data = synthetic_jpeg()
    ours, stages, pillow = [], [], []
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        process = subprocess.Popen([arguments.program, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for turn in range(arguments.rounds + 1):
            process.stdin.write("\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            begin = time.perf_counter()
            tiles, _ = with_pillow(data)
            elapsed = (time.perf_counter() - begin) * 1e3
            if turn == 0:  # warms both up, and is where the answers are compared
                if sum_of(tiles) != answer["sum"]:
                    sys.exit("the tiles differ from Pillow's")
                continue
            ours.append(answer["total_ms"])
            stages.append(answer)
            pillow.append(elapsed)
        process.stdin.close()
        process.wait()
    median = statistics.median
    print(json.dumps({
        "what": "decode + anyres preprocess of a 4000x3000 JPEG, one thread",
        "jpeg_bytes": len(data),
        "rounds": arguments.rounds,
        "ratio": round(median(ours) / median(pillow), 3),
        "ours_ms": round(median(ours), 1),
        "ours_ms_range": [round(min(ours), 1), round(max(ours), 1)],
        "pillow_ms": round(median(pillow), 1),
        "pillow_ms_range": [round(min(pillow), 1), round(max(pillow), 1)],
        "stages_ms": {name: round(median(s[name + "_ms"] for s in stages), 1) for name in ("decode", "tiles", "normalize")},
        "tiles": stages[0]["tiles"],
        "pillow": PIL.__version__,
        "pillow_libjpeg_turbo": features.version("libjpeg_turbo"),
    }))


if __name__ == "__main__":
    main()
