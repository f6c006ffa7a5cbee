"""Stage 2: masked-diffusion training of the whole model on captions, questions and answers.

For each answer a ratio t is drawn from (0, 1), every answer token (the padding with <|eot_id|> included) is masked
with probability t, and the cross-entropy of the masked tokens is weighted by 1 / t. Each answer counts by its
importance, not by its length: otherwise the few tokens of a question drown next to a caption.
"""
import copy
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

from . import batching, data, export, muon, progress, tower
from . import model as M
from . import scenes as S
from . import tokenizer

DEFAULTS = dict(steps=3600, batch=16, single_batch=32, lr=2e-3, muon_lr=.01, captions=2, questions=4, single_from=.5,
                decay_from=.5, boost=4.0, tower_loss=.2, seed=1, caption_weight=4.0, question_weight=1.0, hard_questions=.5,
                question_ratio=.3, tower_rate=.15, projector_rate=1.0, heads_alone=0)
# For a checkpoint that can speak already: its projector fits the tower, its heads were thrown away.
CONTINUED = dict(steps=900, lr=1.2e-3, muon_lr=.006, questions=6, single_from=.65, decay_from=.4, projector_rate=.15,
                 heads_alone=100)
# Kinds of question that need several objects, or all of them, to be looked at; the slowest to be learnt
HARD = {"where", "beside", "exists", "count_colour", "count_shape"}


class Writer:
    """Draws the texts for a batch of scenes."""

    def __init__(self, text, options):
        self.text, self.o, self.cache = text, options, {}

    def ids(self, s):
        if s not in self.cache:
            self.cache[s] = self.text.encode(s)
        return self.cache[s]

    def item(self, rng, question, answer, region, weight):
        tail = self.text.tail(question, keep_newline=rng.random() < .1)
        return tail, self.ids(answer) + [self.text.eot], region, weight

    def question(self, rng, scene):
        """-> question, answer"""
        drawn = S.question(scene, rng)
        if rng.random() < self.o["hard_questions"]:
            for _ in range(8):
                if drawn[0] in HARD:
                    break
                drawn = S.question(scene, rng)
        return drawn[1:]

    def packed(self, rng, scenes):
        """The same caption several times under different masks, and some questions"""
        told = [(rng.choice(S.LONG_PROMPTS), S.long_caption(s)) for s in scenes]
        region = max(len(self.ids(a)) for _, a in told) + rng.choice([1, 3, 6])
        captions, questions = self.o["captions"], self.o["questions"]
        return [[self.item(rng, q, a, region, self.o["caption_weight"]) for _ in range(captions)]
                + [self.item(rng, *self.question(rng, s), 9, self.o["question_weight"]) for _ in range(questions)]
                for s, (q, a) in zip(scenes, told)]

    def single(self, rng, scenes):
        kind, pairs = rng.choices(["long", "short", "question"], [.45, .1, .45])[0], []
        for s in scenes:
            if kind == "long":
                pairs.append((rng.choice(S.LONG_PROMPTS), S.long_caption(s)))
            elif kind == "short":
                pairs.append((rng.choice(S.SHORT_PROMPTS), S.short_caption(s)))
            else:
                pairs.append(self.question(rng, s))
        lengths = {"question": [8, 16, 16, 32, 64], "short": [32, 64, 64], "long": [0, 56, 64, 64, 80]}[kind]
        region = max(max(len(self.ids(a)) for _, a in pairs) + 1, rng.choice(lengths))
        return [[self.item(rng, q, a, region, 1.0)] for q, a in pairs]


def ratios(b, k):
    """t in (0, 1), evenly spread over the batch instead of independent: same mean, less noise"""
    n = b * k
    return ((torch.randperm(n) + torch.rand(n)) / n).clamp(min=.01).view(b, k)


def diffusion_loss(net, text, head, features, size, items, packed, boost, directions, question_ratio):
    """-> loss, {name: mean}. `boost`: weight of the words that say how things lie, rare but the hardest to learn.
    `question_ratio`: smallest t of a short answer, whose one telling token would else rarely be masked"""
    rows = net.image_rows(features, *size)
    b, prefix = len(rows), len(head) + rows.shape[1]
    t = ratios(b, len(items[0]))
    short = torch.tensor([[len(it[1]) < 12 for it in item] for item in items])
    t = torch.where(short, question_ratio + (1 - question_ratio) * t, t)
    batch = batching.make(text, items, prefix, packed, t).to(rows.device)
    x = torch.cat([net.embed(head, rows.dtype).expand(b, -1, -1), rows, net.embed(batch.ids, rows.dtype)], 1)
    hidden = net.backbone(x, batch.pos, batch.bias)[:, prefix:]
    asked = batch.targets != batching.IGNORE
    target, weight, share = batch.targets[asked], batch.weight[asked], batch.share[asked]
    logits = net.lm_head(hidden[asked]).float()
    ce = F.cross_entropy(logits, target, reduction="none")
    right, facing = (logits.argmax(-1) == target).float(), torch.isin(target, directions)
    hard = (weight < 1.25) & (target != text.eot)  # t > 0.8: little text to lean on
    loss = (ce * weight * share * torch.where(facing, boost, 1.0)).sum() / batch.importance
    return loss, dict(ce=ce.mean().item(), hard=right[hard].mean().item(), direction=right[facing].mean().item())


def first_weights(begin, vocab):
    """-> network, tower heads. `begin`: what the tower training wrote, or an exported checkpoint (a folder)"""
    if begin.is_dir():
        net, _ = export.read(begin)
        return net.train(), tower.Heads(net.c["v_d"])
    net, taught = M.LLaDAV(dict(M.CONFIG, vocab=vocab)), torch.load(begin, weights_only=True)
    heads = tower.Heads(net.c["v_d"])
    net.tower.load_state_dict(taught["tower"])
    heads.load_state_dict(taught["heads"])
    return net, heads


def train(cache, tokenizer_dir, begin, path, device="cpu", compile_layers=True, save_every=50, **options):
    """Writes {net, ema, heads, config, step} to `path`; `ema` holds the averaged weights, which are the result."""
    o = DEFAULTS | (CONTINUED if begin.is_dir() else {}) | options
    torch.manual_seed(o["seed"])
    text = tokenizer.Text(tokenizer_dir)
    net, heads = (m.to(device) for m in first_weights(begin, text.size))
    ema = copy.deepcopy(net)
    optimizers = muon.optimizers(net, heads, o["lr"], o["muon_lr"],
                                 dict(vision_tower=o["tower_rate"], mm_projector=o["projector_rate"]))
    full_rate = [[g["lr"] for g in opt.param_groups] for opt in optimizers]
    params = [p for opt in optimizers for g in opt.param_groups for p in g["params"]]
    modules = dict(net=net, ema=ema, heads=heads)
    start = progress.resume(path, modules, optimizers)
    if start >= o["steps"]:
        return
    if compile_layers:
        net.compile_layers()
    head = text.head()
    short = head[:1] + head[head.index(text.eot) + 1:]  # without the system turn: cheaper, used while packed
    directions = torch.tensor([text.encode(w)[0] for w in (" left", " right", " above", " below", "Above", "Below", "On")],
                              device=device)
    single_start = int(o["single_from"] * o["steps"])
    shards, writer, meter = data.load(cache), Writer(text, o), progress.Meter(o["steps"])
    streams = [data.batches(shards, o["batch"], o["seed"], min(start, single_start)),
               data.batches(shards, o["single_batch"], o["seed"], max(0, start - single_start))]
    for step in range(start, o["steps"]):
        rng = random.Random(o["seed"] * 1_000_003 + step)  # of the step, so that a resumed run draws the same
        torch.manual_seed(rng.getrandbits(62))
        done, packed = step / o["steps"], step < single_start
        scale = min(1, (step + 1) / 60)
        if done >= o["decay_from"]:
            scale *= max(.02, (1 - done) / (1 - o["decay_from"]))
        for opt, rates in zip(optimizers, full_rate):
            for g, rate in zip(opt.param_groups, rates):
                g["lr"] = rate * scale
        shard, rows = next(streams[not packed])
        scenes = [shard.scenes[i] for i in rows]
        items = writer.packed(rng, scenes) if packed else writer.single(rng, scenes)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            features = net.features(shard.tiles[rows])
            loss, means = diffusion_loss(net, text, short if packed else head, features, shard.size, items, packed,
                                         o["boost"], directions, o["question_ratio"])
            seen = features.detach() if step < o["heads_alone"] else features  # untaught heads would spoil the tower
            dense, right = tower.loss(heads, seen, shard, rows, list(range(features.shape[1])))
        for opt in optimizers:
            opt.zero_grad()
        (loss + o["tower_loss"] * dense).backward()
        norm = nn.utils.clip_grad_norm_(params, 2.0)
        for opt in optimizers:
            opt.step()
        if step % 4 == 3:
            with torch.no_grad():
                torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), max(.008, 20 / (step + 21)))
        meter.note(step + 1, loss=loss.item(), **means, tower=dense.item(), shape=right["shape"], norm=norm.item())
        if (step + 1) % save_every == 0 or step + 1 == o["steps"]:
            progress.save(path, **{k: m.state_dict() for k, m in modules.items()}, config=net.c, step=step + 1,
                          optimizers=[opt.state_dict() for opt in optimizers])
