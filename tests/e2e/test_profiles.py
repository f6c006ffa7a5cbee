"""Profiles, rules and caches of a running cluster: what is refused, what usage says, compare and bench."""

import json

import grpc
import pytest

import api
from api import pb
from cluster import ROOT, run_remask

SCENES = ROOT / "tests" / "data" / "scenes"
PICTURES = [SCENES / "000.png", SCENES / "001.jpg", SCENES / "002.png"]
PROMPT = "Please describe the image in detail."
QUICK = ["--gen-length", 32, "--steps", 8]


def ask(**fields):
    return api.ask(PROMPT, [PICTURES[0].read_bytes()],
                   sampling=pb.Sampling(**{"gen_length": 32, "steps": 8, **fields}))


def refusal(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


# ---- the API -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [
    {},
    {"profile": "exact"},
    {"rule": pb.RULE_QUOTA, "cache": pb.CACHE_NONE},
    {"profile": "fast", "rule": pb.RULE_QUOTA, "cache": pb.CACHE_NONE},
])
def test_exact_by_any_name_is_the_same_answer_and_is_called_exact(demo, fields):
    plain = demo.once(ask())
    answer = demo.once(ask(**fields))
    assert list(answer.ids) == list(plain.ids)
    assert answer.usage.profile == "exact"
    assert answer.usage.forwards > 0 and answer.usage.replays == 0
    assert 3 < answer.usage.tokens_per_forward <= 4  # fewer where a stop leaves less to commit


@pytest.mark.parametrize("fields,words", [
    ({"profile": "turbo"}, ["sampling.profile", "turbo", "balanced"]),
    ({"rule": 99}, ["sampling.rule", "99"]),
    ({"cache": 99}, ["sampling.cache", "99"]),
    ({"deadline_policy": 7}, ["sampling.deadline_policy", "7"]),
    ({"threshold": 0.9}, ["sampling.threshold", "QUOTA"]),
    ({"rule": pb.RULE_THRESHOLD, "threshold": 1.5}, ["sampling.threshold", "1.5"]),
    ({"rule": pb.RULE_THRESHOLD, "threshold": float("nan")}, ["sampling.threshold", "nan"]),
    ({"rule": pb.RULE_FACTOR, "factor": -1}, ["sampling.factor", "-1"]),
    ({"rule": pb.RULE_FACTOR, "remasking": pb.RANDOM}, ["sampling.rule", "remasking"]),
    ({"cache": pb.CACHE_FEATURE, "transfer_ratio": 2}, ["sampling.transfer_ratio", "2"]),
    ({"cache": pb.CACHE_DUAL, "prompt_interval": 4}, ["sampling.prompt_interval", "DUAL"]),
])
def test_fields_that_make_no_sense_are_refused_by_name(demo, fields, words):
    code, details = refusal(lambda: demo.once(ask(**fields)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert all(word in details for word in words), details


def test_the_lane_is_online_or_batch(demo):
    answer = demo.stub.GenerateOnce(ask(), timeout=60, metadata=[("x-remask-lane", "batch")])
    assert list(answer.ids) == list(demo.once(ask()).ids)
    code, details = refusal(
        lambda: demo.stub.GenerateOnce(ask(), timeout=60, metadata=[("x-remask-lane", "express")]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "x-remask-lane" in details and "express" in details


# ---- the commands --------------------------------------------------------------------------------------------------------


def test_caption_takes_a_profile(demo_cluster):
    plain = run_remask("caption", PICTURES[0], *QUICK, cluster=demo_cluster)
    exact = run_remask("caption", PICTURES[0], *QUICK, "--profile", "exact", "--lane", "batch", cluster=demo_cluster)
    assert exact.returncode == 0 and exact.stdout == plain.stdout
    wrong = run_remask("caption", PICTURES[0], *QUICK, "--factor", 2, cluster=demo_cluster)
    assert wrong.returncode == 1 and "sampling.factor" in wrong.stderr


def test_compare_of_exact_with_exact_finds_no_difference(demo_cluster):
    result = run_remask("compare", PICTURES[0], "--profile", "exact", *QUICK, cluster=demo_cluster)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.count("forwards") == 2 and "the answers are the same" in result.stdout
    line = json.loads(run_remask("compare", PICTURES[0], "--profile", "exact", "--json", *QUICK,
                                 cluster=demo_cluster).stdout)
    assert line["same"] and line["first_difference"] is None
    assert line["agreeing"] == line["positions"] == len(line["exact"]["ids"])
    assert line["exact"]["ids"] == line["other"]["ids"]
    assert line["exact"]["usage"]["forwards"] == line["other"]["usage"]["forwards"] > 0


@pytest.mark.parametrize("arguments,status,words", [
    (["compare"], 64, "IMAGE"),
    (["compare", "missing.png", "--endpoint", "127.0.0.1:1"], 1, "missing.png"),
    (["compare", PICTURES[0], "--endpoint", "127.0.0.1:1"], 69, "nobody answers"),
    (["compare", PICTURES[0], "--rule", "sometimes"], 64, "--rule"),
    (["bench", "--requests", 0], 64, "--requests"),
    (["bench", "--rate", -1], 64, "--rate"),
    (["bench", "--requests", 2, "--endpoint", "127.0.0.1:1"], 69, "nobody answers"),
    (["bench", "--endpoint", "nowhere"], 64, "nowhere"),
])
def test_mistakes_end_with_a_sentence_and_a_status(arguments, status, words):
    result = run_remask(*arguments, timeout=20)
    assert result.returncode == status, result
    assert words in result.stderr
    assert "\r" not in result.stderr and "\x1b" not in result.stdout + result.stderr


def test_bench_in_a_closed_loop_adds_up(demo_cluster):
    result = run_remask("bench", *PICTURES, "--requests", 6, "--warmup", 2, "--concurrency", 3, "--connections", 2,
                        "--json", *QUICK, cluster=demo_cluster)
    assert result.returncode == 0 and not result.stderr
    line = json.loads(result.stdout)
    assert (line["loop"], line["answered"], line["failed"], line["failures"]) == ("closed", 6, 0, {})
    for name in ("first_commit_ms", "first_text_ms", "end_ms", "queue_ms", "encode_ms", "compute_ms"):
        spread = line[name]
        assert 0 <= spread["p50"] <= spread["p90"] <= spread["p99"] <= spread["max"]
    assert 0 < line["first_commit_ms"]["p50"] <= line["end_ms"]["p50"]
    assert line["end_ms"]["count"] == 6
    assert line["images_per_second"] == line["requests_per_second"] == pytest.approx(6 / line["seconds"])
    assert 3 < line["tokens_per_forward"] <= 4 and line["profile"] == "exact"


def test_bench_in_an_open_loop_counts_from_when_requests_were_due(demo_cluster):
    result = run_remask("bench", "--prompt", "Hello", "--requests", 8, "--rate", 400, "--concurrency", 1, *QUICK, "--json",
                        cluster=demo_cluster)
    line = json.loads(result.stdout)
    assert result.returncode == 0 and (line["loop"], line["answered"]) == ("open", 8)
    assert line["images_per_second"] == 0
    # Due within some 20 ms, but sent one after the other: the last has waited for all the others.
    assert line["end_ms"]["max"] > 0.6 * 1000 * line["seconds"]
    assert line["queue_ms"]["max"] < line["end_ms"]["max"]


def test_bench_tells_failures_and_goes_on(demo_cluster):
    result = run_remask("bench", PICTURES[0], "missing.png", "--requests", 4, "--json", *QUICK, cluster=demo_cluster)
    line = json.loads(result.stdout)
    assert result.returncode == 1
    assert (line["answered"], line["failed"], line["failures"]) == (2, 2, {"NOT_FOUND": 2})
    assert "missing.png" in result.stderr
