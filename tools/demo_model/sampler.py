"""The denoising loop of tools/reference for a batch of prompts: temperature 0, low-confidence remasking, stop at
<|eot_id|>."""
import torch

from . import batching


@torch.no_grad()
def generate(net, text, features, size, questions, gen_length=64, steps=None, block_length=None):
    """features: tower rows [B, T, n, v_d] of pictures of one size -> B id lists (cut before the stop), forwards [B]"""
    steps, block = steps or gen_length, block_length or gen_length
    if gen_length % block or steps % (gen_length // block):
        raise ValueError("block_length must divide gen_length, and the number of blocks must divide steps")
    per_block = steps // (gen_length // block)
    rows, head = net.image_rows(features, *size), text.head()
    b, device, start = len(rows), rows.device, len(head) + rows.shape[1]
    prefix = torch.cat([net.embed(head, rows.dtype).expand(b, -1, -1), rows], 1)
    batch = batching.make(text, [batching.Item(text.tail(q), [], gen_length) for q in questions]).to(device)
    column = torch.arange(gen_length, device=device)
    ids, at = batch.ids, batch.start[:, None] + column  # [B, G] answer rows
    stop = torch.full((b,), gen_length, device=device)  # first <|eot_id|> seen
    forwards = torch.zeros(b, dtype=torch.long)
    for lo in range(0, gen_length, block):
        hi = lo + block
        base, extra = divmod(block, per_block)
        for i in range(per_block):
            masked = ids.gather(1, at) == text.mask
            live = (masked & (column < stop[:, None])).any(1) & masked[:, lo:hi].any(1) & (stop > lo)
            if not live.any():
                break
            live = live.nonzero()[:, 0]
            bias = torch.nn.functional.pad(batch.bias[live], (start, 0))[:, None, None]
            x = torch.cat([prefix[live], net.embed(ids[live], rows.dtype)], 1)
            h = net.backbone(x, bias)[:, start:]
            logits = net.lm_head(h.gather(1, at[live][..., None].expand(-1, -1, h.shape[-1]))).float()
            forwards[live.cpu()] += 1
            logits[..., text.suppressed] = -torch.inf
            best = logits.argmax(-1)
            conf = torch.softmax(logits.double(), -1).gather(-1, best[..., None])[..., 0]
            limit = torch.where(stop[live] < gen_length, stop[live], hi)
            conf[(column >= limit[:, None]) | ~masked[live]] = -torch.inf
            for r, row in enumerate(live.tolist()):
                count = min(base + (i < extra), int(torch.isfinite(conf[r]).sum()))
                picks = torch.sort(conf[r], descending=True, stable=True).indices[:count]
                ids[row, at[row, picks]] = best[r, picks]
                ends = (ids[row, at[row]] == text.eot).nonzero()
                if len(ends):
                    stop[row] = torch.minimum(stop[row], ends[0, 0])
    out = ids.gather(1, at)
    return [out[r, :stop[r]].tolist() for r in range(b)], forwards
