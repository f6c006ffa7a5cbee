"""What a worker process does at its beginning and its end."""

import hashlib
import os
import shutil
import signal
import subprocess

import pytest

import api
from cluster import BIN, DEMO, ROOT, Cluster, wait_until

SECONDS = 60


@pytest.mark.parametrize("name", ["text g0", "vision v0"])
def test_a_worker_that_is_asked_to_stop_says_goodbye(name):
    """The coordinator hears why, and does not take it for a loss."""
    with Cluster() as cluster, api.Client(cluster.endpoint) as client:
        log = cluster.logs / "coordinator.log"
        os.kill(cluster.processes()[name], signal.SIGTERM)
        line = wait_until(
            lambda: [line for line in log.read_text().splitlines() if "worker left" in line], "a worker left", SECONDS)[0]
        assert "it said goodbye: the worker was asked to stop" in line
        wait_until(lambda: client.status().state == "ready", "the worker's return", SECONDS)


def dry_run(model):
    return subprocess.run(
        [BIN / "remask-worker", "text", "--model", model, "--dry-run", "--verify-weights", "--slots", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_weights_are_compared_with_their_sums_before_anything_is_loaded(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(DEMO, model)
    result = dry_run(model)
    assert result.returncode != 0 and "SHA256SUMS" in result.stderr

    files = ["model.safetensors", "config.json"]
    sums = [f"{hashlib.sha256((model / name).read_bytes()).hexdigest()}  {name}\n" for name in files]
    (model / "SHA256SUMS").write_text("".join(sums))
    result = dry_run(model)
    assert result.returncode == 0 and "weights verified" in result.stderr

    with open(model / "model.safetensors", "r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        last = weights.read(1)[0]
        weights.seek(-1, os.SEEK_END)
        weights.write(bytes([last ^ 1]))
    result = dry_run(model)
    assert result.returncode != 0 and "model.safetensors" in result.stderr and "plan:" not in result.stdout
