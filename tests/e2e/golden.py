"""Golden scenes (form: tests/data/golden/README.md) as requests of the public API."""

import dataclasses
import json
import os
import pathlib

import api

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = ROOT / "tests" / "data" / "golden"
SHARED = pathlib.Path(os.environ.get("RMK_REFERENCE", ROOT.parent / "shared" / "reference")) / "golden"
GAP_MIN = 1e-4  # below it another order of summation may pick another token

MODES = {
    "none": api.pb.IMAGE_MODE_AUTO,
    "anyres": api.pb.IMAGE_MODE_ANYRES,
    "pad_list": api.pb.IMAGE_MODE_PAD,
    "pad_tensor": api.pb.IMAGE_MODE_PAD_BARE,
    "square_list": api.pb.IMAGE_MODE_SQUARE,
    "video": api.pb.IMAGE_MODE_AUTO,
}


@dataclasses.dataclass
class Scene:
    root: pathlib.Path
    data: dict
    runs: list

    @property
    def name(self):
        return self.data["name"]

    @property
    def model(self):
        return self.root / "models" / self.data["model"]

    @property
    def overrides(self):
        return self.data["config_overrides"] or {}

    def media(self):
        """The server wants as many pictures as placeholders. The official program uses its last picture again when one is
        missing, and forgets those that nobody asks for."""
        files = [(self.root / "images" / name).read_bytes() for name in self.data["images"]]
        wanted = self.data["prompt"].count("<image>")
        if self.data["how"] == "video":
            return [api.video(files)]
        files = (files + files[-1:])[:wanted]
        assert len(files) == wanted, self.name
        return [api.picture(data) for data in files]


def load_scenes(root):
    scenes = []
    for folder in sorted((root / "scenes").iterdir()):
        data = json.loads((folder / "scene.json").read_text())
        scenes.append(Scene(root, data, json.loads((folder / "runs.json").read_text())))
    return scenes


def is_comparable(run):
    """Not with the feature cache, not where the official program raised."""
    return not run.get("cache") and not run.get("error")


def is_clear(run):
    gaps = [run[key] for key in ("min_conf_gap", "min_logit_gap") if run.get(key) is not None]
    return all(gap >= GAP_MIN for gap in gaps)


def request(scene, run):
    params = dict(run["params"])
    stops = params.pop("stopping_criteria", None) or []
    sampling = api.pb.Sampling(
        gen_length=params.pop("gen_length"),
        block_length=params.pop("block_length"),
        steps=params.pop("steps"),
        temperature=params.pop("temperature", 0.0),
        cfg_scale=params.pop("cfg_scale", 0.0),
        remasking=api.pb.RANDOM if params.pop("remasking", "low_confidence") == "random" else api.pb.LOW_CONFIDENCE,
        seed=run["noise_seed"] or 0,
        stop=stops,
        stop_level=api.pb.STOP_TOKENS,
        no_default_stop=True,  # the official program stops only where it is told to
        suffix=params.pop("generation_suffix", None) or "",
        noise=api.pb.NOISE_REFERENCE,
    )
    assert not params, f"{scene.name}/{run['name']}: unknown parameters {params}"
    fields = {
        "media": scene.media(),
        "sampling": sampling,
        "image_mode": MODES[scene.data["how"]],
        "allow_special_tokens": True,
    }
    if scene.data["messages"] is None:
        return api.pb.GenerateRequest(raw_prompt=scene.data["prompt"], **fields)
    messages = [api.pb.Message(role=role, parts=[api.pb.Part(text=text)]) for role, text in scene.data["messages"]]
    return api.pb.GenerateRequest(messages=messages, placeholders_in_text=True, **fields)
