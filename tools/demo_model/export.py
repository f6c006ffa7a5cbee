"""A trained model as a checkpoint directory in the published layout (bfloat16), and back."""
import shutil
from pathlib import Path

import torch

from tools.reference import checkpoint
from tools.reference.golden_inputs import dump

from . import model as M
from . import tiles, tokenizer


def config(c, text):
    return dict(
        architectures=["LlavaLLaDAModelLM"], model_type="llava_llada", attention_bias=False, attention_dropout=0.0,
        bos_token_id=text.bos, eos_token_id=text.suppressed[0], hidden_act="silu", hidden_size=c["d"],
        image_aspect_ratio="anyres_max_4", image_crop_resolution=None, image_split_resolution=None,
        image_grid_pinpoints=tiles.PINPOINTS, initializer_range=0.02, intermediate_size=c["ff"],
        max_position_embeddings=4096, mm_hidden_size=c["v_d"], mm_newline_position="grid",
        mm_patch_merge_type="spatial_unpad", mm_projector_lr=None, mm_projector_type="mlp2x_gelu",
        mm_resampler_type=None, mm_spatial_pool_mode="bilinear", mm_spatial_pool_stride=None,
        mm_tunable_parts="mm_vision_tower,mm_mlp_adapter,mm_language_model", mm_use_im_patch_token=False,
        mm_use_im_start_end=False, mm_vision_select_feature="patch", mm_vision_select_layer=-2,
        mm_vision_tower="siglip-demo-patch14-84", mm_vision_tower_lr=None, num_attention_heads=c["heads"],
        num_hidden_layers=c["layers"], num_key_value_heads=c["heads"], pos_skipping_range=4096, pretraining_tp=1,
        rms_norm_eps=c["eps"], rope_scaling=None, rope_theta=c["theta"], tie_word_embeddings=False, tokenizer_model_max_length=4096,
        tokenizer_padding_side="right", torch_dtype="bfloat16", transformers_version="4.43.1",
        use_cache=False, use_mm_proj=True, use_pos_skipping=False, vision_tower_pretrained=None,
        vocab_size=c["vocab"])


def vision_config(c):
    """Counts one layer more than the file holds: readers drop the last one, as with the real tower."""
    return dict(model_type="siglip", architectures=["SiglipModel"], text_config=dict(hidden_size=c["v_d"]),
                vision_config=dict(
                    model_type="siglip_vision_model", hidden_size=c["v_d"], intermediate_size=c["v_ff"],
                    num_hidden_layers=c["v_layers"] + 1, num_attention_heads=c["v_heads"], num_channels=3,
                    image_size=c["tile"], patch_size=c["patch"], hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
                    attention_dropout=0.0))


def write(trained, tokenizer_dir, directory):
    """`trained`: what train.py wrote"""
    directory, state = Path(directory), torch.load(trained, weights_only=True, map_location="cpu")
    text, weights = tokenizer.Text(tokenizer_dir), {}
    for name, t in state["ema"].items():
        t = t.to(torch.bfloat16).float().numpy()
        t[abs(t) < 2.0 ** -14] = 0  # so that float16 holds the same numbers exactly
        weights[name] = t
    dump(directory / "config.json", config(state["config"], text))
    dump(directory / "vision" / "config.json", vision_config(state["config"]))
    dump(directory / "generation_config.json", dict(bos_token_id=text.bos, eos_token_id=text.suppressed[0],
                                                       transformers_version="4.43.1"))
    checkpoint.write_safetensors(directory / "model.safetensors", weights, bf16=list(weights))
    for f in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(Path(tokenizer_dir) / f, directory)


def read(directory):
    """-> the network in fp32, its tokenizer"""
    directory = Path(directory)
    c, v = (checkpoint.json.loads((directory / f).read_text()) for f in ("config.json", "vision/config.json"))
    v = v["vision_config"]
    net = M.LLaDAV(dict(
        vocab=c["vocab_size"], d=c["hidden_size"], layers=c["num_hidden_layers"], heads=c["num_attention_heads"],
        ff=c["intermediate_size"], theta=c["rope_theta"], eps=c["rms_norm_eps"], v_d=v["hidden_size"],
        v_layers=v["num_hidden_layers"] - 1, v_heads=v["num_attention_heads"], v_ff=v["intermediate_size"],
        tile=v["image_size"], patch=v["patch_size"]))
    net.load_state_dict({k: torch.from_numpy(t) for k, t in checkpoint.load(directory).items()})
    return net.eval(), tokenizer.Text(directory)
