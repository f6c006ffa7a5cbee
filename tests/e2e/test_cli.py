"""The program `remask` as a person or a script uses it."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

import api
from cluster import BIN, DEMO, REMASK, ROOT, is_alive, run_remask, wait_until

SCENES = ROOT / "tests" / "data" / "scenes"
PICTURES = [SCENES / "000.png", SCENES / "001.jpg", SCENES / "002.png"]
QUICK = ["--gen-length", 32, "--steps", 8]


def lines_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


# ---- words and flags ---------------------------------------------------------------------------------------------------


def test_help_goes_to_stdout_and_names_every_command():
    result = run_remask("--help")
    assert result.returncode == 0 and not result.stderr
    for command in ("caption", "compare", "bench", "up", "down", "status", "check", "version"):
        assert re.search(rf"^  {command} ", result.stdout, re.MULTILINE)
        if command != "version":
            shown = run_remask(command, "--help")
            assert shown.returncode == 0 and "usage: remask " + command in shown.stdout and not shown.stderr


@pytest.mark.parametrize("arguments,status,words", [
    ([], 64, "usage"),
    (["captoin"], 64, "did you mean caption"),
    (["frobnicate"], 64, "no command"),
    (["caption"], 64, "IMAGE"),
    (["caption", "x.png", "--promt", "x"], 64, "did you mean --prompt"),
    (["caption", "x.png", "--gen-length", "many"], 64, "--gen-length"),
    (["caption", "x.png", "y.png", "--request-id", "a"], 64, "--request-id"),
    (["caption", "x.png", "--endpoint", "nowhere"], 64, "nowhere"),
    (["status", "--endpoint", "127.0.0.1:1"], 69, "127.0.0.1:1"),
    (["caption", PICTURES[0], "--endpoint", "127.0.0.1:1"], 69, "nobody answers"),
    (["up"], 64, "--model"),
    (["up", "--model", "/nonexistent"], 1, "/nonexistent"),
    (["up", "--model", DEMO, "--name", "../x"], 64, "--name"),
    (["down", "--name", "nobody"], 1, "nobody"),
    (["check", "/nonexistent"], 65, "/nonexistent"),
])
def test_mistakes_end_with_a_sentence_on_stderr_and_a_status(arguments, status, words, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = run_remask(*arguments, timeout=20)
    assert result.returncode == status, result
    assert words in result.stderr + result.stdout
    assert result.stderr.count("\n") >= 1
    assert "\x1b" not in result.stdout + result.stderr


def test_version():
    assert re.fullmatch(r"remask \d+\.\d+\.\d+\n", run_remask("version").stdout)
    assert json.loads(run_remask("version", "--json").stdout)["version"] in run_remask("--version").stdout


# ---- caption -------------------------------------------------------------------------------------------------------------


def test_caption_prints_the_text_and_only_that(demo_cluster, demo):
    result = run_remask("caption", PICTURES[0], *QUICK, cluster=demo_cluster)
    expected = demo.once(api.ask("Please describe the image in detail.", [PICTURES[0].read_bytes()],
                                 sampling=api.pb.Sampling(gen_length=32, steps=8)))
    assert (result.returncode, result.stdout, result.stderr) == (0, expected.text + "\n", "")


def test_caption_json_has_one_line_for_each_picture_in_order(demo_cluster):
    result = run_remask("caption", *PICTURES, "--json", "--parallel", 3, *QUICK, cluster=demo_cluster)
    assert result.returncode == 0 and not result.stderr
    lines = lines_of(result)
    assert [line["image"] for line in lines] == [str(path) for path in PICTURES]
    for line in lines:
        assert {"image", "text", "ids", "finish_reason", "usage"} <= set(line)
        assert line["text"] and line["ids"] and line["finish_reason"] in ("stop", "length")
        assert line["usage"]["forwards"] > 0 and line["usage"]["image_rows"] > 0
        assert line["usage"]["completion_tokens"] == len(line["ids"])
        assert set(line["usage"]) == {field.name for field in api.pb.Usage.DESCRIPTOR.fields}


def test_a_picture_that_fails_is_told_and_the_others_go_on(demo_cluster, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(PICTURES[0].read_bytes()[:40])
    odd = tmp_path / b"\xff.png".decode("utf-8", "surrogateescape")
    shutil.copy(PICTURES[0], odd)
    arguments = [PICTURES[0], "missing.png", broken, tmp_path, odd, PICTURES[2]]
    result = run_remask("caption", *arguments, "--json", *QUICK, cluster=demo_cluster)
    assert result.returncode == 1
    lines = lines_of(result)
    assert ["text" in line for line in lines] == [True, False, False, False, True, True]
    assert lines[1]["error"]["code"] == "NOT_FOUND"
    assert lines[2]["error"]["code"] == "INVALID_ARGUMENT" and "PNG" in lines[2]["error"]["message"]
    assert len(result.stderr.splitlines()) == 3
    assert "missing.png" in result.stderr and "broken.png" in result.stderr


def test_caption_reads_paths_from_standard_input(demo_cluster):
    text = "\n".join(str(path) for path in PICTURES) + "\n\n"
    result = run_remask("caption", "-", "--json", *QUICK, cluster=demo_cluster, stdin=text)
    assert [line["image"] for line in lines_of(result)] == [str(path) for path in PICTURES]
    assert run_remask("caption", "-", cluster=demo_cluster, stdin="").returncode == 64


def test_streamed_pieces_join_to_the_text(demo_cluster):
    plain = run_remask("caption", *PICTURES[:2], "--block-length", 8, *QUICK, cluster=demo_cluster)
    streamed = run_remask("caption", *PICTURES[:2], "--stream", "--block-length", 8, *QUICK, cluster=demo_cluster)
    assert streamed.returncode == 0 and streamed.stdout == plain.stdout
    lines = lines_of(run_remask("caption", PICTURES[0], "--stream", "--json", "--block-length", 8, *QUICK,
                                cluster=demo_cluster))
    assert "".join(line["delta"] for line in lines[:-1]) == lines[-1]["text"]


def test_timings_name_the_stages(demo_cluster):
    result = run_remask("caption", PICTURES[0], "--timings", *QUICK, cluster=demo_cluster)
    for stage in ("queue", "encode", "first commit", "compute", "total", "forwards"):
        assert stage in result.stdout.splitlines()[-1]


def test_several_pictures_in_one_request_and_frames_of_a_video(demo_cluster):
    for flag in ("--multi", "--video"):
        lines = lines_of(run_remask("caption", *PICTURES[:2], flag, "--json", *QUICK, cluster=demo_cluster))
        assert len(lines) == 1 and lines[0]["image"] == [str(path) for path in PICTURES[:2]]
        assert lines[0]["usage"]["image_tiles"] == 2


def test_sampling_flags_reach_the_server(demo_cluster, demo):
    flags = ["--gen-length", 24, "--block-length", 8, "--steps", 6, "--temperature", 0.7, "--cfg-scale", 0.5,
             "--remasking", "random", "--seed", 11, "--stop", " zz", "--stop", "qq", "--stop-level", "text",
             "--suffix", " End.", "--no-default-stop", "--prompt", "What is it?", "--image-mode", "pad"]
    line = lines_of(run_remask("caption", PICTURES[0], "--json", *flags, cluster=demo_cluster))[0]
    expected = demo.once(api.ask("What is it?", [PICTURES[0].read_bytes()], image_mode=api.pb.IMAGE_MODE_PAD,
                                 sampling=api.pb.Sampling(
                                     gen_length=24, block_length=8, steps=6, temperature=0.7, cfg_scale=0.5,
                                     remasking=api.pb.RANDOM, seed=11, stop=[" zz", "qq"], stop_level=api.pb.STOP_TEXT,
                                     suffix=" End.", no_default_stop=True)))
    assert line["ids"] == list(expected.ids)
    refused = run_remask("caption", PICTURES[0], "--gen-length", 30, "--block-length", 16, cluster=demo_cluster)
    assert refused.returncode == 1 and "block_length" in refused.stderr


def test_the_environment_is_weaker_than_a_flag_and_stronger_than_nothing(demo_cluster, monkeypatch):
    monkeypatch.setitem(demo_cluster.environment, "REMASK_GEN_LENGTH", "8")
    monkeypatch.setitem(demo_cluster.environment, "REMASK_DEFAULT_STOP", "false")
    assert len(lines_of(run_remask("caption", PICTURES[0], "--json", cluster=demo_cluster))[0]["ids"]) == 8
    flag = run_remask("caption", PICTURES[0], "--json", "--gen-length", 4, cluster=demo_cluster)
    assert len(lines_of(flag)[0]["ids"]) == 4


def test_the_same_request_id_is_answered_once(demo_cluster, demo):
    arguments = ["caption", PICTURES[0], "--json", "--request-id", "from-the-shell", *QUICK]
    first = run_remask(*arguments, cluster=demo_cluster)
    before = demo.status().accepted
    assert run_remask(*arguments, cluster=demo_cluster).stdout == first.stdout
    assert demo.status().accepted == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_request(number, demo_cluster, demo):
    with subprocess.Popen([REMASK, "caption", PICTURES[0], "--gen-length", "1024", "--no-default-stop"],
                          cwd=ROOT, env=demo_cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: demo.status().open_requests == 1, "the request", 20)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert not out and b"interrupted" in err
    wait_until(lambda: demo.status().open_requests == 0, "the end of the request", 20)


def test_a_timeout_is_told(demo_cluster):
    result = run_remask("caption", PICTURES[0], "--gen-length", 1024, "--no-default-stop", "--timeout", "300ms",
                        cluster=demo_cluster)
    assert result.returncode == 1 and "time" in result.stderr


# ---- a cluster of one's own -------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path):
    """Where `up` keeps its state; whatever a test leaves running is stopped."""
    class Runtime:
        environment = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path))

    yield Runtime
    for path in (tmp_path / "remask").glob("*.json"):
        state = json.loads(path.read_text())
        for pid in [state["pid"], *(process["pid"] for process in state["processes"])]:
            if pid > 0 and is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_up_detached_status_and_down(runtime, tmp_path):
    up = ["up", "--model", DEMO, "--tp", 2, "--vision", 1, "--port-base", 0, "--detach", "--name", "mine"]
    result = run_remask(*up, cluster=runtime)
    assert result.returncode == 0 and not result.stderr
    assert re.search(r"^gRPC +127\.0\.0\.1:\d+$", result.stdout, re.MULTILINE)
    assert re.search(r"^ready in \d+\.\d s$", result.stdout, re.MULTILINE)
    state = json.loads((tmp_path / "remask" / "mine.json").read_text())
    pids = [state["pid"], *(process["pid"] for process in state["processes"])]
    assert len(pids) == 4 and all(is_alive(pid) for pid in pids)

    assert "named mine is running" in run_remask(*up, cluster=runtime).stderr
    text = run_remask("status", "--name", "mine", cluster=runtime)
    assert text.returncode == 0 and "ready" in text.stdout and "2 of 2 ranks" in text.stdout
    status = lines_of(run_remask("status", "--name", "mine", "--json", cluster=runtime))[0]
    assert status["state"] == "ready" and status["model"] == "demo" and status["endpoint"] == state["endpoint"]
    assert [len(group["ranks"]) for group in status["groups"]] == [2] and len(status["visions"]) == 1
    caption = run_remask("caption", PICTURES[0], "--name", "mine", *QUICK, cluster=runtime)
    assert caption.returncode == 0 and caption.stdout.strip()

    down = run_remask("down", "--name", "mine", cluster=runtime)
    assert (down.returncode, down.stdout) == (0, "stopped mine\n")
    assert not any(is_alive(pid) for pid in pids)
    assert not (tmp_path / "remask" / "mine.json").exists()
    assert run_remask("down", "--name", "mine", cluster=runtime).returncode == 1


def test_when_up_is_killed_nothing_stays_behind(runtime, tmp_path):
    run_remask("up", "--model", DEMO, "--tp", 2, "--port-base", 0, "--detach", cluster=runtime)
    state = json.loads((tmp_path / "remask" / "default.json").read_text())
    pids = [process["pid"] for process in state["processes"]]
    for pid in list(pids):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
        pids += [int(child) for child in children.split()]
    assert len(pids) == 5
    os.kill(state["pid"], signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of all processes", 20)
    assert run_remask("down", cluster=runtime).returncode == 1
    again = run_remask("up", "--model", DEMO, "--port-base", 0, "--detach", cluster=runtime)
    assert again.returncode == 0, again
    assert run_remask("down", cluster=runtime).returncode == 0


def broken_model(tmp_path, kind):
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder)
    weights = folder / "model.safetensors"
    if kind == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:1_000_000])
    elif kind == "no weights":
        weights.unlink()
    elif kind == "another width":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 256}))
    elif kind == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif kind == "a tokenizer that does not fit":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    return folder


BROKEN = {
    "truncated weights": "model.safetensors",
    "no weights": "safetensors",
    "another width": "mlp.",
    "no tokenizer": "tokenizer.json",
    "a tokenizer that does not fit": "856",
}


@pytest.mark.parametrize("detach", [[], ["--detach"]])
@pytest.mark.parametrize("kind", BROKEN)
def test_up_with_a_broken_model_says_what_is_wrong(kind, detach, runtime, tmp_path):
    begin = time.monotonic()
    result = run_remask("up", "--model", broken_model(tmp_path, kind), "--tp", 2, "--port-base", 0, *detach,
                        cluster=runtime, timeout=60)
    assert result.returncode == 78, result
    assert BROKEN[kind] in result.stderr and len(result.stderr.splitlines()) == 1
    assert not result.stdout
    assert time.monotonic() - begin < 30


def test_up_with_a_taken_port_says_so(runtime, demo_cluster):
    port = int(demo_cluster.endpoint.rsplit(":", 1)[1])
    result = run_remask("up", "--model", DEMO, "--port-base", port - 1, cluster=runtime, timeout=60)
    assert result.returncode == 69, result
    assert str(port) in result.stderr and "coordinator" in result.stderr


def test_up_hands_flags_on_and_reports_a_wrong_one(runtime):
    result = run_remask("up", "--model", DEMO, "--port-base", 0, "--text-flag=--frobnicate", cluster=runtime, timeout=60)
    assert result.returncode == 64 and "--frobnicate" in result.stderr


# ---- check --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["models/demo", "tests/data/golden/models/tiny", "tests/data/golden/models/tinygqa"])
def test_check_accepts_good_models(model):
    result = run_remask("check", model)
    assert result.returncode == 0 and not result.stderr
    assert all(line.startswith("ok ") for line in result.stdout.splitlines())
    for part in ("config", "tokenizer", "language model", "vision tower", "projector"):
        assert part in result.stdout


@pytest.mark.parametrize("kind", BROKEN)
def test_check_says_what_is_wrong(kind, tmp_path):
    result = run_remask("check", broken_model(tmp_path, kind))
    assert result.returncode == 65
    assert BROKEN[kind] in result.stdout and "FAIL" in result.stdout


def test_check_as_json_says_the_same(tmp_path):
    good = run_remask("check", DEMO, "--json")
    told = json.loads(good.stdout)
    assert (good.returncode, told["ok"], told["model"]) == (0, True, str(DEMO))
    assert {line["check"] for line in told["checks"]} >= {"config", "tokenizer", "language model", "projector"}
    assert all(line["ok"] and line["details"] and line["faults"] == [] for line in told["checks"])
    broken = run_remask("check", broken_model(tmp_path, "another width"), "--json")
    told = json.loads(broken.stdout)
    wrong = [line for line in told["checks"] if not line["ok"]]
    assert (broken.returncode, told["ok"], len(wrong)) == (65, False, 1)
    assert wrong[0]["check"] == "language model" and "mlp." in wrong[0]["faults"][0]


def test_every_program_is_in_the_folder_of_programs():
    for program in ("remask", "remask-coordinator", "remask-worker"):
        shown = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, check=True)
        assert shown.stdout.startswith("usage: " + program)
