"""Stage 1: teach the vision tower what is where; plays the part that web-scale pretraining plays for the real one.

Every 14x14 patch must tell shape and colour of the object on it and the background colour; in the whole-picture tile
also the object's size, the offset to its centre, its number from the left, how it lies to its neighbours in that
order, and the number of objects. The heads are thrown away afterwards. Dense labels take minutes where captions take
hours, and without the order heads stage 2 stays at guessing which of two objects a sentence is about.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import data, progress
from . import model as M
from . import scenes as S


class Heads(nn.Module):
    SIZES = dict(shape=len(S.ALL_SHAPES) + 1, colour=len(S.COLOURS) + 1, background=len(S.BACKGROUNDS), size=2,
                 offset=2, rank=4, next=4, previous=4, count=4)

    def __init__(self, d):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(d), nn.Linear(d, sum(self.SIZES.values()))

    def forward(self, features):
        parts = self.out(self.norm(features)).float().split(list(self.SIZES.values()), -1)
        return dict(zip(self.SIZES, parts))


def loss(heads, features, shard, rows, which):
    """features [B, k, 36, d]: tower rows of the whole-picture tile and of k - 1 grid tiles, numbered `which`
    -> loss, {name: share right in the whole-picture tile}"""
    device, own = features.device, shard.patch[rows][:, which]
    b, k, n = own.shape
    owner = own.clamp(min=0)
    take = lambda t: t[rows].gather(1, owner.view(b, -1, 1).expand(-1, -1, t.shape[-1])).view(b, k, n, -1).to(device)
    own, owner = own.to(device), owner.to(device)
    attribute, none, on = take(shard.attribute), own < 0, own >= 0
    base = on[:, 0]  # objects in the whole-picture tile, where the rest is asked
    beside, side = take(shard.beside)[:, 0], int(n ** .5)
    at = torch.arange(n, device=device)
    offset = take(shard.centre)[:, 0] - (torch.stack([at % side, at // side], -1) + .5) / side
    truth = dict(shape=torch.where(none, len(S.ALL_SHAPES), attribute[..., 0]),
                 colour=torch.where(none, len(S.COLOURS), attribute[..., 1]))
    whole = lambda t: t[rows].to(device).view(b, 1).expand(b, n)
    first = dict(size=attribute[:, 0, :, 2], rank=owner[:, 0], next=beside[..., 0], previous=beside[..., 1])

    said = heads(features)
    ce = lambda logits, target: F.cross_entropy(logits.flatten(0, -2), target.flatten())
    total = sum(ce(said[x], truth[x]) + w * ce(said[x][on], truth[x][on]) for x, w in (("shape", 2), ("colour", 1)))
    total = total + .3 * ce(said["background"], whole(shard.background)[:, None].expand(b, k, n))
    total = total + sum(ce(said[x][:, 0][base], t[base]) for x, t in first.items())
    total = total + 10 * F.smooth_l1_loss(said["offset"][:, 0][base], offset[base], beta=.05)
    total = total + .3 * ce(said["count"][:, 0], whole(shard.count))
    right = {x: (said[x][:, 0].argmax(-1) == t)[base].float().mean().item()
             for x, t in dict(first, shape=truth["shape"][:, 0], colour=truth["colour"][:, 0]).items()}
    return total, right


def train(cache, path, steps, device="cpu", batch=64, lr=2e-3, seed=1, compile_layers=True, save_every=200):
    """Writes {tower, heads, step} to `path`."""
    torch.manual_seed(seed)
    net, heads = M.LLaDAV(dict(M.CONFIG, vocab=16)).to(device), Heads(M.CONFIG["v_d"]).to(device)
    params = list(net.tower.parameters()) + list(heads.parameters())
    optimizer = torch.optim.AdamW(params, lr=lr, betas=(.9, .98), weight_decay=.02)
    modules = dict(tower=net.tower, heads=heads)
    state = lambda step: dict({k: m.state_dict() for k, m in modules.items()}, optimizers=[optimizer.state_dict()],
                              step=step)
    start = progress.resume(path, modules, [optimizer])
    if start >= steps:
        return
    if compile_layers:
        net.compile_layers()
    stream, meter = data.batches(data.load(cache), batch, seed, start), progress.Meter(steps)
    for step in range(start, steps):
        for g in optimizer.param_groups:
            g["lr"] = lr * min(1, (step + 1) / 100) * min(1, (steps - step) / (.4 * steps) + .01)
        shard, rows = next(stream)
        which = [0, 1 + step % (shard.tiles.shape[1] - 1)]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            total, right = loss(heads, net.features(shard.tiles[rows][:, which]), shard, rows, which)
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        meter.note(step + 1, loss=total.item(), **right)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            progress.save(path, **state(step + 1))
