"""What the small golden data is made from: random checkpoints, a tokenizer, pictures. All by seed."""
import json

import numpy as np
from PIL import Image, ImageFilter

from . import bpe, checkpoint
from .model import TOWER
from .text import SYSTEM

SPECIAL = ["<|startoftext|>", "<|endoftext|>", "[CLS]", "[gMASK]", "<|reserved_token_0|>", "<|mdm_mask|>",
           "<|reserved_token_253|>", "<role>", "</role>", "<|arithmetic_start|>", "<|arithmetic_end|>",
           "<|number_start|>", "<|number_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CORPUS = [SYSTEM, "user\n\nassistant\n\nsystem\n\n", "Please describe the image in detail. /think /no_think",
          "The cat sits on the red mat, and the dog looks at the cat. Why? Because there is something on it.",
          "What is the difference between the first picture and the second one?  It's larger; they're the same.",
          "A number of people are standing in front of a building:\n\n    it isn't raining, 12 of them don't talk.",
          "On the left there is a bicycle. On the right there are three trees and a small white house.",
          "Answer with one word. The answer is", "Ein Bild sagt mehr als tausend Worte. \u4f60\u597d\u4e16\u754c"]
TINY = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, vocab_size=560, rms_norm_eps=1e-5, rope_theta=500000.0,
            image_aspect_ratio="anyres_max_4", mm_hidden_size=48, attention_bias=False,
            image_grid_pinpoints=[[56 * i, 56 * j] for i in (1, 2, 3) for j in (1, 2, 3)])
TINYGQA = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
               num_key_value_heads=2, vocab_size=528, rms_norm_eps=1e-6, rope_theta=10000.0,
               image_aspect_ratio="anyres_max_2", mm_hidden_size=32, attention_bias=True,
               image_grid_pinpoints=[[44, 88], [88, 44], [88, 88], [132, 44], [44, 132]])
VISION = {"tiny": dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3,
                       image_size=56, patch_size=14),
          "tinygqa": dict(hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2,
                          image_size=44, patch_size=14)}  # two pixels of every side fill no patch


def dump(path, value, indent=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent,
                               separators=(",", ": ") if indent else (",", ":")) + "\n")


def random_tensors(c, v, seed):
    """Random weights at a scale that makes logits spread (std about 4) and attention depend on the place."""
    rng, out = np.random.default_rng(seed), {}
    d, ff, hd = c["hidden_size"], c["intermediate_size"], c["hidden_size"] // c["num_attention_heads"]

    def put(name, *shape, std=None, bias=False, mean=0.0):
        std = shape[-1] ** -.5 if std is None else std
        out[name] = (mean + rng.standard_normal(shape) * std).astype(np.float32)

    def dense(name, rows, columns, gain=1.0, bias=True):
        put(name + ".weight", rows, columns, std=gain * columns ** -.5)
        if bias:
            put(name + ".bias", rows, std=.1)

    put("model.embed_tokens.weight", c["vocab_size"], d, std=1.0)
    put("lm_head.weight", c["vocab_size"], d, std=4 * d ** -.5)
    put("model.norm.weight", d, mean=1.0, std=.05)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        put(at + "input_layernorm.weight", d, mean=1.0, std=.05)
        put(at + "post_attention_layernorm.weight", d, mean=1.0, std=.05)
        kv = c["num_key_value_heads"] * hd
        for name, rows, gain in (("q", d, 1.6), ("k", kv, 1.6), ("v", kv, 1.5), ("o", d, 1.5)):
            dense(at + f"self_attn.{name}_proj", rows, d, gain, c["attention_bias"])
        for name, rows, columns in (("gate", ff, d), ("up", ff, d), ("down", d, ff)):
            dense(at + f"mlp.{name}_proj", rows, columns, 1.3, False)
    w, tower = v["hidden_size"], TOWER
    put(tower + "embeddings.patch_embedding.weight", w, 3, v["patch_size"], v["patch_size"], std=.06)
    put(tower + "embeddings.patch_embedding.bias", w, std=.1)
    put(tower + "embeddings.position_embedding.weight", (v["image_size"] // v["patch_size"]) ** 2, w, std=.5)
    for i in range(v["num_hidden_layers"] - 1):
        at = f"{tower}encoder.layers.{i}."
        for n in ("1", "2"):
            put(f"{at}layer_norm{n}.weight", w, mean=1.0, std=.05)
            put(f"{at}layer_norm{n}.bias", w, std=.05)
        for p in ("q_proj", "k_proj", "v_proj", "out_proj"):
            dense(at + "self_attn." + p, w, w)
        dense(at + "mlp.fc1", v["intermediate_size"], w)
        dense(at + "mlp.fc2", w, v["intermediate_size"])
    put(tower + "post_layernorm.weight", w, mean=1.0, std=.05)
    put(tower + "post_layernorm.bias", w, std=.05)
    dense("model.mm_projector.0", d, w)
    dense("model.mm_projector.2", d, d)
    put("model.image_newline", d, std=1.0)
    for name, t in out.items():  # what bfloat16 and float16 both hold exactly
        t = checkpoint.from_bf16(checkpoint.to_bf16(t))
        out[name] = np.where(np.abs(t) < 2.0 ** -14, np.float32(0), t)
    return out


def write_model(root, name, c, seed, shards=1):
    directory, v, raw = root / name, VISION[name], bpe.train(CORPUS, 512, SPECIAL)
    ids = {t["content"]: t["id"] for t in raw["added_tokens"]}
    c = dict(architectures=["LlavaLLaDAModelLM"], model_type="llava_llada", hidden_act="silu",
             bos_token_id=ids["<|startoftext|>"], eos_token_id=ids["<|endoftext|>"], max_position_embeddings=16384,
             mm_newline_position="grid", mm_patch_merge_type="spatial_unpad", mm_projector_type="mlp2x_gelu",
             mm_spatial_pool_mode="bilinear", mm_spatial_pool_stride=None, mm_use_im_patch_token=False,
             mm_use_im_start_end=False, mm_vision_select_feature="patch", mm_vision_select_layer=-2,
             mm_vision_tower="siglip-" + name, pretraining_tp=1, rope_scaling=None, tie_word_embeddings=False,
             tokenizer_model_max_length=16384, tokenizer_padding_side="right", torch_dtype="bfloat16",
             use_cache=False, **c)
    dump(directory / "config.json", c)
    dump(directory / "generation_config.json", dict(bos_token_id=c["bos_token_id"], eos_token_id=c["eos_token_id"]))
    dump(directory / "tokenizer.json", raw, indent=None)
    dump(directory / "tokenizer_config.json", bpe.config())
    dump(directory / "special_tokens_map.json", bpe.NAMES)
    dump(root / (name + "-siglip") / "config.json", dict(model_type="siglip", vision_config=dict(
        model_type="siglip_vision_model", num_channels=3, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, **v)))

    w = random_tensors(c, v, seed)
    order = sorted(w)
    if shards == 1:
        checkpoint.write_safetensors(directory / "model.safetensors", w, bf16=order)
        return
    where = {}
    for i in range(shards):
        part = order[i * len(order) // shards:(i + 1) * len(order) // shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        checkpoint.write_safetensors(directory / file, {k: w[k] for k in part}, bf16=part)
        where.update({k: file for k in part})
    dump(directory / "model.safetensors.index.json",
         dict(metadata=dict(total_size=2 * sum(t.size for t in w.values())), weight_map=where))


def write_pictures(root):
    """Small pictures of every kind that has its own path through a decoder."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20240)

    def picture(w, h):
        y, x = np.mgrid[0:h, 0:w]
        waves = [np.sin(x / a + k) + np.cos(y / b - k) for k, (a, b) in enumerate(((7, 11), (13, 5), (9, 17)))]
        a = 128 + 50 * np.stack(waves, -1) + rng.normal(0, 9, (h, w, 3))
        return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8), "RGB").filter(ImageFilter.GaussianBlur(.6))

    picture(72, 48).save(root / "rgb.png")
    picture(37, 91).save(root / "rgb420.jpg", quality=88)
    picture(150, 31).save(root / "wide.png")
    picture(56, 56).save(root / "exact56.png")
    picture(64, 50).save(root / "progressive444.jpg", quality=80, subsampling=0, progressive=True)
    picture(40, 33).convert("L").save(root / "gray.jpg", quality=90)
    picture(40, 33).convert("L").save(root / "gray.png")
    Image.fromarray((np.arange(19 * 23, dtype=np.uint16) % 400).reshape(19, 23)).save(root / "gray16.png")
    picture(50, 41).convert("1").save(root / "bilevel.png")
    picture(48, 39).quantize(17).save(root / "palette.png")
    p = picture(48, 39).quantize(16)
    p.save(root / "palette_trns.png", transparency=3)
    alpha = Image.fromarray(rng.integers(0, 256, (35, 44), dtype=np.uint8), "L")
    Image.merge("LA", (picture(44, 35).convert("L"), alpha)).save(root / "la.png")
    Image.merge("RGBA", (*picture(44, 35).split(), alpha)).save(root / "rgba.png")
    picture(43, 37).convert("CMYK").save(root / "cmyk.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(45, 30).save(root / "exif_rotated.jpg", quality=90, exif=exif)
    picture(90, 1).save(root / "thin_h1.png")
    picture(46, 34).save(root / "lossless.webp", lossless=True)
    for i in range(3):
        picture(36, 27).save(root / f"frame{i}.png")
