"""tools/reference against the golden data: the committed one, and the large one where it is present."""
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.reference import checkpoint, make_golden, verify  # noqa: E402

SMALL = ROOT / "tests" / "data" / "golden"
LARGE = Path(os.environ.get("RMK_REFERENCE", ROOT / ".." / "shared" / "reference")) / "golden"
# Two runs on different processors differ in the last bits only; a changed formula moves a confidence by 1e-3.
TOLERANCE = 1e-4


def close(a, b):
    """Equal in form, names and integers; nearly equal in floats."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))
    return abs(a - b) < TOLERANCE if isinstance(a, float) and isinstance(b, float) else a == b


@pytest.mark.parametrize("name", ["tiny_image", "tinygqa_text"])
def test_a_scene_made_again_equals_the_committed_one(name, tmp_path):
    for part in ("models", "images"):
        (tmp_path / part).symlink_to(SMALL / part)
    make_golden.write_scene(tmp_path, *next(s for s in make_golden.SCENES if s[0] == name))
    new, old = tmp_path / "scenes" / name, SMALL / "scenes" / name
    for file in ("scene.json", "runs.json"):
        assert close(json.loads((new / file).read_text()), json.loads((old / file).read_text())), file
    a, b = (checkpoint.read_safetensors(d / "tensors.safetensors") for d in (new, old))
    assert a.keys() == b.keys()
    for k in a:
        assert np.allclose(a[k], b[k], rtol=0, atol=5e-4), k


def test_models_made_again_are_the_committed_bytes(tmp_path):
    make_golden.write_models(tmp_path)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(SMALL / "models") for p in (SMALL / "models").rglob("*") if p.is_file())
    for f in files:
        assert (tmp_path / f).read_bytes() == (SMALL / "models" / f).read_bytes(), f


def test_every_committed_case_agrees(capsys):
    assert verify.verify(SMALL) == 0, capsys.readouterr().out


def test_a_wrong_token_is_reported(tmp_path, capsys):
    for part in ("models", "images", "text", "tables"):
        (tmp_path / part).symlink_to(SMALL / part)
    scene = tmp_path / "scenes" / "tiny_chat"
    shutil.copytree(SMALL / "scenes" / "tiny_chat", scene)
    runs = json.loads((scene / "runs.json").read_text())
    runs[0]["result_ids"][3] += 1
    (scene / "runs.json").write_text(json.dumps(runs))
    assert verify.verify(tmp_path, "tiny_chat") == 1
    assert "FAIL scenes/tiny_chat plain_16_16_8 result_ids" in capsys.readouterr().out


@pytest.mark.skipif(not LARGE.exists(), reason="the large golden data is not here")
@pytest.mark.parametrize("name", ["text/", "tables", "mha_image_portrait", "gqa_image", "variant_text",
                                  "selfmask_text", "mha_video_frame"])
def test_large_golden_data_agrees(name, capsys):
    assert verify.verify(LARGE, name) == 0, capsys.readouterr().out
