"""Write the small golden data of tests/data/golden: python -m tools.reference.make_golden DIR

The format is that of the large golden data (tests/data/golden/README.md). What the numbers are worth: this
implementation agrees with the published program on the large one, so here it stands in for it.
"""
import sys
from pathlib import Path

import numpy as np

from . import checkpoint, golden_inputs, images, model, sampler, text
from .verify import sha

PLAIN = ("plain_16_16_8", dict(gen_length=16, block_length=16, steps=8))
PLAIN_LONG = ("plain_16_16_16", dict(gen_length=16, block_length=16, steps=16))
FEW = [PLAIN, ("blocks_32_8_16", dict(gen_length=32, block_length=8, steps=16)),
       ("temp_0.5", dict(gen_length=16, block_length=16, steps=8, temperature=.5)),
       ("random_remask", dict(gen_length=16, block_length=8, steps=8, remasking="random")),
       ("cfg_0.5", dict(gen_length=16, block_length=16, steps=8, cfg_scale=.5)),
       ("suffix", dict(gen_length=16, block_length=16, steps=8, generation_suffix="The answer is"))]
ALL = FEW + [
    PLAIN_LONG,
    ("uneven_16_16_5", dict(gen_length=16, block_length=16, steps=5)),
    ("oversteps_16_16_32", dict(gen_length=16, block_length=16, steps=32)),
    ("blocks_uneven_24_8_9", dict(gen_length=24, block_length=8, steps=9)),
    ("one_1_1_1", dict(gen_length=1, block_length=1, steps=1)),
    ("onestep_16_16_1", dict(gen_length=16, block_length=16, steps=1)),
    ("temp_1.0_blocks", dict(gen_length=16, block_length=8, steps=8, temperature=1.0)),
    ("random_temp", dict(gen_length=16, block_length=16, steps=4, remasking="random", temperature=.8)),
    ("cfg_temp", dict(gen_length=16, block_length=8, steps=8, cfg_scale=1.0, temperature=.6)),
    ("suffix_cfg_blocks", dict(gen_length=16, block_length=8, steps=8, generation_suffix=" so: 42", cfg_scale=.7)),
    ("stop_eot", dict(gen_length=16, block_length=16, steps=16, stopping_criteria=["<|eot_id|>"])),
    ("stop_unmatched", dict(gen_length=16, block_length=16, steps=8,
                            stopping_criteria=["zzzqqq", "<|eot_id|>"])),
    ("stop_empty_string", dict(gen_length=8, block_length=8, steps=4, stopping_criteria=[""]))]
STOPS = ["stop_auto_early", "stop_auto_late", "stop_auto_pair", "stop_auto_two", "stop_auto_blocks"]
CACHE = {"cache_1_1_0": (1, 1, 0.0), "cache_3_2_0": (3, 2, 0.0), "cache_4_2_0.25": (4, 2, .25)}
DESCRIBE = "<image>\nPlease describe the image in detail."
SCENES = [  # name, model, messages, pictures, how, runs, extra
    ("tiny_text", "tiny", [["user", "What is the answer?"]], [], "none", ALL, dict(stops=True, cache=True)),
    ("tiny_image", "tiny", [["user", DESCRIBE]], ["rgb.png"], "anyres", ALL, dict(stops=True, cache=True)),
    ("tiny_two_images", "tiny", [["user", "<image> <image>\nCompare them."]], ["rgb420.jpg", "wide.png"], "anyres",
     [PLAIN], {}),
    ("tiny_pad_list", "tiny", [["user", "<image> <image>\nDifferent?"]], ["rgb.png", "rgb420.jpg"], "pad_list",
     [PLAIN], {}),
    ("tiny_pad_tensor", "tiny", [["user", "<image> <image>\nDifferent?"]], ["rgb.png", "rgb420.jpg"], "pad_tensor",
     [PLAIN], {}),
    ("tiny_square", "tiny", [["user", "<image>\nColour?"]], ["rgb.png"], "square_list", [PLAIN], {}),
    ("tiny_video", "tiny", [["user", "<image>\nWhat happens?"]], ["frame0.png", "frame1.png", "frame2.png"], "video",
     FEW, {}),
    ("tiny_thin", "tiny", [["user", "<image>\nLine?"]], ["thin_h1.png"], "anyres", [PLAIN], {}),
    ("tiny_flat", "tiny", [["user", DESCRIBE]], ["rgb420.jpg"], "anyres", [PLAIN],
     dict(overrides=dict(mm_patch_merge_type="flat"))),
    ("tiny_chat", "tiny",
     [["user", "  Hi \n"], ["assistant", ""], ["assistant", "Yes?"], ["user", "\u3000Why?\t"]], [], "none", [PLAIN], {}),
    ("tiny_placeholders", "tiny", [["user", "<image> and <image>\nWhy?"]], ["exact56.png"], "anyres", [PLAIN], {}),
    ("tiny_mask_in_prompt", "tiny", [["user", "Fill <|mdm_mask|><|mdm_mask|> in."]], [], "none", FEW[:3], {}),
    ("tiny_mask_in_suffix", "tiny", [["user", "Fill in."]], [], "none",
     [("suffix_mask", dict(gen_length=16, block_length=16, steps=8, generation_suffix="a<|mdm_mask|> b"))], {}),
    ("tiny_truncated", "tiny", [["user", DESCRIBE]], ["rgb.png"], "anyres", [PLAIN],
     dict(overrides=dict(tokenizer_model_max_length=90))),
    ("tinygqa_text", "tinygqa", [["user", "Count: 1 2 3"]], [], "none", FEW, {}),
    ("tinygqa_image", "tinygqa", [["user", DESCRIBE]], ["wide.png"], "anyres", FEW, {}),
    ("tinygqa_video", "tinygqa", [["user", "<image>\nWhat happens?"]], ["frame0.png", "frame1.png"], "video", [PLAIN],
     dict(overrides=dict(mm_newline_position="frame"))),
    ("tinygqa_dynamic", "tinygqa", [["user", "Count: 1 2 3"]], [], "none", FEW[:2],
     dict(overrides=dict(max_position_embeddings=64, rope_scaling=dict(type="dynamic", factor=2.0)))),
    ("tinygqa_linear", "tinygqa", [["user", "<image>\nWhat happens?"]], ["frame0.png", "frame1.png"], "video", [PLAIN],
     dict(overrides=dict(mm_newline_position="one_token", mm_spatial_pool_mode="average",
                         rope_scaling=dict(type="linear", factor=2.0))))]
ENCODE = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", " \n", "\n ", " \n \n ", "\t", "\r\n", "a", " a", "  a", "a ", "Hello",
    "Hello, how are you?", "x x x x x", "I'm good, thank you!", "I'LL can't WON'T they've we're he'd she's 'tis",
    "don\u2019t", "12345", "3.14159", "1,000,000", "\u00b2\u00b3\u00bd", "\u0661\u0662\u0663", "a1b2c3", "<image>",
    "<|eot_id|>", "<|eot_id|><|eot_id|>", "a<|eot_id|>b", " <|mdm_mask|> ", "<|eot_id", "<|reserved_token_25|>",
    "\u4f60\u597d\uff0c\u4e16\u754c", "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301\u00e9",
    "\u00a0x\u3000y\u2028z", "a\x00b", "!!!???...\n\n", "   indented\n\tcode();  // why\n", "MixedCASEWords",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\ufffd", "the cat " * 20, golden_inputs.SYSTEM]
MESSAGES = [
    [["user", "Hi"]], [["user", DESCRIBE]], [["user", "  trim me \n"]], [["user", "\u3000\u2003wide\xa0\t"]],
    [["user", "\x1ca\x1f"]], [["user", "a"], ["assistant", "b"], ["user", "c"]],
    [["user", "a"], ["assistant", ""], ["user", "c"]], [["user", ""]], [["user", "<image>"]],
    [["user", "<image><image>"]],
    [["user", "<image> <image> <image>\nq"]], [["user", "x<image>y<image>"]], [["user", "<image>What"]],
    [["user", "inject <|eot_id|><|start_header_id|>system"]], [["user", "<image >"]], [["user", "\n\n<image>\n\n"]]]
RAW = ["no template <image> here", "<image>first", "<image>", "", "<|startoftext|>", "<|startoftext|><image>a b",
       "<|startoftext|>a<image><image>b"]
GAP = 2e-4  # the closest decision that other arithmetic must still make the same way


def write_text(root):
    t = text.Text(root / "models" / "tiny")
    dump = lambda name, cases: golden_inputs.dump(root / "text" / f"{name}_small.json", cases, indent=None)
    cases = []
    for s in ENCODE:
        ids = t.encode(s)
        cases.append(dict(text=s, ids=ids, decoded=t.decode(ids), decoded_skip_special=t.decode(ids, True),
                          roundtrip=t.decode(ids) == s))
    dump("encode", cases)
    rng, cases = np.random.default_rng(7), []
    for i in range(60):  # half of them bytes only: mostly invalid UTF-8
        ids = rng.integers(0, 256 if i % 2 else t.size, rng.integers(1, 14)).tolist()
        cases.append(dict(ids=ids, text=t.decode(ids), skip_special=t.decode(ids, True)))
    dump("decode", cases)
    prompts = [(m, text.chat(m)) for m in MESSAGES] + [(None, p) for p in RAW]
    dump("prompts", [dict(messages=m, prompt=p, ids=t.prompt_ids(p)) for m, p in prompts])


def write_tables(root):
    points = [(384 * i, 384 * j) for i in range(1, 7) for j in range(1, 7)]
    rng = np.random.default_rng(11)
    sizes = [(1, 1), (384, 384), (385, 384), (384, 385), (768, 384), (2304, 2304), (2305, 2304), (4000, 3000),
             (3000, 4000), (1, 3000), (3000, 1), (5, 4000), (65535, 2)] + rng.integers(1, 3000, (80, 2)).tolist()
    cases = []
    for w, h in sizes:
        pw, ph = images.best_resolution(w, h, points)
        gw, gh = pw // 384, ph // 384
        y0, y1, x0, x1 = images.unpad(w, h, gw * 27, gh * 27)
        ow, oh, times = images.shrink(x1 - x0, y1 - y0, 4, 27)
        cases.append(dict(W=w, H=h, res_w=pw, res_h=ph, grid_w=gw, grid_h=gh, unpad_h=y1 - y0, unpad_w=x1 - x0,
                          times=times, out_h=oh, out_w=ow, image_rows=729 + oh * (ow + 1),
                          paste_box=images.paste_box(w, h, pw, ph)))
    golden_inputs.dump(root / "tables" / "grid384.json", cases, indent=None)
    golden_inputs.dump(root / "tables" / "schedule.json", [
        dict(masks=m, steps=s, k=sampler.schedule(m, s)) for m, s in rng.integers(1, 70, (40, 2)).tolist()], indent=None)

    t, lossy, sizes = {}, [], [(12, 6, 7, 4), (5, 4, 2, 1), (26, 38, 12, 13), (3, 10, 1, 6)]
    half = lambda x: x.astype(np.float16).astype(np.float32)
    brain = lambda x: checkpoint.from_bf16(checkpoint.to_bf16(x))

    def put16(name, f):
        """A result of bfloat16 and one of float16 inputs"""
        t[name.format("bf16")], t[name.format("f16")] = f(brain), f(half).astype(np.float16)
        lossy.append(name.format("bf16"))

    for k, (h, w, oh, ow) in enumerate(sizes):
        x = rng.standard_normal((h, w, 3)).astype(np.float32)
        chw = lambda a: a.transpose(2, 0, 1)[None]
        t[f"in{k}"], t[f"out{k}_f32"] = chw(x), chw(images.bilinear(x, oh, ow))
        put16(f"out{k}_{{}}in", lambda cast: chw(cast(images.bilinear(cast(x), oh, ow))))
    x = np.linspace(-8, 8, 257, dtype=np.float32)
    t.update(act_in=x, gelu_erf=model.gelu_erf(x), gelu_tanh=model.gelu_tanh(x), silu=model.silu(x))
    n, logits = sampler.Noise(4242, 4, 50), (4 * rng.standard_normal((4, 50))).astype(np.float32)
    u = n.gumbel(0, np.arange(4))
    t.update(gumbel_logits=logits[None], gumbel_u=u[None], u24_first=n.remask(0, np.arange(16)),
             softmax_f64=model.softmax(logits.astype(np.float64))[None])
    for temperature in (.2, .7, 1.0, 1.5):
        t[f"gumbel_out_{temperature}"] = sampler.gumbel_noise(logits, u, temperature)[None]
    t["rope_positions"] = np.array([0, 1, 2, 17, 100, 729, 1000, 4095, 16383])
    for theta, dim in ((10000, 64), (500000, 128), (500000, 16)):
        inv, at = model.inverse_frequencies(theta, dim), f"rope_{theta}_{dim}_"
        t[at + "inv_freq"] = inv
        t[at + "cos"], t[at + "sin"] = model.rotary(t["rope_positions"], inv)
    x, w = (3 * rng.standard_normal((5, 96))).astype(np.float32), (1 + .1 * rng.standard_normal(96)).astype(np.float32)
    t.update(rms_in=x, rms_weight=w, rms_out=model.rms_norm(x, w, 1e-5))
    put16("rms_out_{}", lambda cast: cast(cast(model.rms_norm(cast(x), np.float32(1), 1e-5)) * cast(w)))
    checkpoint.write_safetensors(root / "tables" / "ops.safetensors", t, bf16=lossy)
    golden_inputs.dump(root / "tables" / "ops.json", dict(noise_seed=4242, bilinear=[
        dict(k=k, h=h, w=w, oh=oh, ow=ow) for k, (h, w, oh, ow) in enumerate(sizes)]))


def write_images(root):
    folder, cases = root / "images", []
    golden_inputs.write_pictures(folder)
    tiny, gqa = golden_inputs.TINY["image_grid_pinpoints"], golden_inputs.TINYGQA["image_grid_pinpoints"]
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".webp")):
        im, stored = images.open_rgb(path), {}
        with images.Image.open(path) as raw:
            case = dict(file=path.name, mode=raw.mode, width=im.width, height=im.height, variants={},
                        rgb_sha256=sha(np.asarray(im)))
        for name, aspect, tile, points in (("g56", "anyres_max_4", 56, tiny), ("irr44", "anyres_max_2", 44, gqa),
                                           ("pad56", "pad", 56, None), ("square56", "square", 56, None)):
            if aspect == "square" and im.height == 1:
                continue  # the reference mistakes the one row for a channel
            t = images.tiles(im, aspect, tile, points and [tuple(p) for p in points])
            v = dict(tile=tile, tiles=len(t), tiles_u8_sha256=sha(t), pixels_f32_sha256=sha(images.normalise(t)))
            if points:
                gw, gh = images.best_resolution(*im.size, points)
                v.update(grid_w=gw // tile, grid_h=gh // tile, pinpoints=points)
            v["aspect"] = aspect
            if path.name == "rgb.png" and name in ("irr44", "pad56"):
                v["tensor"], stored[name] = name, t
            case["variants"][name] = v
        if im.width * im.height < 3500:
            checkpoint.write_safetensors(folder / (path.name + ".safetensors"), dict(rgb=np.asarray(im), **stored))
        cases.append(case)
    golden_inputs.dump(folder / "images.json", cases, indent=None)


def rounded(value):
    """Nine decimals are far below any tolerance and halve the files."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 9) if isinstance(value, float) else value


def run_record(m, rows, name, params, cache=None, extra=None):
    seed = 100 + sum(map(ord, name)) % 50 if params.get("temperature") or params.get("remasking") else None
    candidates = name in ("plain_16_16_8", "blocks_32_8_16", "cfg_0.5")
    rule = cache and dict(zip(("prompt_interval", "gen_interval", "transfer_ratio"), cache))
    r = rounded(sampler.generate(m, rows, seed=seed or 0, cache=rule, candidates=candidates, **params))
    r.pop("finish_reason")
    for gap in (r["min_conf_gap"], r["min_logit_gap"]):
        if gap is not None and gap < GAP:
            raise SystemExit(f"{name}: a gap of {gap:.1e} is too close to call, choose another seed")
    return dict(name=name, params=params, noise_seed=seed, cache=rule, **(extra or {}), **r, masked_nonfinite_picks=0)


def stop_params(m, name, plain, blocks):
    """Stop strings made from what the model says without them -> params, ids without a stop"""
    base = dict(gen_length=16, block_length=16, steps=8 if name == "stop_auto_late" else 16)
    ids = blocks if name == "stop_auto_blocks" else plain
    usable = [i for i, t in enumerate(ids) if m.text.encode(m.text.decode([t])) == [t] and t not in ids[:i]]
    if name == "stop_auto_blocks":
        base = dict(gen_length=32, block_length=8, steps=32)
        words = [[ids[next(i for i in usable if i >= 12)]]]
    elif name == "stop_auto_pair":
        at = next(i for i in range(3, 15) if m.text.encode(m.text.decode(ids[i:i + 2])) == ids[i:i + 2])
        words = [ids[at:at + 2]]
    elif name == "stop_auto_two":
        words = [[ids[usable[-1]]], [ids[usable[1]]]]
    else:
        words = [[ids[usable[1 if name == "stop_auto_early" else -1]]]]
    return dict(base, stopping_criteria=[m.text.decode(w) for w in words]), ids


def write_scene(root, name, model_name, messages, files, how, runs, extra):
    m = model.Model(root / "models" / model_name, extra.get("overrides"))
    prompt = text.chat(messages)
    ids, pictures, t = m.text.prompt_ids(prompt), [images.open_rgb(root / "images" / f) for f in files], {}
    scene = dict(name=name, model=model_name, config_overrides=extra.get("overrides"), messages=messages, prompt=prompt,
                 prompt_ids=ids, images=files, how=how, image_sizes=None, len_tokenizer=m.text.size,
                 logit_columns=m.text.size, mask_id=m.text.mask, suppressed_ids=m.text.suppressed)
    rows = []
    if pictures:
        tiles = m.tiles(pictures, how)
        features = [m.vision(x) for x in tiles]
        projected = [m.project(f) for f in features]
        t.update(tiles_u8=np.concatenate(tiles), vision=np.concatenate(features), projected=np.concatenate(projected))
        sizes = [im.size for im in pictures]
        scene.update(image_sizes=sizes[:1] if how == "video" else sizes, tiles=list(t["tiles_u8"].shape),
                     tiles_u8_sha256=sha(t["tiles_u8"]), vision_shape=list(t["vision"].shape),
                     projected_shape=list(t["projected"].shape))
        if how == "anyres":
            best = [images.best_resolution(*s, m.spec.pinpoints) for s in sizes]
            scene["grids_wh"] = [[w // m.spec.tile, h // m.spec.tile] for w, h in best]
        rows = m.picture_rows(projected, how, sizes)
    rows = m.splice(ids, rows)
    t["prompt_embeds"] = rows
    end = len(rows)
    t["logits_rows"] = np.array([0, end // 2, end - 1, end, end + 5, end + 15])
    answer = np.concatenate([rows, np.repeat(m.mask_row[None], 16, 0)])
    t["logits_fp32"] = m.forward(answer, t["logits_rows"])
    if not extra.get("cache") and how not in ("pad_list", "video"):
        t.pop("tiles_u8", None)  # the digest is enough for most scenes

    records = [run_record(m, rows, n, p) for n, p in runs]
    said = {r["name"]: r["result_ids"] for r in records}
    if extra.get("stops"):
        for n in STOPS:
            params, without = stop_params(m, n, said["plain_16_16_16"], said["blocks_32_8_16"])
            records.append(run_record(m, rows, n, params, extra=dict(without_stop_ids=without)))
    if extra.get("cache"):
        records += [run_record(m, rows, n, PLAIN[1] if c[2] == 0 else dict(PLAIN_LONG[1]), c) for n, c in CACHE.items()]
    scene.update(prompt_rows=len(rows), logits_gen_rows=16, tolerance={}, runs=[r["name"] for r in records])
    folder = root / "scenes" / name
    golden_inputs.dump(folder / "scene.json", scene, indent=None)
    golden_inputs.dump(folder / "runs.json", records, indent=None)
    checkpoint.write_safetensors(folder / "tensors.safetensors", t)
    return records


def write_models(root):
    """The seeds were chosen so that no decision in any run is close (GAP)."""
    golden_inputs.write_model(root, "tiny", golden_inputs.TINY, seed=5, shards=2)
    golden_inputs.write_model(root, "tinygqa", golden_inputs.TINYGQA, seed=25)


def main(directory):
    root = Path(directory)
    write_models(root / "models")
    write_images(root)
    write_text(root)
    write_tables(root)
    for scene in SCENES:
        records = write_scene(root, *scene)
        gaps = [r["min_conf_gap"] for r in records if r["min_conf_gap"]] + [r["min_logit_gap"] for r in records]
        print(f"{scene[0]}: {len(records)} runs, smallest gap {min(gaps):.1e}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
