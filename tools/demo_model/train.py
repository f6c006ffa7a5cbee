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

DEFAULTS = dict(steps=3600, minutes=0.0, batch=12, single_batch=32, lr=2e-3, muon_lr=.01, questions=8, single_from=.65,
                single_share=.1, decay_from=.55, boost=4.0, tower_loss=.2, mention_loss=.2, seed=1, hard_questions=.5,
                question_ratio=.3, tower_rate=.1, projector_rate=1.0, heads_alone=0)
# For a checkpoint that can speak already: its projector fits the tower, its heads were thrown away.
CONTINUED = dict(steps=900, lr=1.2e-3, muon_lr=.006, decay_from=.4, projector_rate=.15, heads_alone=100)
# Kinds of question that need several objects, or all of them, to be looked at; the slowest to be learnt
HARD = {"where", "beside", "exists", "count_colour", "count_shape"}


class Writer:
    """Draws the texts for a batch of scenes."""

    def __init__(self, text, options):
        self.text, self.o, self.cache = text, options, {}
        self.names = {tuple(self.ids(f" {c} {shape}")): (c, shape) for c in S.COLOURS for shape in S.ALL_SHAPES}
        self.kinds = {tuple(self.ids(f" many {S.plural(x)}")): ("shape", x) for x in S.SHAPES}
        self.kinds |= {tuple(self.ids(words.format(c))): ("colour", c) for c in S.COLOURS
                       for words in (" many {} objects", " objects are {}")}

    def ends(self, said, phrases):
        """-> (row where one of the phrases ends, what it stands for) of each that `said` holds"""
        return [(at + length - 1, phrases[found]) for at in range(len(said)) for length in {len(p) for p in phrases}
                if (found := tuple(said[at:at + length])) in phrases]

    def ids(self, s):
        if s not in self.cache:
            self.cache[s] = self.text.encode(s)
        return self.cache[s]

    def item(self, rng, scene, question, answer, region, worth=1.0):
        tail = self.text.tail(question, keep_newline=rng.random() < .1)
        said = tail + self.ids(answer)
        there = {(o["colour"], o["shape"]): number for number, o in enumerate(scene["objects"])}
        mentions = [(at, there.get(named, batching.ABSENT)) for at, named in self.ends(said, self.names)]
        counted = [(at, sum(o[key] == value for o in scene["objects"])) for at, (key, value) in self.ends(tail, self.kinds)]
        return batching.Item(tail, said[len(tail):] + [self.text.eot], region, worth, tuple(mentions), tuple(counted))

    def question(self, rng, scene):
        """-> question, answer"""
        drawn = S.question(scene, rng)
        if rng.random() < self.o["hard_questions"]:
            for _ in range(8):
                if drawn[0] in HARD:
                    break
                drawn = S.question(scene, rng)
        return drawn[1:]

    def other_caption(self, rng, scene):
        prompt = rng.choice([p for p in S.PROMPTS if p not in S.LONG_PROMPTS])
        return prompt, S.PROMPTS[prompt](scene)

    def long_caption(self, rng, scene):
        return rng.choice(S.LONG_PROMPTS[:1] * 3 + S.LONG_PROMPTS), S.long_caption(scene)

    def packed(self, rng, scenes):
        """-> groups of [per scene][texts of it]: a long caption and another one; questions"""
        told = [(self.long_caption(rng, s), self.other_caption(rng, s)) for s in scenes]
        asked = [[self.question(rng, s) for _ in range(self.o["questions"])] for s in scenes]
        extra = rng.choice([1, 2, 4])
        longest = lambda pairs: max(len(self.ids(a)) for some in pairs for _, a in some) + extra
        captions, answers = longest(told), longest(asked)
        return [[[self.item(rng, s, *long, captions, 4.0), self.item(rng, s, *other, captions, 2.0)]
                 for s, (long, other) in zip(scenes, told)],
                [[self.item(rng, s, q, a, answers) for q, a in some] for s, some in zip(scenes, asked)]]

    def single(self, rng, scenes):
        kind = rng.choices(["long", "other", "question"], [.4, .15, .45])[0]
        draw = dict(long=self.long_caption, other=self.other_caption, question=self.question)[kind]
        pairs = [draw(rng, s) for s in scenes]
        lengths = dict(question=[8, 16, 16, 16, 32, 64], other=[32, 64, 64], long=[0, 56, 64, 64, 64, 80])[kind]
        region = max(max(len(self.ids(a)) for _, a in pairs) + 1, rng.choice(lengths))
        return [[[self.item(rng, s, q, a, region)] for s, (q, a) in zip(scenes, pairs)]]


TAP = 3  # decoder layers after which a mention must know its object; the others can use it


class Mentions(nn.Module):
    """What the row where an object's name ends, in a question or an answer, must tell: whether there is such an object,
    and all that can be asked about it; and the row where a question names what to count, how many there are. Without
    it, the direction words stay at guessing for long: where to look and what to take from there must be learnt together,
    from one word."""
    SIZES = dict(tower.Heads.SIZES, there=2, many=5)
    for unused in ("shape", "colour", "background", "offset", "count"):
        del SIZES[unused]

    def __init__(self, d):
        super().__init__()
        self.norm, self.out = nn.LayerNorm(d), nn.Linear(d, sum(self.SIZES.values()))

    def forward(self, hidden):
        return dict(zip(self.SIZES, self.out(self.norm(hidden)).float().split(list(self.SIZES.values()), -1)))


def mention_loss(heads, middle, groups, shard, rows):
    """middle: [B, K, T, d] of each group -> loss, share of right relations to numbers"""
    def find(kind):
        """-> what is said at the rows of that kind, their scenes, the truths"""
        hidden, scene, truth = [], [], []
        for h, group in zip(middle, groups):
            found = [(b, k, at, t) for b, some in enumerate(group) for k, item in enumerate(some)
                     for at, t in getattr(item, kind)]
            if found:
                b, k, at, t = torch.tensor(found).T
                hidden.append(h[b, k, at])
                scene.append(torch.tensor(rows)[b])
                truth.append(t)
        return (heads(torch.cat(hidden)), torch.cat(scene), torch.cat(truth)) if hidden else (None,) * 3

    said, _, many = find("counted")
    counted = F.cross_entropy(said["many"], many.to(said["many"].device)) if said else 0.0
    said, scene, number = find("mentions")
    there = number != batching.ABSENT
    total = F.cross_entropy(said["there"], there.long().to(said["there"].device))
    said, scene, number = {k: v[there] for k, v in said.items()}, scene[there], number[there]
    truth = lambda t: t[scene, number].to(said["centre"].device)
    beside, alike = truth(shard.next), truth(shard.alike)
    once = dict(size=truth(shard.attribute)[:, 2], number=number.to(beside.device), next=beside[:, 0],
                previous=beside[:, 1], alike_shape=alike[:, 0], alike_colour=alike[:, 1])
    total = total + sum(F.cross_entropy(said[k], t) for k, t in once.items())
    total = total + 10 * F.smooth_l1_loss(said["centre"], truth(shard.centre), beta=.05)
    for k in ("to_colour", "to_number"):
        t = truth(getattr(shard, k))
        known = t != data.UNKNOWN
        logits, t = said[k].unflatten(-1, (-1, tower.LIES))[known], t[known]
        total = total + F.cross_entropy(logits, t) if len(t) else total
    return total + counted, (logits.argmax(-1) == t).float().mean().item()


def ratios(n):
    """t in (0, 1), evenly spread over the batch instead of independent: same mean, less noise"""
    return ((torch.randperm(n) + torch.rand(n)) / n).clamp(min=.01)


def diffusion_loss(net, text, head, rows, groups, packed, boost, directions, question_ratio):
    """rows [B, R, d] of the pictures; groups: lists of B lists of K items -> loss, {name: mean}, and of packed texts
    the rows after TAP layers.
    `boost`: weight of the words that say how things lie, rare but the hardest to learn.
    `question_ratio`: smallest t of a short answer, whose one telling token would else rarely be masked"""
    b, batches, brief = len(rows), [], []
    for group in groups:
        items = [item for some in group for item in some]
        t = ratios(len(items))
        short = torch.tensor([len(item.answer) < 12 for item in items])
        brief.append(short[:, None])
        batches.append(batching.make(text, items, torch.where(short, question_ratio + (1 - question_ratio) * t, t))
                       .to(rows.device))
    prefix = torch.cat([net.embed(head, rows.dtype).expand(b, -1, -1), rows], 1)
    texts = [net.embed(x.ids, rows.dtype) for x in batches]
    if packed:
        apart = lambda t: t.unflatten(0, (b, -1))
        hidden, middle = net.packed(prefix, [apart(t) for t in texts], [apart(x.bias) for x in batches], TAP)
        hidden = [h.flatten(0, 1) for h in hidden]
    else:
        middle = None
        width = prefix.shape[1]
        bias = F.pad(batches[0].bias, (width, 0))[:, None, None]
        hidden = [net.backbone(torch.cat([prefix, texts[0]], 1), bias)[:, width:]]
    asked = [x.targets != batching.IGNORE for x in batches]
    gather = lambda parts: torch.cat([p.expand(*a.shape, *p.shape[2:])[a] for p, a in zip(parts, asked)])
    target, weight, share = (gather([getattr(x, k) for x in batches]) for k in ("targets", "weight", "share"))
    logits = net.lm_head(gather(hidden)).float()
    ce = F.cross_entropy(logits, target, reduction="none")
    right, facing = (logits.argmax(-1) == target).float(), torch.isin(target, directions)
    hard = (weight < 1.25) & (target != text.eot)  # t > 0.8: little text to lean on
    loss = (ce * weight * share * torch.where(facing, boost, 1.0)).sum() / sum(x.importance for x in batches)
    means = dict(ce=ce.mean().item(), hard=right[hard].mean().item(), direction=right[facing].mean().item(),
                 answer=right[hard & gather(brief)].mean().item())
    return loss, means, middle


def first_weights(taught, begin, vocab):
    """-> network, tower heads. `taught`: what the tower training wrote, or None; `begin`: an exported checkpoint whose
    other weights are used, or None"""
    net = export.read(begin)[0].train() if begin else M.LLaDAV(dict(M.CONFIG, vocab=vocab))
    if not taught:
        return net, tower.Heads(net.c["v_d"])
    state = torch.load(taught, weights_only=True)
    whole = M.LLaDAV(dict(M.CONFIG, vocab=net.c["vocab"]))
    whole.load_state_dict(net.state_dict(), strict=False)  # the taught tower may have more layers
    heads = tower.Heads(whole.c["v_d"])
    whole.tower.load_state_dict(state["tower"])
    heads.load_state_dict(state["heads"])
    return whole, heads


def train(cache, tokenizer_dir, path, device="cpu", taught=None, begin=None, earlier=None, compile_layers=True,
          save_every=50, **options):
    """Writes {net, ema, heads, mentions, config, step} to `path`; `ema` holds the averaged weights, which are the result.
    `earlier`: such a file, of the training that `begin` came from: its heads go on too, and none are untaught"""
    o = DEFAULTS | ({} if taught else CONTINUED) | (dict(heads_alone=0) if earlier else {}) | options
    torch.manual_seed(o["seed"])
    text = tokenizer.Text(tokenizer_dir)
    net, heads = (m.to(device) for m in first_weights(taught, begin, text.size))
    ema = copy.deepcopy(net)
    mentions = Mentions(net.c["d"]).to(device)
    if earlier:
        state = torch.load(earlier, weights_only=True)
        heads.load_state_dict(state["heads"])
        mentions.load_state_dict(state["mentions"])
    optimizers = muon.optimizers(net, nn.ModuleList([heads, mentions]), o["lr"], o["muon_lr"],
                                 dict(vision_tower=o["tower_rate"], mm_projector=o["projector_rate"]))
    full_rate = [[g["lr"] for g in opt.param_groups] for opt in optimizers]
    params = [p for opt in optimizers for g in opt.param_groups for p in g["params"]]
    modules = dict(net=net, ema=ema, heads=heads, mentions=mentions)
    start, seconds, singles = progress.resume(path, modules, optimizers, "singles")
    clock = progress.Clock(o["steps"], o["minutes"], seconds)
    if clock.done(start) >= 1:
        return
    if compile_layers:
        net.compile_layers()
    head = text.head()
    short = head[:1] + head[head.index(text.eot) + 1:]  # without the system turn: cheaper, used while packed
    words = (" left", " right", " above", " below", "Above", "Below", "On")
    directions = torch.tensor([text.encode(w)[0] for w in words], device=device)
    shards, writer, meter = data.load(cache), Writer(text, o), progress.Meter(o["steps"])
    streams = [data.batches(shards, o["single_batch"], o["seed"], singles),
               data.batches(shards, o["batch"], o["seed"] + 1, start - singles)]
    step, done = start, clock.done(start)
    while done < 1:
        rng = random.Random(o["seed"] * 1_000_003 + step)  # of the step, so that a resumed run draws the same
        torch.manual_seed(rng.getrandbits(62))
        packed = done < o["single_from"] and rng.random() >= o["single_share"]
        singles += not packed
        scale = min(1, (step + 1) / 60)
        if done >= o["decay_from"]:
            scale *= max(.02, (1 - done) / (1 - o["decay_from"]))
        for opt, rates in zip(optimizers, full_rate):
            for g, rate in zip(opt.param_groups, rates):
                g["lr"] = rate * scale
        shard, rows = next(streams[packed])
        scenes = [shard.scenes[i] for i in rows]
        groups = writer.packed(rng, scenes) if packed else writer.single(rng, scenes)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            features = net.features(shard.tiles[rows])
            loss, means, middle = diffusion_loss(net, text, short if packed else head, net.image_rows(features, *shard.size),
                                                 groups, packed, o["boost"], directions, o["question_ratio"])
            if packed:
                known, means["mention"] = mention_loss(mentions, middle, groups, shard, rows)
                loss = loss + o["mention_loss"] * known
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
                torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), max(.02, 20 / (step + 21)))
        step, done = step + 1, clock.done(step + 1)
        kind = "" if packed else "single_"
        meter.note(step, **{kind + k: v for k, v in dict(means, loss=loss.item()).items()}, tower=dense.item(),
                   shape=right["shape"], to_number=right["to_number"], norm=norm.item())
        if step % save_every == 0 or done >= 1:
            progress.save(path, **{k: m.state_dict() for k, m in modules.items()}, config=net.c, step=step,
                          seconds=clock.seconds, singles=singles, optimizers=[opt.state_dict() for opt in optimizers])
