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


@pytest.mark.parametrize("stage", ["tower", "continued"])
def test_interrupted_training_goes_on_exactly(tmp_path, monkeypatch, stage):
    torch = pytest.importorskip("torch")
    from tools.demo_model import data, progress, tower, train

    torch.set_num_threads(1)
    data.draw(tmp_path / "scenes", 2, 8)
    demo, short = ROOT / "models" / "demo", dict(compile_layers=False, save_every=2)

    def run(name):
        if stage == "tower":
            tower.train(tmp_path / "scenes", tmp_path / name, 4, batch=4, **short)
        else:  # steps 1 and 2 packed, 3 and 4 single
            train.train(tmp_path / "scenes", demo, demo, tmp_path / name, steps=4, batch=4, single_batch=4,
                        single_from=.5, heads_alone=1, **short)

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
    weights = "tower" if stage == "tower" else "ema"
    a, b = (torch.load(tmp_path / f, weights_only=True)[weights] for f in ("whole.pt", "parts.pt"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_short_answer_counts_like_a_long_one():
    torch = pytest.importorskip("torch")
    from tools.demo_model import batching, tokenizer

    words = tokenizer.Text(ROOT / "models" / "demo")
    caption, answer = (words.encode(t) + [words.eot] for t in (TRUTHS["002.png"]["caption"], "Two."))
    tail = words.tail("How many objects are there?")
    items = [[(tail, caption, len(caption) + 1, 1.0), (tail, answer, len(answer) + 1, 1.0)]]
    batch = batching.make(words, items, 4, True, torch.ones(1, 2))
    # region = answer + 1 padding row; a share counts the answer and two rows more, at most the region
    at, end = batch.start[0, 1], batch.start[0, 1] + len(answer) + 1
    long, short = batch.share[0, :at - len(tail)].sum(), batch.share[0, at:end].sum()
    assert torch.isclose(long, torch.tensor(1.0)) and torch.isclose(short, torch.tensor(1.0))
    assert batch.importance == 2.0


def test_truths_name_pictures_that_are_there():
    lines = [json.loads(x) for x in (SCENES / "truths.jsonl").read_text().splitlines()]
    assert len(lines) == 200
    for t in lines:
        assert list(images.open_rgb(SCENES / t["file"]).size) == t["scene"]["size"]
