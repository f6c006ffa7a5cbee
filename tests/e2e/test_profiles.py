"""Profiles, rules and caches of a running cluster: what is refused, what usage says, compare and bench."""

import concurrent.futures
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


# ---- other profiles, rules and caches ------------------------------------------------------------------------------------


def fields_of_every_kind():
    rules = [pb.RULE_QUOTA, pb.RULE_THRESHOLD, pb.RULE_FACTOR, pb.RULE_HIERARCHICAL, pb.RULE_LOCAL_LEAP]
    caches = [pb.CACHE_NONE, pb.CACHE_PROMPT, pb.CACHE_PREFIX, pb.CACHE_DUAL, pb.CACHE_FEATURE]
    return ([{"profile": name} for name in ("exact", "balanced", "fast")]
            + [{"rule": rule, "cache": cache} for rule in rules for cache in caches])


def blocks(fields):
    return ask(block_length=8, steps=16, **fields)


def test_every_rule_and_cache_answers_the_same_alone_and_among_the_others(demo):
    everything = [blocks(fields) for fields in fields_of_every_kind()]
    alone = [demo.once(request) for request in everything]
    with concurrent.futures.ThreadPoolExecutor(len(everything)) as pool:
        together = list(pool.map(demo.once, everything))
    assert [list(a.ids) for a in together] == [list(a.ids) for a in alone]
    assert [a.usage.forwards for a in together] == [a.usage.forwards for a in alone]
    assert [a.usage.refreshes for a in together] == [a.usage.refreshes for a in alone]
    for request, answer in zip(everything, alone):
        assert answer.finish_reason in ("stop", "length") and 0 < answer.usage.refreshes <= answer.usage.forwards
        assert answer.usage.replays == 0
        if request.sampling.cache == pb.CACHE_NONE:
            assert answer.usage.refreshes == answer.usage.forwards


@pytest.mark.parametrize("profile", ["balanced", "fast"])
def test_profiles_are_called_by_their_name_and_need_fewer_forwards(demo, profile):
    exact = demo.once(ask(steps=32))
    answer = demo.once(ask(steps=32, profile=profile))
    assert answer.usage.profile == profile
    assert 2 * answer.usage.forwards < exact.usage.forwards
    assert 0 < answer.usage.refreshes <= answer.usage.forwards
    assert answer.usage.tokens_per_forward > 2 * exact.usage.tokens_per_forward
    assert demo.once(ask(profile=profile, cache=pb.CACHE_NONE)).usage.profile == "custom"


def test_a_refresh_at_every_step_is_no_cache(demo):
    plain = demo.once(ask())
    for cache in (pb.CACHE_PROMPT, pb.CACHE_PREFIX, pb.CACHE_DUAL):
        answer = demo.once(ask(cache=cache, refresh_interval=1))
        assert list(answer.ids) == list(plain.ids)
        assert answer.usage.refreshes == answer.usage.forwards == plain.usage.forwards


def test_the_best_at_the_deadline_is_the_beginning_of_the_answer(demo):
    fields = {"gen_length": 96, "block_length": 2, "steps": 96, "no_default_stop": True}
    whole = demo.once(ask(**fields), timeout=120)
    seconds = whole.usage.total_us / 1e6
    best = demo.once(ask(deadline_policy=pb.DEADLINE_BEST, **fields), timeout=seconds / 3)
    assert best.finish_reason == "deadline"
    assert 0 < len(best.ids) < len(whole.ids)
    assert list(best.ids) == list(whole.ids[:len(best.ids)])
    assert best.usage.forwards < whole.usage.forwards
    code, _ = refusal(lambda: demo.once(ask(**fields), timeout=seconds / 6))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_compare_shows_what_a_profile_costs_and_changes(demo_cluster):
    for profile in ("balanced", "fast"):
        line = json.loads(run_remask("compare", PICTURES[1], "--profile", profile, "--gen-length", 64, "--json",
                                     cluster=demo_cluster).stdout)
        exact, other = line["exact"], line["other"]
        assert (exact["usage"]["profile"], other["usage"]["profile"]) == ("exact", profile)
        assert line["speedup"] > 1 and other["usage"]["forwards"] < exact["usage"]["forwards"]
        assert line["same"] == (exact["ids"] == other["ids"])
        if not line["same"]:
            first = line["first_difference"]
            assert exact["ids"][:first] == other["ids"][:first]
            assert exact["ids"][first:first + 1] != other["ids"][first:first + 1]
            assert exact["parting"]["before"] == other["parting"]["before"]


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
