"""kill -9 of a text rank, then of a vision worker, at five moments of a request: what was started again joins, and the
request ends with the ids of an undisturbed run. Moments are found by watching the request, not by waiting."""

import concurrent.futures
import functools
import io

import numpy
import pytest
from PIL import Image

import api
from api import pb
from cluster import ROOT, Cluster, is_alive, wait_until

PROMPT = "Please describe the image in detail."
SMALL = (ROOT / "tests" / "data" / "scenes" / "001.jpg").read_bytes()
STEPS = 64
MOMENTS = ("before submit", "during encode", "at prefetch", "early", "late")
SECONDS = 90


@functools.cache
def large_picture(seed):
    """Twelve megapixels: long enough to decode that a kill finds the vision worker at it. Each is another, as features are
    kept by content."""
    noise = numpy.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=numpy.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


def request_of(picture):
    return api.ask(PROMPT, [picture], stream_canvas=True,
                   sampling=pb.Sampling(gen_length=STEPS, block_length=STEPS, steps=STEPS, no_default_stop=True))


def encoded(client):
    return sum(vision.encoded for vision in client.status().visions)


def watch(client, cluster, picture, victim, moment):
    """Run the request, kill `victim` at `moment`; the result and the number of forwards seen before the kill."""
    killed_after = None
    forwards = 0
    before = encoded(client)
    if moment == "before submit":
        cluster.kill(victim)
        killed_after = 0
    call = client.stream(request_of(picture), timeout=SECONDS)
    for event in call:
        kind = event.WhichOneof("kind")
        if kind == "canvas":
            forwards += 1
        now = (moment == "during encode" and kind == "accepted" or moment == "early" and forwards == 4 or
               moment == "late" and forwards == STEPS - 8)
        if moment == "at prefetch" and kind == "accepted":
            wait_until(lambda: encoded(client) > before, "the end of the encode", SECONDS, pause=0)
            now = True
        if now and killed_after is None:
            cluster.kill(victim)
            killed_after = forwards
        if kind == "result":
            assert killed_after is not None, "the moment never came"
            return event.result, killed_after
    raise AssertionError("the stream ended without a result")


def is_whole(client, ranks, visions):
    status = client.status()
    return (len(status.visions) == visions and
            all(group.state == "up" and len(group.ranks) == ranks for group in status.groups))


def disturb(cluster, client, victim_of, visions, expected):
    for index, moment in enumerate(MOMENTS):
        victim = victim_of(index)
        picture = large_picture(index)
        result, forwards = watch(client, cluster, picture, victim, moment)
        assert list(result.ids) == expected[index], f"{victim} killed {moment}, after {forwards} forwards"
        if victim.startswith("text") and moment in ("early", "late"):
            assert result.usage.recoveries >= 1, f"{victim} killed {moment}"
        wait_until(lambda: is_whole(client, 2, visions), f"the return of {victim}", SECONDS)


@pytest.fixture(scope="module")
def expected():
    """What an undisturbed cluster answers, for the picture of each moment."""
    with Cluster(ranks=2) as cluster, api.Client(cluster.endpoint) as client:
        results = [client.once(request_of(large_picture(index))) for index in range(len(MOMENTS))]
    assert all(result.usage.recoveries == 0 for result in results)
    assert all(result.usage.forwards == STEPS for result in results)
    return [list(result.ids) for result in results]


def test_a_request_survives_a_killed_text_rank_at_five_moments(expected):
    with Cluster(ranks=2) as cluster, api.Client(cluster.endpoint) as client:
        disturb(cluster, client, lambda index: f"text g0/{index % 2}", 1, expected)
        assert "text g0" in cluster.processes()


def test_a_request_survives_a_killed_vision_worker_at_five_moments(expected):
    with Cluster(ranks=2) as cluster, api.Client(cluster.endpoint) as client:
        disturb(cluster, client, lambda index: "vision v0", 1, expected)


def test_another_vision_worker_takes_over(expected):
    with Cluster(ranks=2, visions=2) as cluster, api.Client(cluster.endpoint) as client:
        for index, moment in enumerate(MOMENTS[1:3], start=1):
            result, _ = watch(client, cluster, large_picture(index), f"vision v{index % 2}", moment)
            assert list(result.ids) == expected[index]
            wait_until(lambda: is_whole(client, 2, 2), "the return of a vision worker", SECONDS)


def test_another_group_takes_over():
    """The whole of a group is lost again and again; requests that ran on it go on."""
    request = request_of(SMALL)
    with Cluster(groups=2, ranks=1) as cluster, api.Client(cluster.endpoint) as client:
        alone = list(client.once(request).ids)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(client.once, request, SECONDS) for _ in range(4)]
            wait_until(lambda: client.status().open_requests == 4, "four requests", 20, pause=0.002)
            cluster.kill("text g0/0")
            results = [call.result() for call in calls]
        assert all(list(result.ids) == alone for result in results)
        wait_until(lambda: is_whole(client, 1, 1), "the return of the group", SECONDS)


def test_a_killed_supervisor_takes_its_ranks_with_it_and_all_come_back(expected):
    with Cluster(ranks=2) as cluster, api.Client(cluster.endpoint) as client:
        ranks = [pid for name, pid in cluster.processes().items() if name.startswith("text g0/")]
        assert len(ranks) == 2
        result, _ = watch(client, cluster, large_picture(3), "text g0", "early")
        assert list(result.ids) == expected[3]
        assert not any(is_alive(pid) for pid in ranks)
        assert result.usage.recoveries >= 1


def test_a_killed_coordinator_comes_back_on_its_port_and_finds_its_workers():
    request = api.ask(PROMPT, [SMALL], sampling=pb.Sampling(gen_length=16, block_length=16, steps=4))
    with Cluster(ranks=2) as cluster:
        with api.Client(cluster.endpoint) as client:
            before = list(client.once(request).ids)
        endpoint = cluster.endpoint
        gone = cluster.kill("coordinator")
        wait_until(lambda: cluster.processes().get("coordinator", gone) != gone, "another coordinator", SECONDS)
        assert cluster.endpoint == endpoint
        with api.Client(endpoint) as client:
            wait_until(lambda: answers(client), "an answer", SECONDS, pause=0.1)
            wait_until(lambda: is_whole(client, 2, 1), "the return of the workers", SECONDS)
            assert list(client.once(request).ids) == before


def answers(client):
    try:
        return client.status() is not None
    except api.grpc.RpcError:
        return False
