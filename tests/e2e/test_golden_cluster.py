"""The recorded scenes through a running cluster give the recorded ids: with one and with two ranks, with one and with two
vision workers, several requests at a time."""

import concurrent.futures
import json
import shutil

import pytest

import api
import golden
from cluster import Cluster

ABREAST = 4
SHARED_MODELS = ("mha", "gqa", "variant", "selfmask")  # the others are as large as the real thing
TRUNCATES = "tokenizer_model_max_length"  # the official program cuts the prompt's end off, we refuse


def load():
    scenes = golden.load_scenes(golden.LOCAL)
    if golden.SHARED.is_dir():
        scenes += [scene for scene in golden.load_scenes(golden.SHARED)
                   if scene.data["model"] in SHARED_MODELS]
    return scenes


def by_model():
    """Scenes that one cluster can serve."""
    groups = {}
    for scene in load():
        key = " ".join([scene.data["model"], *(f"{name}={value}" for name, value in sorted(scene.overrides.items()))])
        groups.setdefault(key, []).append(scene)
    return groups


GROUPS = by_model()
SERVED = [name for name in GROUPS if TRUNCATES not in name]
REFUSED = [name for name in GROUPS if TRUNCATES in name]


@pytest.fixture
def model_folder(tmp_path):
    """The scene's model; where the scene wants another config.json, a copy that has it."""
    def make(scene):
        if not scene.overrides:
            return scene.model
        folder = tmp_path / scene.model.name
        shutil.copytree(scene.model, folder)
        shutil.copytree(f"{scene.model}-siglip", tmp_path / f"{scene.model.name}-siglip")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **scene.overrides}))
        return folder
    yield make
    shutil.rmtree(tmp_path, ignore_errors=True)


def compare(client, scene, run):
    result = client.once(golden.request(scene, run))
    differences = []
    for what, got, wanted in (
            ("ids", list(result.ids), run["result_ids"]),
            ("text", result.text, run["text_skip_special"]),
            ("forwards", result.usage.forwards, run["forwards"]),
            ("prompt rows", result.usage.prompt_rows, run["prompt_rows"])):
        if got != wanted:
            differences.append(f"{scene.name}/{run['name']}: {what}: {got!r}, recorded {wanted!r}")
    return differences


def cases(scenes):
    comparable = [(scene, run) for scene in scenes for run in scene.runs if golden.is_comparable(run)]
    clear = [(scene, run) for scene, run in comparable if golden.is_clear(run)]
    return clear, len(comparable) - len(clear)


@pytest.mark.parametrize("ranks,visions", [(1, 1), (2, 2)])
@pytest.mark.parametrize("group", SERVED)
def test_recorded_scenes_give_the_recorded_ids(group, ranks, visions, model_folder):
    scenes = GROUPS[group]
    clear, _ = cases(scenes)
    with Cluster(model_folder(scenes[0]), ranks=ranks, visions=visions) as cluster:
        with api.Client(cluster.endpoint) as client, concurrent.futures.ThreadPoolExecutor(ABREAST) as pool:
            found = pool.map(lambda case: compare(client, *case), clear)
            differences = [line for lines in found for line in lines]
            status = client.status()
            differences_text = "\n".join(differences[:20])
            assert not differences, f"{len(differences)} differences:\n{differences_text}\n{cluster.read_logs()}"
    assert [group.numerics.rsplit("/", 1)[1] for group in status.groups] == [f"tp{ranks}"]
    assert len(status.visions) == visions
    assert status.accepted >= len(clear)


def test_enough_scenes_are_compared():
    clear, unclear = cases([scene for name in SERVED for scene in GROUPS[name]])
    kinds = {scene.data["how"] for scene, _ in clear}
    assert {"none", "anyres", "pad_list", "pad_tensor", "square_list", "video"} <= kinds
    assert any(len(scene.data["images"]) > 1 and scene.data["how"] == "anyres" for scene, _ in clear)
    assert any(run["params"].get("temperature") for _, run in clear)
    assert any(run["params"].get("remasking") == "random" for _, run in clear)
    assert any(run["params"].get("cfg_scale") for _, run in clear)
    assert any(run["params"].get("generation_suffix") for _, run in clear)
    assert any(run["params"].get("stopping_criteria") for _, run in clear)
    assert len(clear) >= 75
    assert unclear <= len(clear) // 20


@pytest.mark.parametrize("group", REFUSED)
def test_a_prompt_that_the_official_program_cuts_is_refused(group, model_folder):
    scene = GROUPS[group][0]
    with Cluster(model_folder(scene)) as cluster, api.Client(cluster.endpoint) as client:
        with pytest.raises(api.grpc.RpcError) as caught:
            client.once(golden.request(scene, scene.runs[0]))
        assert caught.value.code() == api.grpc.StatusCode.INVALID_ARGUMENT
        assert str(scene.overrides[TRUNCATES]) in caught.value.details()
