"""Drawn scenes on disk and in memory, as batches of pictures of one canvas size."""
import itertools
import random

import torch

from . import scenes as S
from . import tiles

RELATIONS = ["left of", "right of", "above", "below"]
UNKNOWN = -1  # nothing to be learnt there


def draw(directory, shards, per_shard, seed=1000):
    """Write the shards that are missing."""
    directory.mkdir(parents=True, exist_ok=True)
    for k in range(seed, seed + shards):
        path = directory / f"shard-{k:05d}.pt"
        if not path.exists():
            part = path.with_suffix(".part")
            torch.save(tiles.draw_shard(k, per_shard), part)
            part.rename(path)


class Shard:
    """Scenes of one canvas size, with their truths as tensors."""

    def __init__(self, d):
        self.tiles, self.patch, self.scenes = d["tiles"], d["patch"].long(), d["scenes"]
        self.size = tuple(self.scenes[0]["size"])
        n, most = len(self.scenes), 4
        colours, backgrounds = list(S.COLOURS), list(S.BACKGROUNDS)
        self.attribute = torch.zeros(n, most, 3, dtype=torch.long)  # shape, colour, size of each object
        self.centre = torch.zeros(n, most, 2)  # 0..1
        self.count = torch.tensor([len(s["objects"]) - 1 for s in self.scenes])
        self.next = torch.full((n, most, 2), len(RELATIONS))  # to the next object and to the previous; or none
        self.to_number = torch.full((n, most, most), UNKNOWN)  # how an object lies to the one of each number
        self.to_colour = torch.full((n, most, len(colours)), UNKNOWN)  # and to the only other one of each colour
        self.alike = torch.zeros(n, most, 2, dtype=torch.long)  # how many others have the same shape, the same colour
        self.background = torch.tensor([backgrounds.index(s["background"]) for s in self.scenes])
        for i, s in enumerate(self.scenes):
            for j, o in enumerate(s["objects"]):
                self.attribute[i, j] = torch.tensor([S.ALL_SHAPES.index(o["shape"]), colours.index(o["colour"]),
                                                     int(o["size"] == "large")])
                self.centre[i, j] = torch.tensor([o["x"] / s["size"][0], o["y"] / s["size"][1]])
                self._relate(i, j, o, s)

    def _relate(self, i, j, o, scene):
        others = [(k, x) for k, x in enumerate(scene["objects"]) if k != j]
        for side, key in enumerate(("shape", "colour")):
            self.alike[i, j, side] = sum(x[key] == o[key] for _, x in others)
        for k, x in others:
            if not S.clear(o, x, scene["size"]):
                continue
            r = RELATIONS.index(S.relation(o, x))
            self.to_number[i, j, k] = r
            if sum(y["colour"] == x["colour"] for _, y in others) == 1:
                self.to_colour[i, j, list(S.COLOURS).index(x["colour"])] = r
            if abs(k - j) == 1:
                self.next[i, j, int(k < j)] = r


def load(directory):
    return [Shard(torch.load(f, weights_only=False)) for f in sorted(directory.glob("shard-*.pt"))]


def batches(shards, size, seed, start=0):
    """Endless (shard, row numbers) from batch number `start` on; every scene once per round."""
    if not any(len(s.scenes) >= size for s in shards):
        raise SystemExit(f"no shard holds the {size} scenes of one batch: draw larger ones (--per-shard)")

    def rounds():
        rng = random.Random(seed)
        while True:
            todo = []
            for s in shards:
                order = list(range(len(s.scenes)))
                rng.shuffle(order)
                todo += [(s, order[i:i + size]) for i in range(0, len(order) - size + 1, size)]
            rng.shuffle(todo)
            yield from todo
    return itertools.islice(rounds(), start, None)
