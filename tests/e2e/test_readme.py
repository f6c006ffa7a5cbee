"""Every command that README.md tells a newcomer to type does what it says."""

import os
import re
import socket
import stat
import subprocess

import pytest

from cluster import BIN, ROOT

# Commands that are this very run, or install packages: checked in other ways below.
OWN = ("./dev demo", "./dev test")


def blocks():
    text = (ROOT / "README.md").read_text()
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def commands():
    return [line for block in blocks() for line in block.splitlines() if line and not line.startswith("#")]


def run(command, environment, timeout=300):
    return subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=timeout, check=False)


def is_free(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def environment(tmp_path):
    """As a newcomer has it, with no other cluster near. Only where somebody has the usual ports are others taken."""
    environment = dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path))
    if not all(is_free(port) for port in (8001, 8002, 8003)):
        environment["REMASK_PORT_BASE"] = "0"
    return environment


def test_the_first_two_commands_are_demo_and_test():
    assert tuple(commands()[:2]) == OWN


def test_demo_captions_three_pictures_and_stops(environment):
    demo = ROOT / "tests" / "support" / "demo.sh"
    assert "tests/support/demo.sh build/release/bin" in (ROOT / "dev").read_text()
    result = run(f"{demo} {BIN}", environment)
    assert result.returncode == 0, result.stderr
    captions = re.findall(r"^tests/data/scenes/\S+: There (?:is|are) .+\.$", result.stdout, re.MULTILINE)
    timings = re.findall(r"^  queue .* ms, encode .* ms, first commit .* ms, compute .* ms, total .* ms, \d+ forwards \(\w+, \d+\.\d+ tokens each\)$",
                         result.stdout, re.MULTILINE)
    assert (len(captions), len(timings)) == (3, 3), result.stdout
    assert result.stdout.rstrip().endswith("stopped default")


def test_demo_fails_when_a_program_does(tmp_path, environment):
    for program in ("remask", "remask-coordinator", "remask-worker"):
        (tmp_path / program).symlink_to(BIN / program)
    broken = tmp_path / "remask"
    broken.unlink()
    broken.write_text('#!/bin/sh\n[ "$1" != caption ] || exit 1\nexec ' + str(BIN / "remask") + ' "$@"\n')
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    result = run(f"{ROOT}/tests/support/demo.sh {tmp_path}", environment)
    assert result.returncode == 1
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], check=False).returncode != 0


def test_ci_runs_what_the_readme_says():
    assert re.search(r"^exec \./dev test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert re.search(r"-m pytest [^\n]*\btests(/e2e)?$", (ROOT / "dev").read_text(), re.MULTILINE)


def test_all_other_commands_work_as_they_stand(environment):
    """In order: one starts what the next uses."""
    others = [command for command in commands() if command not in OWN]
    assert others, "README.md shows no command beside the first two"
    try:
        for command in others:
            result = run(command.replace("build/release/bin", str(BIN)), environment)
            assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    finally:
        run(f"{BIN}/remask down", environment)
