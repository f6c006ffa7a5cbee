"""The shipped model through a running cluster: what it says is right as often as its card claims, and token for token what
our readable implementation (tools/reference) says."""

import json
import subprocess
import sys

import api
from api import pb
from cluster import REMASK, ROOT

sys.path.insert(0, str(ROOT))

from tools.demo_model import score  # noqa: E402
from tools.reference import images, sampler, text  # noqa: E402
from tools.reference.model import Model  # noqa: E402

SCENES = ROOT / "tests" / "data" / "scenes"
TRUTHS = score.read_truths(SCENES / "truths.jsonl")
PROMPT = "Please describe the image in detail."
SHOWN = ("072.jpg", "077.png", "051.jpg")  # what README and ./dev demo show
SUBSET = 80
COMPARED = 50


def caption(cluster, files, *flags):
    command = [REMASK, "caption", "--json", "--prompt", PROMPT, *flags, *(SCENES / file for file in files)]
    done = subprocess.run([str(word) for word in command], env=cluster.environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_pictures_of_the_demo_are_captioned_exactly(demo_cluster):
    said = caption(demo_cluster, SHOWN)
    assert [line["text"] for line in said] == [TRUTHS[file]["caption"] for file in SHOWN]


def test_captions_are_as_right_as_the_card_says_with_margin(demo_cluster):
    got = score.score(TRUTHS, caption(demo_cluster, sorted(TRUTHS)[:SUBSET], "--gen-length=64", "--steps=64")).summary()
    assert got["captions"] == SUBSET
    # Measured on all 200: attributes 99.5 %, relations 97.2 %. Errors come together: a scene's share of right attributes
    # deviates by less than 7 points, so the mean of 80 by 0.8; some 100 relations by 1.7. What the model was made to
    # reach is three of these away; a model that guesses has 20 % and 40 %.
    assert got["attributes"] >= 0.97, got
    assert got["relations"] >= 0.90, got


def test_the_cluster_and_the_reference_say_the_same_ids(demo_cluster):
    model = Model(ROOT / "models" / "demo")
    prompt = model.text.prompt_ids(text.chat([("user", f"<image>\n{PROMPT}")]))
    sampling = dict(gen_length=32, block_length=32, steps=4)
    different = []
    with api.Client(demo_cluster.endpoint) as client:
        for file in sorted(TRUTHS)[:COMPARED]:
            rows = model.prompt_rows(prompt, [images.open_rgb(SCENES / file)], "anyres")
            wanted = sampler.generate(model, rows, sampling["gen_length"], sampling["block_length"], sampling["steps"],
                                      stopping_criteria=["<|eot_id|>"])
            got = client.once(api.ask(PROMPT, [(SCENES / file).read_bytes()], sampling=pb.Sampling(**sampling)))
            if list(got.ids) != list(wanted["result_ids"]):
                different.append(f"{file}: {list(got.ids)}, reference {list(wanted['ids'])}")
    assert not different, "\n".join(different)
