"""(Question, answer) pairs as one padded batch of rows for the decoder.

    head | picture rows | rest of the user turn, assistant header, answer region

The last part is made here. Several pairs may share one head and picture (model.LLaDAV.packed): they do not see each
other, each starts at the same position number, and head and picture do not look into them. Training packed is several
times cheaper per answer; the last part of the training is one pair per picture, which is what happens when serving.
"""
from dataclasses import dataclass

import torch

IGNORE = -100
ABSENT = -1  # number of an object that is named, but not there


@dataclass
class Item:
    tail: list  # ids between the picture and the answer
    answer: list
    region: int  # rows of the answer
    worth: float = 1.0  # its importance
    mentions: tuple = ()  # (row where an object's name ends, counted from the tail's first; number of the object)
    counted: tuple = ()  # (row where that which is to be counted is named, counted likewise; how many there are)


@dataclass
class Batch:
    ids: torch.Tensor  # [N, T]
    targets: torch.Tensor
    weight: torch.Tensor  # 1 / mask ratio
    share: torch.Tensor  # importance of the answer / its number of tokens: a short answer counts like a long one
    start: torch.Tensor  # [N] first answer row
    bias: torch.Tensor  # [N, T] added to the attention scores of a row as key: 0, or very low for padding
    importance: float  # of all answers together

    def to(self, device):
        return Batch(*(v.to(device) if isinstance(v, torch.Tensor) else v for v in vars(self).values()))


def make(text, items, mask_ratio=None):
    """mask_ratio: [N], or None when serving: all masked"""
    count, rows = len(items), max(len(item.tail) + item.region for item in items)
    ids, targets = torch.full((count, rows), text.eot), torch.full((count, rows), IGNORE)
    weight, share = torch.zeros(count, rows), torch.zeros(count, rows)
    start, bias, importance = torch.zeros(count, dtype=torch.long), torch.full((count, rows), -1e4), 0.0
    for i, item in enumerate(items):
        begin, region = len(item.tail), item.region
        span = slice(begin, begin + region)
        ids[i, :begin] = torch.tensor(item.tail)
        bias[i, :begin + region] = 0
        start[i] = begin
        if mask_ratio is None:
            ids[i, span] = text.mask
            continue
        full = torch.tensor((item.answer + [text.eot] * region)[:region])
        ratio = float(mask_ratio[i])
        masked = torch.rand(region) < ratio
        ids[i, span] = torch.where(masked, text.mask, full)
        targets[i, span] = torch.where(masked, full, IGNORE)
        weight[i, span] = 1 / ratio
        share[i, span] = item.worth / min(len(item.answer) + 2, region)
        importance += item.worth
    return Batch(ids, targets, weight, share, start, bias, importance)
