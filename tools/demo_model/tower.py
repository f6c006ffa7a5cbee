"""Stage 1: teach the vision tower what is where; plays the part that web-scale pretraining plays for the real one.

Every 14x14 patch must tell shape and colour of the object on it and the background colour; in the whole-picture tile
also the object's size, its centre and number from the left, how it lies to each other object, how many are like it, and
the number of objects. The heads are one linear layer, so that what the decoder has to say can be read off one row. They
are thrown away afterwards. Dense labels take minutes where captions take hours, and without the heads for order and
relations stage 2 stays at guessing which of two objects a sentence is about.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import data, export, muon, progress, tiles
from . import model as M
from . import scenes as S

LIES = len(data.RELATIONS)
DEFAULTS = dict(steps=6000, minutes=0.0, batch=64, lr=2e-3, muon_lr=.01, seed=1)


class Heads(nn.Module):
    SIZES = dict(shape=len(S.ALL_SHAPES) + 1, colour=len(S.COLOURS) + 1, background=len(S.BACKGROUNDS), size=2,
                 offset=2, centre=2, number=4, next=LIES + 1, previous=LIES + 1, to_number=4 * LIES,
                 to_colour=len(S.COLOURS) * LIES, alike_shape=4, alike_colour=4, count=4)

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
    first = lambda t: take(t)[:, 0]
    own, owner = own.to(device), owner.to(device)
    attribute, none, on = take(shard.attribute), own < 0, own >= 0
    base = on[:, 0]  # objects in the whole-picture tile, where the rest is asked
    side = int(n ** .5)
    at = torch.arange(n, device=device)
    centre = first(shard.centre)
    offset = centre - (torch.stack([at % side, at // side], -1) + .5) / side
    dense = dict(shape=torch.where(none, len(S.ALL_SHAPES), attribute[..., 0]),
                 colour=torch.where(none, len(S.COLOURS), attribute[..., 1]))
    beside, alike = first(shard.next), first(shard.alike)
    once = dict(size=attribute[:, 0, :, 2], number=owner[:, 0], next=beside[..., 0], previous=beside[..., 1],
                alike_shape=alike[..., 0], alike_colour=alike[..., 1])
    relations = dict(to_number=first(shard.to_number), to_colour=first(shard.to_colour))
    whole = lambda t: t[rows].to(device).view(b, 1).expand(b, n)

    said = heads(features)
    ce = lambda logits, target: F.cross_entropy(logits.flatten(0, -2), target.flatten())
    here = lambda x: said[x][:, 0][base]
    total = sum(ce(said[x], dense[x]) + w * ce(said[x][on], dense[x][on]) for x, w in (("shape", 2), ("colour", 1)))
    total = total + .3 * ce(said["background"], whole(shard.background)[:, None].expand(b, k, n))
    total = total + sum(ce(here(x), t[base]) for x, t in once.items())
    for x, t in dict(offset=offset, centre=centre).items():
        total = total + 10 * F.smooth_l1_loss(here(x), t[base], beta=.05)
    total = total + .3 * ce(said["count"][:, 0], whole(shard.count))
    right = {x: (here(x).argmax(-1) == t[base]).float().mean().item()
             for x, t in dict(once, **{x: t[:, 0] for x, t in dense.items()}).items()}
    for x, t in relations.items():
        known = t[base] != data.UNKNOWN
        logits, t = here(x).unflatten(-1, (-1, LIES))[known], t[base][known]
        total = total + ce(logits, t) if len(t) else total
        right[x] = (logits.argmax(-1) == t).float().mean().item()
    return total, right


def first_weights(begin, device):
    """-> network, heads. `begin`: an exported checkpoint whose tower is taught further; layers that it lacks begin as
    layers that change nothing"""
    net, heads = M.LLaDAV(dict(M.CONFIG, vocab=16)).to(device), Heads(M.CONFIG["v_d"]).to(device)
    if begin:
        known = export.read(begin)[0].tower
        net.tower.load_state_dict(known.state_dict(), strict=False)
        for layer in net.tower.encoder.layers[len(known.encoder.layers):]:
            nn.init.zeros_(layer.self_attn.out_proj.weight)
            nn.init.zeros_(layer.mlp.fc2.weight)
    return net, heads


def train(cache, path, device="cpu", begin=None, compile_layers=True, save_every=200, **options):
    """Writes {tower, heads, step} to `path`."""
    o = DEFAULTS | options
    torch.manual_seed(o["seed"])
    net, heads = first_weights(begin, device)
    optimizers = muon.optimizers(net.tower, heads, o["lr"], o["muon_lr"], {})
    full_rate = [[g["lr"] for g in opt.param_groups] for opt in optimizers]
    params = [p for opt in optimizers for g in opt.param_groups for p in g["params"]]
    modules = dict(tower=net.tower, heads=heads)
    start, seconds = progress.resume(path, modules, optimizers)
    clock = progress.Clock(o["steps"], o["minutes"], seconds)
    if clock.done(start) >= 1:
        return
    if compile_layers:
        net.compile_layers()
    stream = data.batches(data.load(cache), o["batch"], o["seed"], start)
    meter, step, done = progress.Meter(o["steps"]), start, clock.done(start)
    while done < 1:
        scale = min(1, (step + 1) / 100) * min(1, (1 - done) / .5 + .01)
        for opt, rates in zip(optimizers, full_rate):
            for g, rate in zip(opt.param_groups, rates):
                g["lr"] = rate * scale
        shard, rows = next(stream)
        which = [0, 1 + step % (shard.tiles.shape[1] - 1)]
        if shard.size == (tiles.TILE, tiles.TILE):
            which = [0]  # its only grid tile is the same picture
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            total, right = loss(heads, net.features(shard.tiles[rows][:, which]), shard, rows, which)
        for opt in optimizers:
            opt.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(params, 2.0)
        for opt in optimizers:
            opt.step()
        step, done = step + 1, clock.done(step + 1)
        meter.note(step, loss=total.item(), **right)
        if step % save_every == 0 or done >= 1:
            progress.save(path, **{k: m.state_dict() for k, m in modules.items()}, step=step, seconds=clock.seconds,
                          optimizers=[opt.state_dict() for opt in optimizers])
