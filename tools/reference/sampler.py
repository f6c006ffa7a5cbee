"""The published denoising loop, with a trace of every decision."""
import numpy as np

from .model import FeatureCache


class Noise:
    """The counter-based uniform numbers of the golden data: one per logit, one per row."""

    def __init__(self, seed, length, columns):
        self.seed, self.length, self.columns = seed, length, columns

    @staticmethod
    def mix(seed, i):
        """splitmix64's finaliser at counter i"""
        with np.errstate(over="ignore"):
            z = np.uint64(seed) + (i.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            return z ^ (z >> np.uint64(31))

    def gumbel(self, forward, rows):
        """float64 [R, V] in [0, 1)"""
        i = (forward * self.length + rows)[:, None] * self.columns + np.arange(self.columns)
        return (self.mix(self.seed, i) >> np.uint64(11)) * 2.0 ** -53

    def remask(self, forward, rows):
        """float32 [R] in [0, 1)"""
        i = forward * self.length + rows
        return ((self.mix(self.seed ^ 0xD1B54A32D192ED03, i) >> np.uint64(40)) * 2.0 ** -24).astype(np.float32)


def gumbel_noise(logits, u, temperature):
    """exp(l) / (-ln u)^T, as the reference writes the Gumbel maximum"""
    with np.errstate(divide="ignore", over="ignore"):
        return np.exp(logits.astype(np.float64)) / (-np.log(u)) ** temperature


def schedule(masks, steps):
    """How many tokens each step of a block commits"""
    base, extra = divmod(masks, steps)
    return [base + (i < extra) for i in range(steps)]


def find(needle, haystack):
    """First place of one id list in another, or -1; an empty needle is found at once"""
    for i in range(len(haystack) - len(needle) + 1):
        if haystack[i:i + len(needle)] == needle:
            return i
    return -1


class Decoder:
    """One generation: `rows` are the embeddings of prompt, answer region and suffix."""

    def __init__(self, model, prompt_rows, gen_length, suffix_ids=(), cfg_scale=0.0, cache=None, replay=None):
        self.model, self.prompt, self.cfg_scale, self.forwards = model, len(prompt_rows), cfg_scale, 0
        answer = np.repeat(model.mask_row[None], gen_length, 0)
        self.rows = np.concatenate([prompt_rows, answer, model.embedding[np.array(suffix_ids, int)]])
        self.ids = [model.text.mask] * (self.prompt + gen_length) + list(suffix_ids)
        rule = (cache["prompt_interval"], cache["gen_interval"], cache["transfer_ratio"]) if cache else ()
        self.caches = [FeatureCache(*rule, replay) if cache else None for _ in range(2)]

    def masked(self):
        """Masks are told by their embedding, so a mask token in the prompt is one too."""
        return (np.abs(self.rows - self.model.mask_row) < 1e-5).all(-1)

    def logits(self, rows):
        self.forwards += 1
        cond = self.model.forward(self.rows, rows, self.caches[0], self.prompt)
        if self.cfg_scale <= 0:
            return cond
        blind = self.rows.copy()
        blind[:self.prompt] = self.model.mask_row
        un = self.model.forward(blind, rows, self.caches[1], self.prompt)
        return un + np.float32(self.cfg_scale + 1) * (cond - un)

    def commit(self, row, token):
        self.ids[row], self.rows[row] = token, self.model.embedding[token]


def generate(model, prompt_rows, gen_length=128, block_length=128, steps=128, temperature=0.0, cfg_scale=0.0,
             remasking="low_confidence", stopping_criteria=None, generation_suffix=None, seed=0, cache=None,
             replay=None, candidates=False):
    """-> dict of result_ids and the trace, in the fields of the golden runs.

    Never commits a position whose confidence is -inf (the reference's choice there is arbitrary); among equal
    confidences the lowest position wins.
    """
    if gen_length % block_length or steps % (gen_length // block_length):
        raise ValueError("block_length must divide gen_length, and the number of blocks must divide steps")
    text = model.text
    suffix = text.encode(generation_suffix) if generation_suffix else []
    stops = [text.encode(s) for s in stopping_criteria or []]
    d = Decoder(model, prompt_rows, gen_length, suffix, cfg_scale, cache, replay)
    noise = Noise(seed, len(d.rows), text.size)
    begin, end, blocks = d.prompt, d.prompt + gen_length, gen_length // block_length
    stop, found, trace, wasted = end, False, [], 0

    for b in range(blocks):
        lo, hi = begin + b * block_length, begin + (b + 1) * block_length
        if found and stop <= lo:
            break
        quota = schedule(int(d.masked()[lo:hi].sum()), steps // blocks)
        for i, k in enumerate(quota):
            mask = d.masked()
            if not mask[lo:hi].any() or (found and not mask[begin:stop].any()):
                break
            rows = np.flatnonzero(mask)
            forward, logits = d.forwards, d.logits(rows)
            logits[:, text.suppressed] = -np.inf
            scores = gumbel_noise(logits, noise.gumbel(forward, rows), temperature) if temperature else logits
            tokens = scores.argmax(-1)
            if remasking == "random":
                conf = noise.remask(forward, rows).astype(np.float64)
            else:
                top = logits.max(-1, keepdims=True).astype(np.float64)
                chosen = logits[np.arange(len(rows)), tokens].astype(np.float64)
                conf = np.exp(chosen - top[:, 0]) / np.exp(logits.astype(np.float64) - top).sum(-1)
            conf[(rows >= (stop if found else hi)) | (rows >= len(d.rows) - len(suffix))] = -np.inf
            order = np.argsort(-conf, kind="stable")
            live = int(np.isfinite(conf).sum())
            picks = order[:min(k, live)]
            pair = np.partition(logits, -2, -1)[:, -2:]
            step = {
                "block": b, "step": i, "k": int(k), "masks": int(mask[begin:].sum()),
                "prompt_masks": int(mask[:begin].sum()), "candidates": live,
                "picks": [{"pos": int(rows[j] - begin), "token": int(tokens[j]), "conf": float(conf[j]),
                           "logit_gap": float(pair[j, 1] - pair[j, 0])} for j in picks],
                "conf_gap": float(conf[order[k - 1]] - conf[order[k]]) if 0 < k < live else None,
            }
            if candidates:
                step["cand"] = [{"pos": int(r - begin), "token": int(t), "conf": float(c) if np.isfinite(c) else None}
                                for r, t, c in zip(rows, tokens, conf) if r >= begin]
            trace.append(step)
            wasted += max(0, int(k) - live)
            for j in picks:
                d.commit(int(rows[j]), int(tokens[j]))
            for ids in stops:
                at = find(ids, d.ids[begin:end])
                if at >= 0 and (not found or begin + at < stop):
                    stop, found = begin + at, True
                if found:
                    break  # as the reference: once something was found, only the first stop string is looked at

    result = d.ids[begin:stop] + list(suffix)
    least = lambda values: min((v for v in values if v is not None), default=None)
    out = {
        "result_ids": result, "text": text.decode(result), "text_skip_special": text.decode(result, True),
        "prompt_rows": begin, "total_rows": len(d.rows), "forwards": d.forwards, "steps": trace,
        "nonfinite_picks": wasted, "min_conf_gap": least(s["conf_gap"] for s in trace),
        "min_logit_gap": least(p["logit_gap"] for s in trace for p in s["picks"]),
        "finish_reason": "stop" if found else "length",
    }
    if suffix:
        out["suffix_ids"] = suffix
    if stopping_criteria:
        out["stop_ids"] = stops
    if cache and cache["transfer_ratio"] > 0:
        out["cache_rows"] = d.caches[0].chosen
    return out
