"""What a checkpoint says about itself: config.json, and the vision tower's geometry, which has its own file."""
import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Spec:
    width: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    eps: float
    theta: float
    rope_scaling: dict | None
    positions_max: int
    length_max: int
    tile: int
    patch: int
    vision_layers: int
    vision_heads: int
    vision_eps: float
    vision_dir: Path | None  # where to look for the tower when the checkpoint has none
    aspect: str
    merge: str
    pinpoints: list
    newline: str
    pool: str
    projector: str

    @property
    def side(self):
        """Patches along one side of a tile; pixels that fill no patch are ignored."""
        return self.tile // self.patch


def pinpoints(value, tile):
    """The grid list, which may be a list, its Python literal, or "(AxB),...,(CxD)" in tiles."""
    if isinstance(value, str) and "x" in value:
        pairs = [tuple(map(int, p)) for p in re.findall(r"\((\d+)x(\d+)\)", value)]
        (a, b), (c, d) = pairs[0], pairs[-1]
        value = [[i * tile, j * tile] for i in range(a, c + 1) for j in range(b, d + 1)]
    elif isinstance(value, str):
        value = ast.literal_eval(value)
    return [tuple(p) for p in value or []]


def load(directory, overrides=None):
    directory = Path(directory)
    c = dict(json.loads((directory / "config.json").read_text()), **(overrides or {}))
    beside = [directory / "vision", directory.with_name(directory.name + "-siglip")]
    vision_dir = next((d for d in beside if (d / "config.json").exists()), None)
    v = json.loads((vision_dir / "config.json").read_text()) if vision_dir else {}
    v = v.get("vision_config", v)
    tile = v.get("image_size", 384)
    return Spec(
        width=c.get("hidden_size", 4096),
        layers=c.get("num_hidden_layers", 32),
        heads=c.get("num_attention_heads", 32),
        kv_heads=c.get("num_key_value_heads") or c.get("num_attention_heads", 32),
        vocab=c.get("vocab_size", 32000),
        eps=c.get("rms_norm_eps", 1e-6),
        theta=c.get("rope_theta", 10000.0),
        rope_scaling=c.get("rope_scaling"),
        positions_max=c.get("max_position_embeddings", 2048),
        length_max=c.get("tokenizer_model_max_length") or 16384,
        tile=tile,
        patch=v.get("patch_size", 14),
        vision_layers=v.get("num_hidden_layers", 27) - 1,  # the last one is never run
        vision_heads=v.get("num_attention_heads", 16),
        vision_eps=v.get("layer_norm_eps", 1e-6),
        vision_dir=vision_dir,
        aspect=c.get("image_aspect_ratio") or "square",
        merge=c.get("mm_patch_merge_type") or "flat",
        pinpoints=pinpoints(c.get("image_grid_pinpoints"), tile),
        newline=c.get("mm_newline_position") or "one_token",
        pool=c.get("mm_spatial_pool_mode") or "bilinear",
        projector=c.get("mm_projector_type") or "linear",
    )
