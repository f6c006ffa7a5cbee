"""The network in plain PyTorch; module names are the tensor names of the published layout.

Vision tower (SigLIP form), two-layer GELU projector, rows spliced between text embeddings, bidirectional decoder.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import tiles

CONFIG = dict(vocab=0, d=256, layers=5, heads=8, ff=512, theta=10000.0, eps=1e-5,
              v_d=128, v_layers=6, v_heads=4, v_ff=512, tile=tiles.TILE, patch=tiles.PATCH)


def attend(q, k, v, mask=None):
    """Written out: on processors the fused kernel's backward pass is several times slower."""
    s = (q * q.shape[-1] ** -.5) @ k.transpose(-1, -2)
    s = s if mask is None else s + mask
    return torch.softmax(s, -1, dtype=None if s.dtype == torch.float32 else s.dtype) @ v


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class VisionAttention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x):
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class VisionMLP(nn.Module):
    def __init__(self, d, ff):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(d, ff), nn.Linear(ff, d)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(c["v_d"], eps=1e-6) for _ in range(2))
        self.self_attn, self.mlp = VisionAttention(c["v_d"], c["v_heads"]), VisionMLP(c["v_d"], c["v_ff"])

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.patch = c["patch"]
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, c["v_d"], c["patch"], c["patch"])
        self.embeddings.position_embedding = nn.Embedding((c["tile"] // c["patch"]) ** 2, c["v_d"])
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(VisionLayer(c) for _ in range(c["v_layers"]))
        self.post_layernorm = nn.LayerNorm(c["v_d"], eps=1e-6)  # part of the layout, not used for the features

    def forward(self, pixels):
        n, p, e = len(pixels), self.patch, self.embeddings
        g = pixels.shape[-1] // p
        x = pixels.view(n, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(n, g * g, 3 * p * p)
        x = F.linear(x, e.patch_embedding.weight.flatten(1), e.patch_embedding.bias) + e.position_embedding.weight
        for layer in self.encoder.layers:
            x = layer(x)
        return x


class RMSNorm(nn.Module):
    def __init__(self, d, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)
        return h.to(x.dtype) * self.weight.to(x.dtype)


def rotary(pos, dim, theta):
    """-> cos, sin [.., L, dim] of positions [.., L]"""
    inv = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32, device=pos.device) / dim)
    angle = pos[..., None].float() * inv
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat([-b, a], -1) * sin.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c["heads"]
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(c["d"], c["d"], bias=False) for _ in range(4))

    def qkv(self, x, cos, sin):
        """x [.., d], cos and sin [.., head width] -> three times [.., heads, head width]"""
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v


def attend_packed(q, k, v, b, width, groups):
    """q, k, v [rows, heads, ..] of b prefixes of `width` rows that see themselves, then of every group (K, T, mask
    [B, K, 1, 1, T]) b times K texts of T rows that see the prefix and themselves each -> [rows, heads, ..]"""
    parts = [[t.transpose(-2, -3) for t in (
        x[:b * width].unflatten(0, (b, width)),
        *(y.unflatten(0, (b, many, t)) for y, (many, t, _) in
          zip(x[b * width:].split([b * many * t for many, t, _ in groups]), groups)))] for x in (q * q.shape[-1] ** -.5, k, v)]
    soft = lambda s: torch.softmax(s, -1, dtype=None if s.dtype == torch.float32 else s.dtype)
    q0, k0, v0 = (p[0] for p in parts)  # [B, heads, P, ..]
    out = [soft(q0 @ k0.transpose(-1, -2)) @ v0]
    for (many, t, mask), q1, k1, v1 in zip(groups, *(p[1:] for p in parts)):  # [B, K, heads, T, ..]
        over = lambda a: a.transpose(1, 2).flatten(2, 3)  # [B, heads, K T, ..]
        back = lambda a: a.unflatten(2, (many, t)).transpose(1, 2)
        seen = soft(torch.cat([back(over(q1) @ k0.transpose(-1, -2)), q1 @ k1.transpose(-1, -2) + mask.to(q.dtype)], -1))
        out.append(back(over(seen[..., :width]) @ v0) + seen[..., width:] @ v1)
    return torch.cat([o.transpose(-2, -3).reshape(-1, *q.shape[1:]) for o in out])


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(c["d"], c["ff"], bias=False) for _ in range(2))
        self.down_proj = nn.Linear(c["ff"], c["d"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (RMSNorm(c["d"], c["eps"]) for _ in range(2))
        self.self_attn, self.mlp = Attention(c), MLP(c)

    def before(self, x, cos, sin):
        return self.self_attn.qkv(self.input_layernorm(x), cos, sin)

    def after(self, x, attended):
        x = x + self.self_attn.o_proj(attended.flatten(-2))
        return x + self.mlp(self.post_attention_layernorm(x))

    def forward(self, x, cos, sin, mask):
        q, k, v = (t.transpose(1, 2) for t in self.before(x, cos, sin))
        return self.after(x, attend(q, k, v, None if mask is None else mask.to(q.dtype)).transpose(1, 2))


class LLaDAV(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        m = self.model = nn.Module()
        m.embed_tokens = nn.Embedding(c["vocab"], c["d"])
        m.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        m.norm = RMSNorm(c["d"], c["eps"])
        m.vision_tower = nn.Module()
        m.vision_tower.vision_tower = nn.Module()
        m.vision_tower.vision_tower.vision_model = VisionModel(c)
        m.mm_projector = nn.Sequential(nn.Linear(c["v_d"], c["d"]), nn.GELU(), nn.Linear(c["d"], c["d"]))
        m.image_newline = nn.Parameter(torch.randn(c["d"]) * .5)
        self.lm_head = nn.Linear(c["d"], c["vocab"], bias=False)
        self.reset()

    def reset(self):
        depth = {"o_proj": self.c["layers"], "down_proj": self.c["layers"], "out_proj": self.c["v_layers"],
                 "fc2": self.c["v_layers"]}
        for name, m in self.named_modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                fan = m.weight[0].numel()
                nn.init.normal_(m.weight, std=fan ** -.5 / (2 * depth.get(name.split(".")[-1], .5)) ** .5)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        nn.init.normal_(self.model.embed_tokens.weight, std=.5)
        nn.init.normal_(self.tower.embeddings.position_embedding.weight, std=.3)
        nn.init.normal_(self.lm_head.weight, std=.02)

    @property
    def tower(self):
        return self.model.vision_tower.vision_tower.vision_model

    @property
    def device(self):
        return self.lm_head.weight.device

    def compile_layers(self):
        """Fuses the many small element-wise steps: three to four times faster on a processor."""
        for layer in list(self.model.layers) + list(self.tower.encoder.layers):
            layer.compile(dynamic=True)
        for layer in self.model.layers:  # for packed()
            layer.before, layer.after = (torch.compile(f, dynamic=True) for f in (layer.before, layer.after))

    def features(self, tiles_u8):
        """u8 [B, T, S, S, 3] -> tower rows [B, T, n, v_d]"""
        b, t = tiles_u8.shape[:2]
        pixels = tiles_u8.to(self.device).flatten(0, 1).permute(0, 3, 1, 2).float() * (1 / 255)
        return self.tower((pixels - .5) / .5).unflatten(0, (b, t))

    def image_rows(self, features, w, h):
        """Tower rows of pictures of one size -> prompt rows [B, R, d]: base rows, then the kept map with line ends"""
        f = self.model.mm_projector(features)
        side = self.c["tile"] // self.c["patch"]
        gw, gh, y0, y1, x0, x1 = tiles.kept_map(w, h)
        b, d = f.shape[0], f.shape[-1]
        m = f[:, 1:].view(b, gh, gw, side, side, d).permute(0, 1, 3, 2, 4, 5)
        m = m.reshape(b, gh * side, gw * side, d)[:, y0:y1, x0:x1]
        end = self.model.image_newline.to(m.dtype).expand(b, m.shape[1], 1, d)
        return torch.cat([f[:, 0], torch.cat([m, end], 2).flatten(1, 2)], 1)

    def embed(self, ids, dtype):
        return self.model.embed_tokens(torch.as_tensor(ids, device=self.device)).to(dtype)

    def turn(self, pos):
        return rotary(pos, self.c["d"] // self.c["heads"], self.c["theta"])

    def backbone(self, x, mask=None):
        """x [B, L, d]; mask: additive [B, 1, 1, L] or None"""
        cos, sin = self.turn(torch.arange(x.shape[1], device=x.device))
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.norm(x)

    def packed(self, prefix, groups, biases, tap):
        """prefix [B, P, d], groups: [B, K, T, d] -> as groups, and the same after `tap` layers. K texts share a prefix
        that does not see them. biases: [B, K, T] of the texts' rows as keys"""
        b, width = prefix.shape[:2]
        at = lambda length, begin: torch.arange(length, device=prefix.device) + begin
        pos = torch.cat([at(width, 0).repeat(b)] + [at(g.shape[2], width).repeat(b * g.shape[1]) for g in groups])
        cos, sin = self.turn(pos)
        shapes = [(g.shape[1], g.shape[2], bias[:, :, None, None]) for g, bias in zip(groups, biases)]
        x = torch.cat([prefix.flatten(0, 1)] + [g.flatten(0, 2) for g in groups])
        for i, layer in enumerate(self.model.layers):
            x = layer.after(x, attend_packed(*layer.before(x, cos, sin), b, width, shapes))
            middle = x if i + 1 == tap else middle if i else None
        back = lambda y: [p.view_as(g) for p, g in zip(y[b * width:].split([g.shape[:3].numel() for g in groups]), groups)]
        return back(self.model.norm(x)), back(middle)
