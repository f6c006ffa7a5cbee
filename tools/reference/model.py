"""The network: vision tower, projector, picture rows, and the bidirectional transformer."""
import math
import re

import numpy as np

from . import checkpoint, images
from . import spec as specs
from .text import IMAGE, Text

TOWER = "model.vision_tower.vision_tower.vision_model."
erf = np.vectorize(math.erf, otypes=[np.float64])


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q, k, v):
    """q [H, Lq, hd], k and v [G, Lk, hd] with G dividing H -> [Lq, H * hd]; everyone sees everyone"""
    group = q.shape[0] // k.shape[0]
    out = np.empty((q.shape[1], q.shape[0], q.shape[2]), np.float32)
    for h in range(q.shape[0]):  # head by head: a long prompt's scores would not fit otherwise
        scores = q[h] @ k[h // group].T * np.float32(q.shape[2] ** -0.5)
        out[:, h] = softmax(scores) @ v[h // group]
    return out.reshape(q.shape[1], -1)


def gelu_tanh(x):
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(.044715) * x * x * x)
    return np.float32(.5) * x * (1 + np.tanh(inner))


def gelu_erf(x):
    return (.5 * x * (1 + erf(x.astype(np.float64) / math.sqrt(2)))).astype(np.float32)


def silu(x):
    return x / (1 + np.exp(-x))


def layer_norm(x, weight, bias, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * weight + bias


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * weight


def inverse_frequencies(theta, head_dim):
    """Rounded twice, as the reference does: at position 16383 the order shows in the cosine."""
    return np.float32(1) / np.power(float(theta), np.arange(0, head_dim, 2) / head_dim).astype(np.float32)


def rotary(positions, inv_freq):
    """-> cos, sin float32 [L, hd / 2] of the float32 angle"""
    angle = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x, cos, sin):
    """x [H, L, hd]; pairs are (i, i + hd / 2)"""
    a, b = np.split(x, 2, -1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


class FeatureCache:
    """dLLM-Cache: keys, values, attention and MLP outputs of earlier forwards, refreshed by schedule.

    Between the refreshes of the generated rows, the `ratio` of them whose value changed most is recomputed.
    `replay`: recorded choices {(forward, layer): rows}, because near-ties are decided by rounding noise.
    """

    def __init__(self, prompt_interval, gen_interval, transfer_ratio, replay=None):
        self.prompt_interval, self.gen_interval, self.ratio = prompt_interval, gen_interval, transfer_ratio
        self.replay, self.layers, self.forward, self.chosen = replay, {}, -1, []

    def next_forward(self):
        self.forward += 1
        return self.forward % self.prompt_interval == 0, self.forward % self.gen_interval == 0

    def select(self, layer, values, start):
        """Rows (of the sequence) whose new value is least like the cached one, the most changed first."""
        old = self.layers[layer]["v"][start:]
        norm = lambda x: np.maximum(np.sqrt((x * x).sum(-1)), np.float32(1e-8))
        similarity = (values * old).sum(-1) / (norm(values) * norm(old))
        count = int(len(values) * self.ratio)
        order = np.argsort(similarity, kind="stable")
        rows = order[:count] if self.replay is None else np.array(self.replay[self.forward, layer], int)
        gap = float(similarity[order[count]] - similarity[order[count - 1]]) if 0 < count < len(order) else None
        self.chosen.append({"forward": self.forward, "layer": layer, "rows": [rows.tolist()], "gap": gap})
        return rows + start


class Model:
    def __init__(self, directory, overrides=None):
        self.spec, self.text = specs.load(directory, overrides), Text(directory)
        self.w = checkpoint.load(directory)
        if TOWER + "embeddings.patch_embedding.weight" not in self.w:
            if self.spec.vision_dir is None or not checkpoint.exists(self.spec.vision_dir / "model.safetensors"):
                raise FileNotFoundError(f"{directory}: no vision tower in the checkpoint and none beside it")
            tower = checkpoint.load(self.spec.vision_dir)
            self.w.update({TOWER + k.removeprefix("vision_model."): v for k, v in tower.items()})
        columns = self.text.size  # rows past the tokenizer's last token are never used
        if columns > self.w["lm_head.weight"].shape[0]:
            raise ValueError(f"{directory}: the tokenizer has {columns} tokens, the model fewer")
        self.embedding, self.head = (self.w[k][:columns] for k in ("model.embed_tokens.weight", "lm_head.weight"))
        self.mask_row = self.embedding[self.text.mask]

    def lin(self, x, name):
        return linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    # ------------------------------------------------------------------ pictures

    def vision(self, tiles_u8):
        """u8 [N, S, S, 3] -> [N, patches, vision width]: the output of the last kept block, without post-norm"""
        s, out = self.spec, []
        used = s.side * s.patch
        weight = self.w[TOWER + "embeddings.patch_embedding.weight"]
        for x in images.normalise(tiles_u8)[:, :, :used, :used]:
            x = x.reshape(3, s.side, s.patch, s.side, s.patch).transpose(1, 3, 0, 2, 4).reshape(s.side ** 2, -1)
            x = linear(x, weight.reshape(len(weight), -1), self.w[TOWER + "embeddings.patch_embedding.bias"])
            x = x + self.w[TOWER + "embeddings.position_embedding.weight"][:s.side ** 2]
            for i in range(s.vision_layers):
                x = self.vision_block(x, f"{TOWER}encoder.layers.{i}.")
            out.append(x)
        return np.stack(out)

    def vision_block(self, x, at):
        norm = lambda x, n: layer_norm(x, self.w[f"{at}{n}.weight"], self.w[f"{at}{n}.bias"], self.spec.vision_eps)
        heads = lambda x: x.reshape(len(x), self.spec.vision_heads, -1).swapaxes(0, 1)
        n = norm(x, "layer_norm1")
        q, k, v = (heads(self.lin(n, f"{at}self_attn.{p}_proj")) for p in "qkv")
        x = x + self.lin(attend(q, k, v), at + "self_attn.out_proj")
        return x + self.lin(gelu_tanh(self.lin(norm(x, "layer_norm2"), at + "mlp.fc1")), at + "mlp.fc2")

    def project(self, features):
        if self.spec.projector == "linear":
            return self.lin(features, "model.mm_projector")
        depth = int(re.fullmatch(r"mlp(\d+)x_gelu", self.spec.projector)[1])
        x = self.lin(features, "model.mm_projector.0")
        for i in range(1, depth):
            x = self.lin(gelu_erf(x), f"model.mm_projector.{2 * i}")
        return x

    def with_newlines(self, rows):
        """[n, m, d] -> [n * (m + 1), d]: a line end after every m rows"""
        end = np.broadcast_to(self.w["model.image_newline"], (len(rows), 1, rows.shape[-1]))
        return np.concatenate([rows, end], 1).reshape(-1, rows.shape[-1])

    def anyres_rows(self, f, w, h):
        """Projected tiles [1 + n, patches, d] of a w x h picture -> its prompt rows"""
        s, d = self.spec, f.shape[-1]
        if "unpad" not in s.merge:
            return f.reshape(-1, d)
        gw, gh = (p // s.tile for p in images.best_resolution(w, h, s.pinpoints))
        m = f[1:].reshape(gh, gw, s.side, s.side, d).swapaxes(1, 2).reshape(gh * s.side, gw * s.side, d)
        y0, y1, x0, x1 = images.unpad(w, h, gw * s.side, gh * s.side)
        m = m[y0:y1, x0:x1]
        limit = re.fullmatch(r"anyres_max_(\d+)", s.aspect)
        if limit:
            ow, oh, times = images.shrink(m.shape[1], m.shape[0], int(limit[1]), s.side)
            m = images.bilinear(m, oh, ow) if times > 1.1 else m
        return np.concatenate([f[0], self.with_newlines(m)])

    def video_rows(self, f):
        """Projected frames [T, patches, d] -> prompt rows, every frame pooled to about a quarter"""
        s, d = self.spec, f.shape[-1]
        m = f.reshape(len(f), s.side, s.side, d)
        if s.pool == "bilinear":
            half = math.ceil(s.side / 2)
            m = np.stack([images.bilinear(x, half, half) for x in m])
        else:
            half = s.side // 2
            m = m[:, :2 * half, :2 * half].reshape(len(f), half, 2, half, 2, d)
            m = m.mean((2, 4)) if s.pool == "average" else m.max((2, 4))
        if s.newline == "grid":
            return self.with_newlines(m.reshape(-1, half, d))
        if s.newline == "frame":
            return self.with_newlines(m.reshape(len(f), -1, d))
        rows = m.reshape(-1, d)
        return self.with_newlines(rows[None]) if s.newline == "one_token" and "unpad" in s.merge else rows

    def picture_rows(self, projected, how, sizes):
        """Projected tiles of one prompt's pictures (a list, one entry per picture) -> their prompt rows"""
        if how == "video":
            return [self.video_rows(np.concatenate(projected))]
        if how == "anyres":
            return [self.anyres_rows(f, *size) for f, size in zip(projected, sizes)]
        newline = how.endswith("_list") and "unpad" in self.spec.merge  # "_tensor": the reference skips it
        return [self.with_newlines(f) if newline else f[0] for f in projected]

    def tiles(self, pictures, how):
        """PIL pictures -> u8 tiles, one array per picture"""
        aspect = {"anyres": self.spec.aspect, "video": "square"}.get(how, how.split("_")[0])
        return [images.tiles(im, aspect, self.spec.tile, self.spec.pinpoints) for im in pictures]

    def splice(self, ids, pictures):
        """Prompt ids and the rows of its pictures -> prompt rows. One placeholder too many reuses the last."""
        rows, used = [], 0
        for i in ids:
            if i != IMAGE:
                rows.append(self.embedding[i:i + 1])
                continue
            if used > len(pictures) or not pictures:
                raise ValueError(f"the prompt shows more pictures than the {len(pictures)} given")
            rows.append(pictures[min(used, len(pictures) - 1)])
            used += 1
        return np.concatenate(rows or [self.embedding[:0]])[:self.spec.length_max]

    def prompt_rows(self, ids, pictures=(), how="none"):
        """Everything from ids and PIL pictures to prompt rows"""
        if not pictures:
            return self.splice(ids, [])
        projected = [self.project(self.vision(t)) for t in self.tiles(pictures, how)]
        return self.splice(ids, self.picture_rows(projected, how, [im.size for im in pictures]))

    # ------------------------------------------------------------------ transformer

    def rotary(self, length, cached):
        s, hd, theta, factor = self.spec, self.spec.width // self.spec.heads, self.spec.theta, 1.0
        if s.rope_scaling:
            f = s.rope_scaling["factor"]
            if s.rope_scaling["type"] == "linear" or cached:  # the cached path divides for every type
                factor = f
            elif length > s.positions_max:
                theta *= (f * length / s.positions_max - (f - 1)) ** (hd / (hd - 2))
        return rotary(np.arange(length, dtype=np.float32) / np.float32(factor), inverse_frequencies(theta, hd))

    def forward(self, x, rows=None, cache=None, prompt=0):
        """Rows [L, d] -> logits [R, V] of the wanted rows. `prompt`: length of the part cached by its own interval"""
        s, length = self.spec, len(x)
        cos, sin = self.rotary(length, cache is not None)
        heads = lambda x, n: x.reshape(len(x), n, -1).swapaxes(0, 1)
        fresh = cache.next_forward() if cache else (True, True)
        for i in range(s.layers):
            at = f"model.layers.{i}."
            old = cache.layers.setdefault(i, {}) if cache else {}
            n = rms_norm(x, self.w[at + "input_layernorm.weight"], s.eps)
            todo = [np.arange(prompt)] if fresh[0] else []
            if fresh[1]:
                todo.append(np.arange(prompt, length))
            elif cache.ratio > 0:
                todo.append(cache.select(i, self.lin(n[prompt:], at + "self_attn.v_proj"), prompt))
            todo = np.concatenate(todo) if todo else np.arange(0)

            def update(name, value):  # keep what is not recomputed
                if name not in old:
                    old[name] = np.zeros((length, value.shape[-1]), np.float32)
                old[name][todo] = value
                return old[name]

            if len(todo):
                k = update("k", self.lin(n[todo], at + "self_attn.k_proj"))
                v = update("v", self.lin(n[todo], at + "self_attn.v_proj"))
                q = rotate(heads(self.lin(n[todo], at + "self_attn.q_proj"), s.heads), cos[todo], sin[todo])
                k, v = rotate(heads(k, s.kv_heads), cos, sin), heads(v, s.kv_heads)
                update("attention", self.lin(attend(q, k, v), at + "self_attn.o_proj"))
            x = x + old["attention"]
            if len(todo):
                n = rms_norm(x[todo], self.w[at + "post_attention_layernorm.weight"], s.eps)
                hidden = silu(self.lin(n, at + "mlp.gate_proj")) * self.lin(n, at + "mlp.up_proj")
                update("mlp", self.lin(hidden, at + "mlp.down_proj"))
            x = x + old["mlp"]
        x = rms_norm(x if rows is None else x[rows], self.w["model.norm.weight"], s.eps)
        return x @ self.head.T
