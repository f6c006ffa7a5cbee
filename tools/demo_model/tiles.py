"""Scenes as what the network eats: tiles, and for every 14x14 patch the number of the object on it."""
import random

import numpy as np
import torch
from PIL import Image

from tools.reference import images

from . import scenes as S

TILE, PATCH = 84, 14
WORDS = .12  # share of training scenes with a printed word
PINPOINTS = [(84, 84), (84, 168), (168, 84), (168, 168)]


def label_tiles(labels):
    """The tiling of images.anyres for an 'L' picture of object numbers, which must not be blended"""
    pw, ph = images.best_resolution(*labels.size, PINPOINTS)
    x0, y0, x1, y1 = images.paste_box(*labels.size, pw, ph)
    canvas = Image.new("L", (pw, ph))
    canvas.paste(labels.resize((x1 - x0, y1 - y0), Image.NEAREST), (x0, y0))
    grid = np.asarray(canvas).reshape(ph // TILE, TILE, pw // TILE, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)
    return np.concatenate([np.asarray(labels.resize((TILE, TILE), Image.NEAREST))[None], grid])


def patch_owner(labels):
    """[N, TILE, TILE] -> i8 [N, patches]: the object (from 0) that covers most of a patch, at least 12 %; or -1"""
    n, g = len(labels), TILE // PATCH
    p = labels.reshape(n, g, PATCH, g, PATCH).transpose(0, 1, 3, 2, 4).reshape(n, g * g, PATCH * PATCH)
    cover = np.stack([(p == k + 1).sum(-1) for k in range(4)], -1)
    return np.where(cover.max(-1) >= 24, cover.argmax(-1), -1).astype(np.int8)


def kept_map(w, h):
    """-> grid w, grid h, and the part y0, y1, x0, x1 of the feature map that shows a w x h picture"""
    pw, ph = images.best_resolution(w, h, PINPOINTS)
    gw, gh, side = pw // TILE, ph // TILE, TILE // PATCH
    return gw, gh, *images.unpad(w, h, gw * side, gh * side)


def draw_shard(seed, count, canvas=None):
    """-> dict: tiles u8 [N, T, S, S, 3], patch i8 [N, T, 36], scenes. One canvas size, so one number of tiles"""
    rng = random.Random(seed)
    canvas = canvas or rng.choices(S.CANVASES, S.CANVAS_WEIGHTS)[0]
    tiles, patch, scenes = [], [], []
    for _ in range(count):
        scene = S.sample_scene(rng, canvas, words=WORDS)
        picture, labels = S.render(scene, rng)
        tiles.append(images.anyres(picture, TILE, PINPOINTS))
        patch.append(patch_owner(label_tiles(labels)))
        scenes.append(scene)
    return dict(tiles=torch.from_numpy(np.stack(tiles)), patch=torch.from_numpy(np.stack(patch)), scenes=scenes)
