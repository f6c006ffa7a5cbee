"""Optimisers: orthogonalised momentum for the hidden matrices, AdamW for everything else.

The momentum of each matrix is replaced by about the nearest matrix whose singular values are all 1 (five
Newton-Schulz steps of an odd quintic). Matrices of one shape are handled in one batch.
"""
import torch


def orthogonal(g):
    """[N, r, c] -> same shape, singular values near 1"""
    x = g.bfloat16()
    flip = x.shape[1] > x.shape[2]
    if flip:
        x = x.transpose(1, 2)
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * s + 2.0315 * (s @ s)) @ x
    return (x.transpose(1, 2) if flip else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=.95, weight_decay=.02):
        super().__init__(list(params), dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            shapes = {}
            for p in g["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - g["momentum"])
                shapes.setdefault(p.shape, []).append((p, torch.lerp(p.grad, m, g["momentum"])))
            for (r, c), pairs in shapes.items():
                new = orthogonal(torch.stack([u for _, u in pairs]))
                for (p, _), u in zip(pairs, new):
                    p.mul_(1 - g["lr"] * g["weight_decay"]).add_(u, alpha=-g["lr"] * max(1, r / c) ** .5)


def optimizers(net, heads, lr, muon_lr, factors):
    """factors: {part of a parameter's name: factor of its learning rate}; 1 for the others"""
    hidden, rest = {}, {1.0: list(heads.parameters())}
    for name, p in net.named_parameters():
        if "post_layernorm" in name:
            continue
        matrix = p.dim() == 2 and "embed" not in name and "lm_head" not in name
        factor = next((f for part, f in factors.items() if part in name), 1.0)
        (hidden if matrix else rest).setdefault(factor, []).append(p)
    groups = lambda kind, rate: [dict(params=p, lr=rate * factor) for factor, p in kind.items()]
    return [Muon(groups(hidden, muon_lr), muon_lr),
            torch.optim.AdamW(groups(rest, lr), lr=lr, betas=(.9, .95), weight_decay=.0)]
