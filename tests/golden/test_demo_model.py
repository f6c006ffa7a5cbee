"""The demo model and its tools: the scorer, the shipped checkpoint, and that an interrupted training goes on exactly."""
import json
import random
import subprocess
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


PAIR = next(t for t in TRUTHS.values() if len(t["scene"]["objects"]) == 2
            and len({o["colour"] for o in t["scene"]["objects"]}) == 2)


def test_a_wrong_colour_costs_that_fact_and_its_relation():
    colour = PAIR["scene"]["objects"][0]["colour"]
    other = "blue" if colour == "red" else "red"
    got = summary([dict(image=PAIR["file"], text=PAIR["caption"].replace(colour, other))])["by_kind"]
    assert got == dict(count=1.0, background=1.0, size=1.0, colour=.5, shape=1.0, relation=0.0)


def test_a_line_with_a_known_prompt_is_an_answer():
    q = PAIR["questions"][0]
    assert summary([dict(image=PAIR["file"], prompt=q["question"], text="Nonsense.")])["answers_right"] == 0.0


def test_the_shipped_checkpoint_describes_scenes_in_the_reference():
    m, lines = Model(ROOT / "models" / "demo"), []
    ids = m.text.prompt_ids(text.chat([("user", "<image>\nPlease describe the image in detail.")]))
    for file in sorted(TRUTHS)[:6]:
        rows = m.prompt_rows(ids, [images.open_rgb(SCENES / file)], "anyres")
        out = sampler.generate(m, rows, 64, 64, 32, stopping_criteria=["<|eot_id|>"])
        lines.append(dict(image=file, text=out["text"]))
    got = summary(lines)
    # About 99 % on all scenes; a broken tower or sampler falls below 50 %.
    assert got["facts"] >= .8, [(x["text"], TRUTHS[x["image"]]["caption"]) for x in lines]


@pytest.mark.parametrize("stage", ["tower", "built", "continued"])
def test_interrupted_training_goes_on_exactly(tmp_path, monkeypatch, stage):
    torch = pytest.importorskip("torch")
    from tools.demo_model import data, progress, tower, train

    torch.set_num_threads(1)
    data.draw(tmp_path / "scenes", 2, 8)
    demo, short = ROOT / "models" / "demo", dict(compile_layers=False, save_every=2, batch=4, steps=4)
    whole = dict(short, single_batch=4, single_from=.5, single_share=0.0)  # steps 1 and 2 packed, 3 and 4 single
    if stage == "built":
        tower.train(tmp_path / "scenes", tmp_path / "tower.pt", **dict(short, steps=1))

    def run(name):
        if stage == "tower":
            tower.train(tmp_path / "scenes", tmp_path / name, begin=demo, **short)
        elif stage == "built":
            train.train(tmp_path / "scenes", demo, tmp_path / name, taught=tmp_path / "tower.pt", **whole)
        else:
            train.train(tmp_path / "scenes", demo, tmp_path / name, begin=demo, heads_alone=1, **whole)

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


def test_a_training_ends_by_the_clock(monkeypatch):
    pytest.importorskip("torch")
    from tools.demo_model import progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    clock = progress.Clock(1000, minutes=1, seconds=15.0)
    assert clock.done(0) == .25 and clock.done(500) == .5
    now[0] += 45
    assert clock.done(0) == 1


def test_a_short_answer_counts_like_a_long_one():
    torch = pytest.importorskip("torch")
    from tools.demo_model import batching, tokenizer

    words = tokenizer.Text(ROOT / "models" / "demo")
    tail = words.tail("How many objects are there?")
    items = [batching.Item(tail, answer, len(answer) + 1)
             for answer in (words.encode(t) + [words.eot] for t in (PAIR["caption"], "Two."))]
    batch = batching.make(words, items, torch.ones(2))
    # region = answer + 1 padding row; a share counts the answer and two rows more, at most the region
    assert torch.allclose(batch.share.sum(1), torch.ones(2)) and batch.importance == 2.0
    assert (batch.bias == 0).sum(1).tolist() == [len(tail) + item.region for item in items]


def test_packed_texts_are_what_single_ones_are_behind_a_prefix_that_does_not_see_them():
    torch = pytest.importorskip("torch")
    from tools.demo_model import model

    torch.manual_seed(0)
    net = model.LLaDAV(dict(model.CONFIG, vocab=16, layers=2))
    prefix, few, many = (torch.randn(2, *n, net.c["d"]) for n in ((5,), (1, 7), (3, 4)))
    bias = torch.zeros(2, 3, 4)
    bias[1, 2, 3:] = -1e4
    with torch.no_grad():
        got = net.packed(prefix, [few, many], [torch.zeros(2, 1, 7), bias], 1)[0][1]
        for k in range(3):
            mask = torch.zeros(2, 1, 9, 9)
            mask[:, :, :5, 5:] = -1e4
            mask[:, :, :, 5:] += bias[:, None, None, k]
            assert torch.allclose(got[:, k], net.backbone(torch.cat([prefix, many[:, k]], 1), mask)[:, 5:], atol=1e-4)


def test_a_mention_is_found_where_the_name_of_the_object_ends():
    pytest.importorskip("torch")
    from tools.demo_model import batching, tokenizer, train
    from tools.demo_model import scenes as S

    words, scene = tokenizer.Text(ROOT / "models" / "demo"), PAIR["scene"]
    names = [S.name(o) for o in scene["objects"]]
    question = f"Where is the {names[1]} relative to the {names[0]}? Is there a {names[0]}?"
    absent = next(f"{c} star" for c in S.COLOURS if f"{c} star" not in names)
    item = train.Writer(words, {}).item(random.Random(1), scene, question, S.long_caption(scene), 64)
    ids = item.tail + item.answer
    found = [(words.decode(ids[:at + 1]).strip().endswith(names[o]), o) for at, o in item.mentions]
    assert sorted(found) == [(True, 0)] * 4 + [(True, 1)] * 3  # question, list of objects, relation
    item = train.Writer(words, {}).item(random.Random(1), scene, f"Is there a {absent}?", "No.", 9)
    assert [o for _, o in item.mentions] == [batching.ABSENT]


def test_scenes_are_clear_and_their_captions_short_enough():
    from tools.demo_model import scenes as S

    rng, words = random.Random(11), text.Text(ROOT / "models" / "demo")
    for _ in range(300):
        scene = S.sample_scene(rng, words=.2)
        o = scene["objects"]
        assert 1 <= len(o) <= 4 and len({(x["colour"], x["shape"]) for x in o}) == len(o)
        assert all(S.clear(a, b, scene["size"]) and a["x"] < b["x"] for a, b in zip(o, o[1:]))
        assert max(len(words.encode(say(scene))) for say in S.PROMPTS.values()) < 64  # and <|eot_id|>


def test_truths_name_pictures_that_are_there():
    lines = [json.loads(x) for x in (SCENES / "truths.jsonl").read_text().splitlines()]
    assert len(lines) == 200
    for t in lines:
        assert list(images.open_rgb(SCENES / t["file"]).size) == t["scene"]["size"]


def test_what_is_to_be_counted_is_marked_with_its_number():
    pytest.importorskip("torch")
    from tools.demo_model import scenes, tokenizer, train

    writer, rng, seen = train.Writer(tokenizer.Text(ROOT / "models" / "demo"), dict(train.DEFAULTS)), random.Random(1), 0
    for _ in range(200):
        scene = scenes.sample_scene(rng)
        kind, question, answer = scenes.question(scene, rng)
        counted = [scenes._num(n) for _, n in writer.item(rng, scene, question, answer, 16).counted]
        assert counted == [answer] * kind.startswith("count_"), question
        seen += len(counted)
    assert seen > 10


def test_one_command_builds_a_checkpoint_and_another_goes_on_with_it(tmp_path):
    pytest.importorskip("torch")

    def tool(*words):
        small = "--shards 1 --per-shard 64 --no-compile --steps 4 --batch 2 --single-batch 2 --single-from .5".split()
        r = subprocess.run([sys.executable, "-m", "tools.demo_model", "--threads", "1", *map(str, words),
                            *(small if words[0] != "scenes" else [])], cwd=ROOT, text=True, capture_output=True)
        assert r.returncode == 0, r.stderr
        return r.stdout

    tool("scenes", tmp_path / "held_out", 1, 5)
    said = tool("build", tmp_path / "work", tmp_path / "built", "--tower-steps", 1, "--test-scenes", tmp_path / "held_out")
    captions, answers = (json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert captions["captions"] == 1 and answers["answers"] == 4
    assert "going on" not in said
    tool("continue", tmp_path / "built", tmp_path / "more", tmp_path / "continued", "--heads", tmp_path / "work" / "model.pt")
    first, second = ((tmp_path / d / "model.safetensors").read_bytes() for d in ("built", "continued"))
    assert len(first) == len(second) and first != second
    Model(tmp_path / "continued")
