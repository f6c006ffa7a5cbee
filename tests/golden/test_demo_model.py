"""The demo model and its tools: the scorer, the shipped checkpoint, and that an interrupted training goes on exactly."""
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.demo_model import score  # noqa: E402
from tools.reference import images, sampler, text  # noqa: E402
from tools.reference.model import Model  # noqa: E402

SCENES = ROOT / "tests" / "data" / "scenes"
TRUTHS = score.read_truths(SCENES / "truths.jsonl")


def summary(lines, **kw):
    return score.score(TRUTHS, lines, **kw).summary()


def test_true_captions_and_answers_score_one():
    lines = [dict(image=f"some/where/{f}", text=t["caption"]) for f, t in TRUTHS.items()]
    got = summary(lines)
    assert (got["captions"], got["facts"], got["relations"]) == (len(TRUTHS), 1.0, 1.0)
    for n in range(4):
        lines = [dict(image=f, text=t["questions"][n]["answer"].upper()) for f, t in TRUTHS.items()]
        assert summary(lines, question=n)["answers_right"] == 1.0


def test_a_wrong_colour_costs_that_fact_and_its_relation():
    t = TRUTHS["002.png"]
    assert "red square" in t["caption"]
    got = summary([dict(image="002.png", text=t["caption"].replace("red", "blue"))])["by_kind"]
    assert got == dict(count=1.0, background=1.0, size=1.0, colour=.5, shape=1.0, relation=0.0)


def test_a_line_with_a_known_prompt_is_an_answer():
    q = TRUTHS["002.png"]["questions"][0]
    assert summary([dict(image="002.png", prompt=q["question"], text="Nonsense.")])["answers_right"] == 0.0


def test_the_shipped_checkpoint_describes_scenes_in_the_reference():
    m, lines = Model(ROOT / "models" / "demo"), []
    ids = m.text.prompt_ids(text.chat([("user", "<image>\nPlease describe the image in detail.")]))
    for file in ("000.png", "002.png", "003.png", "005.png", "006.png", "007.png"):
        rows = m.prompt_rows(ids, [images.open_rgb(SCENES / file)], "anyres")
        out = sampler.generate(m, rows, 64, 64, 32, stopping_criteria=["<|eot_id|>"])
        lines.append(dict(image=file, text=out["text"]))
    got = summary(lines)
    # About 94 % on all scenes; a broken tower or sampler falls below 50 %.
    assert got["facts"] >= .8, [(x["text"], TRUTHS[x["image"]]["caption"]) for x in lines]


def test_interrupted_training_goes_on_exactly(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from tools.demo_model import data, progress, tower

    torch.set_num_threads(1)
    data.draw(tmp_path / "scenes", 2, 8)
    run = lambda name: tower.train(tmp_path / "scenes", tmp_path / name, 4, batch=4, compile_layers=False, save_every=2)
    run("whole.pt")
    note = progress.Meter.note

    def interrupted(self, step, **values):
        note(self, step, **values)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(progress.Meter, "note", interrupted)
        run("parts.pt")
    run("parts.pt")
    a, b = (torch.load(tmp_path / f, weights_only=True)["tower"] for f in ("whole.pt", "parts.pt"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_truths_name_pictures_that_are_there():
    lines = [json.loads(x) for x in (SCENES / "truths.jsonl").read_text().splitlines()]
    assert len(lines) == 200
    for t in lines:
        assert list(images.open_rgb(SCENES / t["file"]).size) == t["scene"]["size"]
