"""A model folder of any size without weights: configuration, tokenizer, and the geometry of a small vision tower.

Coordinator and workers take it with `--load-format dummy`. Its tokenizer is the demo model's with the
special tokens numbered as the real ones; the ids between stand for words that no text has.
"""
import json
import pathlib

DEMO = pathlib.Path(__file__).resolve().parents[2] / "models" / "demo"
FIRST_SPECIAL = 126080
SIDE, PATCH, TOWER_WIDTH = 27, 14, 64


def write_json(path, value):
    path.write_text(json.dumps(value))


def write_tokenizer(folder):
    demo = json.loads((DEMO / "tokenizer.json").read_text())
    words = demo["model"]["vocab"]
    first = len(words)
    words.update({f"~{i}~": i for i in range(first, FIRST_SPECIAL)})
    for token in demo["added_tokens"]:
        token["id"] += FIRST_SPECIAL - first
    write_json(folder / "tokenizer.json", demo)


def write_model(folder, width, layers, heads, ff, vocab):
    """A picture in mode PAD is one tile of 27 x 27 patches: 730 rows with the row that ends it."""
    write_tokenizer(folder)
    config = json.loads((DEMO / "config.json").read_text())
    tile = SIDE * PATCH
    config.update(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
                  intermediate_size=ff, vocab_size=vocab, rope_theta=500000.0, mm_hidden_size=TOWER_WIDTH,
                  image_grid_pinpoints=[[tile, tile]])
    write_json(folder / "config.json", config)
    tower = json.loads((DEMO / "vision" / "config.json").read_text())
    tower["vision_config"].update(image_size=tile, hidden_size=TOWER_WIDTH, intermediate_size=2 * TOWER_WIDTH,
                                  num_hidden_layers=3, num_attention_heads=2)
    (folder / "vision").mkdir()
    write_json(folder / "vision" / "config.json", tower)
