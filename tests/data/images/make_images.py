#!/usr/bin/env python3
"""Writes the pictures of this folder and images.json: what Pillow 11 makes of them.

The tiling below is written from the reference specification (sections 5.2 and 5.3), so that the pictures on which the
official program fails (pad and square with a side of 1 or 3) have an expectation too. The format of images.json is that
of the golden data.

ycck.jpg is not made here: Pillow cannot write it. It was written with libjpeg, jpeg_set_colorspace(JCS_YCCK), 2x2 luma.
"""
import hashlib
import io
import json
import math
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent
RANDOM = np.random.default_rng(20)

G56 = [[56 * i, 56 * j] for i in (1, 2, 3) for j in (1, 2, 3)]
IRREGULAR84 = [[84, 168], [168, 84], [168, 168], [252, 84], [84, 252], [252, 168]]
VARIANTS = {
    "g56": ("anyres_max_4", 56, G56),
    "irr84": ("anyres_max_2", 84, IRREGULAR84),
    "pad56": ("pad", 56, None),
    "square56": ("square", 56, None),
    "g384": ("anyres_max_4", 384, "(1x1),...,(6x6)"),
}


def scene(width, height):
    """Smooth colours, edges and some noise: what resampling and chroma upsampling react to."""
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 100 * np.sin(x / 7.0) + 20 * np.cos(y / 3.0)
    green = 255 * ((x // 9 + y // 6) % 2)
    blue = 255 * y / max(height - 1, 1)
    rgb = np.stack([red, green, blue], axis=2) + RANDOM.normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, samples, depth, colour, interlaced=False, extra=b""):
    """A PNG that Pillow does not write itself: 16-bit colour, Adam7. samples [height, width, channels]."""
    height, width, _ = samples.shape
    kind = ">u2" if depth == 16 else "u1"
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, step_x, step_y in passes:
        part = samples[y::step_y, x::step_x]
        if part.size:
            raw += b"".join(b"\0" + row.astype(kind).tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (HERE / name).write_bytes(data)


def riff_chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def le24(number):
    return struct.pack("<I", number)[:3]


def animated_webp(name):
    """Two frames, the first smaller than the canvas and transparent in places."""
    image = scene(30, 20).convert("RGBA")
    image.putalpha(Image.fromarray(RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)))
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, exact=True)
    frame = file.getvalue()[12:]
    if frame[:4] == b"VP8X":
        frame = frame[18:]
    frame = le24(4) + le24(3) + le24(29) + le24(19) + le24(100) + b"\0" + frame
    body = b"WEBP" + riff_chunk(b"VP8X", b"\x12\0\0\0" + le24(63) + le24(49))
    body += riff_chunk(b"ANIM", b"\xff\x80\x40\xff\0\0") + 2 * riff_chunk(b"ANMF", frame)
    (HERE / name).write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def make_files():
    picture = scene(97, 61)
    alpha = Image.fromarray(RANDOM.integers(0, 256, (61, 97), dtype=np.uint8))
    with_alpha = picture.convert("RGBA")
    with_alpha.putalpha(alpha)
    palette = picture.quantize(23)
    exif = Image.Exif()

    picture.save(HERE / "rgb.png")
    with_alpha.crop((0, 0, 40, 30)).save(HERE / "rgba.png")
    with_alpha.crop((0, 0, 40, 30)).convert("LA").save(HERE / "la.png")
    picture.convert("L").crop((0, 0, 50, 33)).save(HERE / "grey.png")
    picture.convert("1").save(HERE / "bilevel.png")
    palette.save(HERE / "palette.png", transparency=bytes(range(0, 230, 10)))
    palette.quantize(4).save(HERE / "palette2.png", bits=2)
    levels = RANDOM.integers(0, 500, (17, 22, 1))
    png("grey16.png", levels, 16, 0)
    png("rgb16_interlaced.png", RANDOM.integers(0, 65536, (19, 13, 3)), 16, 2, interlaced=True)
    png("grey_profile.png", levels // 2, 8, 0, extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(9000))))
    scene(1, 1).save(HERE / "one.png")
    scene(3, 2).save(HERE / "tiny3x2.png")
    scene(2, 3).save(HERE / "tiny2x3.png")
    scene(200, 1).save(HERE / "thin_h1.png")
    scene(1, 200).save(HERE / "thin_w1.png")
    frames = [scene(40, 28) for _ in range(2)]
    frames[0].save(HERE / "apng.png", save_all=True, append_images=frames[1:])
    picture.save(HERE / "420.jpg", quality=80, subsampling=2)
    picture.save(HERE / "422_restart.jpg", quality=80, subsampling=1, restart_marker_blocks=3)
    scene(53, 120).save(HERE / "444_progressive.jpg", quality=85, subsampling=0, progressive=True)
    picture.convert("L").save(HERE / "grey.jpg", quality=70)
    picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=75)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        scene(21, 13).save(HERE / f"exif{orientation}.jpg", exif=exif, quality=90)
    exif[0x0112] = 6
    scene(21, 13).save(HERE / "exif6.png", exif=exif)
    scene(21, 13).save(HERE / "exif6.webp", exif=exif, quality=50)
    picture.save(HERE / "lossy.webp", quality=60)
    with_alpha.save(HERE / "alpha.webp", quality=40, alpha_quality=50)
    with_alpha.crop((0, 0, 40, 30)).save(HERE / "lossless.webp", lossless=True, exact=True)
    animated_webp("animated.webp")


def pairs(pinpoints, tile):
    if isinstance(pinpoints, str):
        return [[tile * i, tile * j] for i in range(1, 7) for j in range(1, 7)]
    return pinpoints


def best_resolution(width, height, points):
    best, best_effective, best_waste = None, 0, math.inf
    for w, h in points:
        s = min(w / width, h / height)
        effective = min(int(width * s) * int(height * s), width * height)
        waste = w * h - effective
        if effective > best_effective or (effective == best_effective and waste < best_waste):
            best, best_effective, best_waste = (w, h), effective, waste
    return best


def tiles_of(image, aspect, tile, pinpoints):
    width, height = image.size
    if aspect == "square":
        return [image.resize((tile, tile), Image.BICUBIC)], {}
    if aspect == "pad":
        side = max(width, height)
        canvas = Image.new("RGB", (side, side), (127, 127, 127))
        canvas.paste(image, ((side - width) // 2, (side - height) // 2))
        return [canvas.resize((tile, tile), Image.BICUBIC)], {}
    w, h = best_resolution(width, height, pairs(pinpoints, tile))
    sw, sh = w / width, h / height
    new = (w, min(math.ceil(height * sw), h)) if sw < sh else (min(math.ceil(width * sh), w), h)
    canvas = Image.new("RGB", (w, h))
    canvas.paste(image.resize(new, Image.BICUBIC), ((w - new[0]) // 2, (h - new[1]) // 2))
    tiles = [image.resize((tile, tile), Image.BICUBIC)]
    for y in range(0, h, tile):
        for x in range(0, w, tile):
            tiles.append(canvas.crop((x, y, x + tile, y + tile)))
    return tiles, {"grid_w": w // tile, "grid_h": h // tile}


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def describe(path):
    image = Image.open(path)
    entry = {"file": path.name, "mode": image.mode, "width": image.width, "height": image.height, "variants": {}}
    rgb = image.convert("RGB")
    for name, (aspect, tile, pinpoints) in VARIANTS.items():
        tiles, grid = tiles_of(rgb, aspect, tile, pinpoints)
        stack = np.stack([np.asarray(t) for t in tiles])
        floats = ((stack * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)
        variant = {"aspect": aspect, "tile": tile, "tiles": len(tiles), **grid}
        if pinpoints is not None:
            variant["pinpoints"] = pinpoints
        variant["tiles_u8_sha256"] = sha256(stack)
        variant["pixels_f32_sha256"] = sha256(floats.transpose(0, 3, 1, 2))
        entry["variants"][name] = variant
    entry["rgb_sha256"] = sha256(np.asarray(rgb))
    return entry


if __name__ == "__main__":
    assert PIL.__version__.startswith("11."), "the reference is Pillow 11"
    make_files()
    files = sorted(p for p in HERE.iterdir() if p.suffix in (".jpg", ".png", ".webp"))
    text = ",\n".join(json.dumps(describe(p)) for p in files)
    (HERE / "images.json").write_text(f"[\n{text}\n]\n")
