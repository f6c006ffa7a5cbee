"""Pictures: decoding, choosing a grid, cutting into tiles, and which rows of the grid survive afterwards."""
import math

import numpy as np
from PIL import Image


def open_rgb(path):
    """Stored orientation (EXIF is ignored); transparency is dropped."""
    with Image.open(path) as im:
        return im.convert("RGB")


def best_resolution(w, h, pinpoints):
    """The grid size that keeps most of the picture's pixels, then wastes least; the first of equals."""
    best, best_eff, best_waste = None, 0, math.inf
    for pw, ph in pinpoints:
        s = min(pw / w, ph / h)
        eff = min(int(w * s) * int(h * s), w * h)
        waste = pw * ph - eff
        if eff > best_eff or (eff == best_eff and waste < best_waste):
            best, best_eff, best_waste = (pw, ph), eff, waste
    return best


def paste_box(w, h, pw, ph):
    """Where the resized picture lies on its canvas: x0, y0, x1, y1"""
    sw, sh = pw / w, ph / h
    nw, nh = (pw, min(math.ceil(h * sw), ph)) if sw < sh else (min(math.ceil(w * sh), pw), ph)
    x, y = (pw - nw) // 2, (ph - nh) // 2
    return x, y, x + nw, y + nh


def resize(im, w, h):
    return im.resize((w, h), Image.BICUBIC)


def anyres(im, tile, pinpoints):
    """-> u8 [1 + n, tile, tile, 3]: the whole picture squeezed into one tile, then the grid by rows"""
    pw, ph = best_resolution(*im.size, pinpoints)
    x0, y0, x1, y1 = paste_box(*im.size, pw, ph)
    canvas = Image.new("RGB", (pw, ph))
    canvas.paste(resize(im, x1 - x0, y1 - y0), (x0, y0))
    grid = np.asarray(canvas).reshape(ph // tile, tile, pw // tile, tile, 3).swapaxes(1, 2)
    return np.concatenate([np.asarray(resize(im, tile, tile))[None], grid.reshape(-1, tile, tile, 3)])


def pad(im, tile):
    """One tile: centred on a grey square, then resized"""
    w, h = im.size
    side = max(w, h)
    canvas = Image.new("RGB", (side, side), (127, 127, 127))
    canvas.paste(im, ((side - w) // 2, (side - h) // 2))
    return np.asarray(resize(canvas, tile, tile))[None]


def square(im, tile):
    """One tile: resized without keeping the aspect ratio"""
    return np.asarray(resize(im, tile, tile))[None]


def tiles(im, aspect, tile, pinpoints):
    if aspect.startswith("anyres"):
        return anyres(im, tile, pinpoints)
    return pad(im, tile) if aspect == "pad" else square(im, tile)


def normalise(tiles_u8):
    """u8 [N, S, S, 3] -> float32 [N, 3, S, S] in -1..1"""
    x = (tiles_u8.astype(np.float64) * (1 / 255)).astype(np.float32)
    return ((x - np.float32(0.5)) / np.float32(0.5)).transpose(0, 3, 1, 2)


def unpad(w, h, map_w, map_h):
    """The part of a [map_h, map_w] feature map that shows the picture: y0, y1, x0, x1"""
    if w / h > map_w / map_h:
        p = (map_h - int(h * (map_w / w))) // 2
        return p, map_h - p, 0, map_w
    p = (map_w - int(w * (map_h / h))) // 2
    return 0, map_h, p, map_w - p


def shrink(map_w, map_h, tiles_max, side):
    """anyres_max_N: -> (out_w, out_h, times); unchanged while at most 1.1 times too large"""
    times = math.sqrt(map_h * map_w / (tiles_max * side * side))
    if times > 1.1:
        return int(map_w // times), int(map_h // times), times
    return map_w, map_h, times


def bilinear(x, oh, ow):
    """[H, W, C] -> [oh, ow, C], pixel centres aligned, no antialiasing, in float32"""
    def axis(n, out):
        # rounded once, as the fused multiply-add of the official run does: in float64 the product is exact
        at = ((np.arange(out) + .5) * np.float64(np.float32(n / out)) - .5).astype(np.float32).clip(min=0)
        lo = at.astype(int)
        return lo, np.minimum(lo + 1, n - 1), (at - lo).astype(np.float32)[:, None]

    y0, y1, fy = axis(x.shape[0], oh)
    x0, x1, fx = axis(x.shape[1], ow)
    rows = [x[y][:, x0] * (1 - fx) + x[y][:, x1] * fx for y in (y0, y1)]
    return rows[0] * (1 - fy[:, None]) + rows[1] * fy[:, None]
