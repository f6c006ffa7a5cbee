"""What `remask` does when its standard streams, its files or the machine's limits are not as usual."""

import json
import os
import signal
import subprocess

import pytest

from cluster import BIN, DEMO, REMASK, ROOT, run_remask, wait_until

PICTURE = ROOT / "tests" / "data" / "scenes" / "000.png"
QUICK = ["--gen-length", "8", "--steps", "2"]


def shell(command, cluster=None, timeout=30):
    """A line of shell in which $R is the program and $P a picture."""
    environment = dict(cluster.environment if cluster is not None else os.environ, R=str(REMASK), P=str(PICTURE))
    return subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True,
                          timeout=timeout, check=False)


@pytest.mark.parametrize("command", [
    "version", "--version", "status", "check models/demo", "caption $P --gen-length 8", "caption --help",
    "compare $P --gen-length 8 --json", "bench --requests 1 --gen-length 8",
])
def test_output_that_cannot_be_written_is_a_failure(command, demo_cluster):
    result = shell(f"$R {command} >/dev/full", demo_cluster)
    assert result.returncode == 1
    assert "standard output cannot be written" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["status", "caption $P --gen-length 8", "check models/demo"])
def test_a_reader_that_has_left_wants_no_more_words(command, demo_cluster):
    result = shell(f"exec 3> >(exit); wait $!; $R {command} >&3", demo_cluster)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


def test_closed_streams_are_no_crash(demo_cluster):
    out = shell("$R caption $P --gen-length 8 >&-", demo_cluster)
    assert out.returncode == 1 and out.stderr == "remask caption: standard output cannot be written\n"
    assert shell("$R caption $P --gen-length 8 2>&-", demo_cluster).returncode == 0
    list_of_paths = shell("$R caption - <&-", demo_cluster)
    assert list_of_paths.returncode == 64 and "standard input: " in list_of_paths.stderr


def test_a_picture_comes_through_a_pipe_but_not_as_a_list_of_paths(demo_cluster):
    piped = shell("cat $P | $R caption /dev/stdin --gen-length 8", demo_cluster)
    assert piped.returncode == 0 and piped.stdout == shell("$R caption $P --gen-length 8", demo_cluster).stdout
    listed = shell("$R caption - < $P", demo_cluster)
    assert listed.returncode == 64 and "/dev/stdin" in listed.stderr and listed.stderr.isprintable() is False
    assert listed.stderr.rstrip("\n").isprintable()


def test_control_characters_of_a_path_do_not_reach_the_terminal(demo_cluster):
    result = run_remask("caption", "a\x1b]0;title\x07.png", cluster=demo_cluster)
    assert result.returncode == 1
    assert result.stderr == "remask caption: a?]0;title?.png: there is no such file\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_pipe_that_nobody_writes_can_be_interrupted(number, demo_cluster, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen([REMASK, "caption", pipe], cwd=ROOT, env=demo_cluster.environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: "poll" in (ROOT / f"/proc/{process.pid}/wchan").read_text(), "the wait for the pipe", 10)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (process.returncode, out) == (128 + number, "")
    assert err == "remask caption: interrupted; 0 of 1 requests were answered\n"


def test_numbers_of_json_have_no_noise(demo_cluster):
    text = run_remask("bench", "--requests", 2, "--json", *QUICK, cluster=demo_cluster).stdout
    json.loads(text)
    assert max(len(word) for word in text.replace(",", ":").replace("}", ":").split(":") if word[:1].isdigit()) <= 12


@pytest.mark.parametrize("command", [
    f"{REMASK} status --endpoint 127.0.0.1:1",
    f"{BIN}/remask-coordinator --model {DEMO} --listen 127.0.0.1:0 --cluster-listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0",
])
def test_too_few_open_files_are_told(command):
    result = shell(f"ulimit -n 16; exec {command}")
    assert result.returncode == 1 and "only 16 files may be open at once (ulimit -n)" in result.stderr
    assert result.stderr.count("\n") == 1


def test_up_wants_a_log_folder_that_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "file").touch()
    result = run_remask("up", "--model", DEMO, "--port-base", 0, "--log-dir", tmp_path / "file", "--detach", timeout=20)
    assert result.returncode == 1 and "--log-dir" in result.stderr and "no folder" in result.stderr


def test_down_says_why_it_cannot_look(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    result = run_remask("down")
    assert result.returncode == 1 and "/nonexistent/remask cannot be made" in result.stderr


def test_variables_for_up_are_not_for_its_processes(tmp_path, monkeypatch):
    """A worker has a --seed and a --parallel too, and a coordinator does not know --groups."""
    (tmp_path / "up.conf").write_text(f"groups = 1\nvision = 0\nmodel = {DEMO}\nport-base = 0\n")
    for name, value in (("CONFIG", tmp_path / "up.conf"), ("LISTEN", "nowhere"), ("SLOTS", "none"), ("SEED", "-")):
        monkeypatch.setenv(f"REMASK_{name}", str(value))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    try:
        result = run_remask("up", "--detach", "--json", timeout=60)
    finally:
        monkeypatch.delenv("REMASK_CONFIG")
        down = run_remask("down")
    assert (result.returncode, down.returncode) == (0, 0), result.stderr
    told = json.loads(result.stdout)
    assert set(told) == {"name", "pid", "endpoint", "metrics", "cluster", "logs", "seconds"}
    assert told["name"] == "default" and told["endpoint"].startswith("127.0.0.1:")
