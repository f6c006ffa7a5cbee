"""Running ahead changes no answer: the same requests on clusters with and without it give the same ids, the same text and the
same usage, and with it fewer rounds than forwards."""

import re

import pytest

import api
from api import pb
from cluster import ROOT, Cluster

SCENES = ROOT / "tests" / "data" / "scenes"
PICTURE = (SCENES / "001.jpg").read_bytes()
PROMPT = "Please describe the image in detail."
AHEAD = 8

CASES = {
    "official": {},
    "blocks": {"block_length": 8},
    "warm": {"temperature": 0.7, "seed": 5},
    "random": {"remasking": pb.RANDOM, "seed": 6},
    "golden": {"remasking": pb.RANDOM, "temperature": 0.5, "seed": 7, "noise": pb.NOISE_REFERENCE},
    "guidance": {"cfg_scale": 1.5},
    "threshold": {"rule": pb.RULE_THRESHOLD, "block_length": 16},
    "factor": {"rule": pb.RULE_FACTOR, "block_length": 16},
    "hierarchical": {"rule": pb.RULE_HIERARCHICAL, "block_length": 16},
    "local leap": {"rule": pb.RULE_LOCAL_LEAP},
    "prompt cache": {"cache": pb.CACHE_PROMPT, "refresh_interval": 5},
    "prefix cache": {"cache": pb.CACHE_PREFIX, "block_length": 8},
    "dual cache": {"cache": pb.CACHE_DUAL, "block_length": 8, "refresh_interval": 3},
    "feature cache": {"cache": pb.CACHE_FEATURE, "prompt_interval": 6, "gen_interval": 3},
    "balanced": {"profile": "balanced"},
    "fast": {"profile": "fast"},
    "stop": {"stop": ["."]},
    "stop in text": {"stop": [" a"], "stop_level": pb.STOP_TEXT},
}


def cluster_with(ahead):
    return Cluster(ranks=2, flags=[f"--coordinator-flag=--run-ahead={ahead}"])


def count_rounds(cluster):
    _, text = cluster.get("/metrics")
    return int(re.search(r"^remask_rounds_total (\d+)", text, re.MULTILINE).group(1))


def ask(fields, pictures=(PICTURE,)):
    sampling = pb.Sampling(**{"gen_length": 32, "steps": 32, "block_length": 32, **fields})
    return api.ask(PROMPT, list(pictures), sampling=sampling)


def answers(cluster):
    """By case: what must not depend on running ahead, and the rounds it took."""
    found = {}
    with api.Client(cluster.endpoint) as client:
        for name, fields in CASES.items():
            before = count_rounds(cluster)
            result = client.once(ask(fields))
            usage = result.usage
            found[name] = (
                (list(result.ids), result.text, result.finish_reason, usage.forwards, usage.refreshes, usage.replays,
                 usage.profile),
                count_rounds(cluster) - before)
    return found


@pytest.fixture(scope="module")
def both():
    with cluster_with(1) as cluster:
        without = answers(cluster)
    with cluster_with(AHEAD) as cluster:
        return without, answers(cluster)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_and_its_usage_are_the_same_with_and_without(both, name):
    without, ahead = both
    assert ahead[name][0] == without[name][0]


def test_rounds_are_saved_where_nobody_waits_and_nobody_looks_at_each_step(both):
    without, ahead = both
    for name in CASES:
        forwards = without[name][0][3]
        looks = name == "stop in text"  # which is seen when the next round is under way
        assert without[name][1] == forwards + looks
        assert ahead[name][1] == forwards + 1 if looks else ahead[name][1] <= forwards
    # How many depends on what forwards cost here, as measured at the start.
    assert sum(rounds for _, rounds in ahead.values()) < sum(rounds for _, rounds in without.values())
