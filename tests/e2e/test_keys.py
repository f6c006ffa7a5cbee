"""A server with API keys: who comes in, as whom, and what the logs say of it."""

import os
import signal
import subprocess

import grpc
import pytest

import api
from api import pb
from cluster import BIN, DEMO, ROOT, Cluster, run_remask, wait_until

KEY_A = "the-key-of-team-a-0123456789"
KEY_B = "the-key-of-team-b-0123456789"
KEY_C = "another-key-of-team-b-01234"
REQUEST = api.ask("Hello", sampling=pb.Sampling(gen_length=8, block_length=8, steps=2))


def write_keys(path, text):
    path.touch(mode=0o600)
    path.write_text(text)


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "api-keys"
    write_keys(path, f"# two teams\n{KEY_A} team-a\n{KEY_B} team-b\n")
    with Cluster(visions=0, flags=[f"--coordinator-flag=--api-keys={path}",
                                   "--coordinator-flag=--no-require-vision"]) as cluster:
        cluster.key_file = path
        yield cluster


def refusal(cluster, key=None, ask=lambda client: client.once(REQUEST)):
    with api.Client(cluster.endpoint, key) as client, pytest.raises(grpc.RpcError) as caught:
        ask(client)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    return caught.value.details()


def log_of(cluster):
    return (cluster.logs / "coordinator.log").read_text()


def test_nobody_comes_in_without_a_key(keyed):
    for ask in (lambda client: client.once(REQUEST), lambda client: list(client.stream(REQUEST)),
                lambda client: client.status()):
        assert "this server wants an API key" in refusal(keyed, ask=ask)


def test_a_wrong_key_is_refused_and_not_repeated_anywhere(keyed):
    wrong = KEY_A[:-1] + "x"
    assert refusal(keyed, wrong) == "authorization: the API key is not known here"
    assert wrong not in log_of(keyed)


def test_another_scheme_is_refused(keyed):
    with api.Client(keyed.endpoint) as client:
        client.metadata = [("authorization", f"Basic {KEY_A}")]
        with pytest.raises(grpc.RpcError) as caught:
            client.status()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_keys_come_in_as_their_tenants(keyed):
    with api.Client(keyed.endpoint, KEY_A) as a, api.Client(keyed.endpoint) as b:
        b.metadata = [("authorization", f"bearer {KEY_B}")]
        assert a.status().state == "ready"
        ids = list(a.once(REQUEST).ids)
        assert list(b.once(REQUEST).ids) == ids
        text = wait_until(lambda: "tenant=team-b" in log_of(keyed) and log_of(keyed), "the access log", 10)
    assert "tenant=team-a" in text
    assert KEY_A not in text and KEY_B not in text
    status, metrics = keyed.get("/metrics")
    assert status == 200
    for tenant in ("team-a", "team-b"):
        assert f'remask_tenant_requests_total{{tenant="{tenant}"}}' in metrics
    assert 'remask_requests_total{status="UNAUTHENTICATED"}' in metrics


def test_request_ids_of_tenants_do_not_meet(keyed):
    """Neither a stored answer nor the word that an id is taken crosses over."""
    mine = pb.GenerateRequest()
    mine.CopyFrom(REQUEST)
    mine.request_id = "daily"
    theirs = pb.GenerateRequest()
    theirs.CopyFrom(mine)
    theirs.sampling.steps = 4
    plain = pb.GenerateRequest()
    plain.CopyFrom(theirs)
    plain.request_id = ""
    with api.Client(keyed.endpoint, KEY_A) as a, api.Client(keyed.endpoint, KEY_B) as b:
        a.once(mine)
        named, unnamed = b.once(theirs), b.once(plain)
        assert (named.usage.forwards, list(named.ids)) == (unnamed.usage.forwards, list(unnamed.ids))
        with pytest.raises(grpc.RpcError) as caught:
            a.once(theirs)
        assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS


def test_health_stays_open(keyed):
    with grpc.insecure_channel(keyed.endpoint) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"


def test_the_command_line_shows_a_key(keyed, monkeypatch):
    assert run_remask("status", "--api-key", KEY_A, cluster=keyed).returncode == 0
    result = run_remask("status", cluster=keyed)
    assert result.returncode != 0 and "this server wants an API key" in result.stderr
    keyed.environment["REMASK_API_KEY"] = KEY_B
    try:
        assert run_remask("status", cluster=keyed).returncode == 0
        result = run_remask("bench", "--requests", 2, "--gen-length", 8, "--connections", 2, cluster=keyed)
        assert result.returncode == 0, result.stderr
    finally:
        del keyed.environment["REMASK_API_KEY"]


def test_a_hangup_reads_the_keys_again(keyed):
    coordinator = keyed.processes()["coordinator"]
    write_keys(keyed.key_file, f"{KEY_A} team-a\n{KEY_C} team-b\n")
    os.kill(coordinator, signal.SIGHUP)
    with api.Client(keyed.endpoint, KEY_C) as client:
        def comes_in():
            try:
                return client.once(REQUEST) is not None
            except grpc.RpcError:
                return False
        wait_until(comes_in, "the new key", 10)
    assert "not known" in refusal(keyed, KEY_B)

    write_keys(keyed.key_file, f"{KEY_B} team-b\n{KEY_A}\n")
    os.kill(coordinator, signal.SIGHUP)
    text = wait_until(lambda: "API keys not reloaded" in log_of(keyed) and log_of(keyed), "the refusal of the file", 10)
    assert "line 2: no tenant" in text and KEY_A not in text
    with api.Client(keyed.endpoint, KEY_C) as client:
        assert client.status().state == "ready"
    assert keyed.processes()["coordinator"] == coordinator


def coordinator(*flags):
    """One that listens on every address, by itself."""
    return subprocess.Popen(
        [BIN / "remask-coordinator", "--model", DEMO, "--listen", "0.0.0.0:0", "--cluster-listen", "127.0.0.1:0",
         "--metrics-listen", "127.0.0.1:0", *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_beyond_this_machine_keys_are_enough_and_nothing_is_not(tmp_path):
    process = coordinator()
    _, text = process.communicate(timeout=60)
    assert process.returncode != 0 and "0.0.0.0:0 is beyond this machine" in text

    path = tmp_path / "api-keys"
    write_keys(path, f"{KEY_A} team-a\n")
    ready = tmp_path / "ready"
    process = coordinator("--api-keys", path, "--ready-file", ready)
    try:
        wait_until(ready.exists, "the coordinator", 60)
    finally:
        process.terminate()
        _, text = process.communicate(timeout=60)
    assert process.returncode == 0 and "API keys travel in plain text" in text


def test_a_file_of_keys_that_everybody_may_read_is_refused(tmp_path):
    path = tmp_path / "api-keys"
    write_keys(path, f"{KEY_A} team-a\n")
    path.chmod(0o644)
    process = coordinator("--api-keys", path)
    _, text = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"--api-keys: {path}: everybody on this machine may read or change it" in text


def test_a_hangup_without_keys_changes_nothing(tmp_path):
    process = subprocess.Popen(
        [BIN / "remask-coordinator", "--model", DEMO, "--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0",
         "--metrics-listen", "127.0.0.1:0", "--ready-file", tmp_path / "ready"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        wait_until((tmp_path / "ready").exists, "the coordinator", 60)
        process.send_signal(signal.SIGHUP)
        line = wait_until(process.stderr.readline, "a line of the log", 10)
        while "nothing to reload" not in line:
            assert process.poll() is None, line
            line = process.stderr.readline()
        assert 'why="there is no --api-keys"' in line
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
