"""(Question, answer) pairs as one padded batch of rows for the decoder.

    head | picture rows | slot 1 | slot 2 | ...        a slot: rest of the user turn, assistant header, answer region

One slot is an ordinary chat. Several slots let many answers share one picture: they do not see each other, each
starts at the same position number, and head and picture do not look into them. Training packed is three times
cheaper per answer; the last part of the training uses single slots, which is what happens when serving.
"""
from dataclasses import dataclass

import torch

IGNORE = -100


@dataclass
class Batch:
    ids: torch.Tensor  # [B, S] over the slot rows
    targets: torch.Tensor
    weight: torch.Tensor  # 1 / mask ratio
    share: torch.Tensor  # importance of the answer / its number of tokens: a short answer counts like a long one
    start: torch.Tensor  # [B, K] first answer row of each slot, counted in slot rows
    pos: torch.Tensor
    bias: torch.Tensor | None  # additive attention mask [B, 1, L, L]; None: everyone sees everyone
    importance: float  # of all answers together

    def to(self, device):
        return Batch(*(v.to(device) if isinstance(v, torch.Tensor) else v for v in vars(self).values()))


def make(text, items, prefix, packed, mask_ratio=None):
    """items: B lists of K tuples (tail ids, answer ids, answer region length, importance); mask_ratio [B, K], or
    None when serving: all masked"""
    count, slots = len(items), len(items[0])
    lengths = [max(len(it[k][0]) + it[k][2] for it in items) for k in range(slots)]
    rows, importance = sum(lengths), 0.0
    ids, targets = torch.full((count, rows), text.eot), torch.full((count, rows), IGNORE)
    weight, share = torch.zeros(count, rows), torch.zeros(count, rows)
    start = torch.zeros(count, slots, dtype=torch.long)
    real = torch.zeros(count, rows, dtype=torch.bool)
    for b, item in enumerate(items):
        at = 0
        for k, (tail, answer, region, worth) in enumerate(item):
            begin = at + len(tail)
            ids[b, at:begin] = torch.tensor(tail)
            real[b, at:begin + region] = True
            start[b, k] = begin
            span = slice(begin, begin + region)
            if mask_ratio is None:
                ids[b, span] = text.mask
            else:
                full = torch.tensor((answer + [text.eot] * region)[:region])
                ratio = float(mask_ratio[b, k])
                masked = torch.rand(region) < ratio
                ids[b, span] = torch.where(masked, text.mask, full)
                targets[b, span] = torch.where(masked, full, IGNORE)
                weight[b, span] = 1 / ratio
                share[b, span] = worth / min(len(answer) + 2, region)
                importance += worth
            at += lengths[k]
    slot = torch.cat([torch.full((t,), k) for k, t in enumerate(lengths)])
    see = torch.zeros(count, prefix + rows, prefix + rows, dtype=torch.bool)
    see[:, :, :prefix] = True
    see[:, prefix:, prefix:] = (slot[:, None] == slot[None])[None] & real[:, None]
    if not packed:
        see[:, :prefix, prefix:] = real[:, None]
    bias = None if bool(see.all()) else torch.zeros(see.shape).masked_fill_(~see, -1e4)[:, None]
    pos = torch.cat([torch.arange(prefix)] + [torch.arange(t) + prefix for t in lengths])
    return Batch(ids, targets, weight, share, start, pos, bias, importance)
