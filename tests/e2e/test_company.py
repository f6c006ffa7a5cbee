"""The answer does not depend on the neighbours, nor on faults: 65 requests of every kind, one by one, then all at once on
two groups of two ranks, then all at once while a rank is killed: the same ids after as many forwards.

RMK_COMPANY_ORDERS=N: N such rounds instead of one, each in another order, with another victim at another moment."""

import concurrent.futures
import os
import random

import pytest

import api
from api import pb
from cluster import ROOT, Cluster, wait_until

ORDERS = int(os.environ.get("RMK_COMPANY_ORDERS", "1"))
COUNT = 65
SECONDS = 120
PICTURES = [(ROOT / "tests" / "data" / "scenes" / name).read_bytes() for name in ("000.png", "001.jpg", "002.png", "008.jpg")]
PROMPTS = ("Please describe the image in detail.", "What color is the object?", "Describe.")
RULES = (pb.RULE_QUOTA, pb.RULE_THRESHOLD, pb.RULE_FACTOR, pb.RULE_HIERARCHICAL, pb.RULE_LOCAL_LEAP)
CACHES = (pb.CACHE_NONE, pb.CACHE_PROMPT, pb.CACHE_PREFIX, pb.CACHE_DUAL, pb.CACHE_FEATURE)


def requests():
    """Every profile and every rule with every cache; guidance, temperature, remasking, lengths and pictures by chance."""
    chance = random.Random(65)
    policies = [{"profile": name} for name in ("exact", "balanced", "fast")]
    policies += [{"rule": rule, "cache": cache} for rule in RULES for cache in CACHES]
    made = []
    for index in range(COUNT):
        sampling = dict(policies[index % len(policies)], seed=index)
        sampling["gen_length"] = chance.choice((16, 32, 48))
        sampling["block_length"] = chance.choice((8, sampling["gen_length"]))
        sampling["steps"] = sampling["gen_length"]
        if sampling.get("rule") in (pb.RULE_THRESHOLD, pb.RULE_HIERARCHICAL):
            sampling["threshold"] = chance.choice((0.9, 1))
        sampling["no_default_stop"] = chance.random() < 0.5
        if chance.random() < 0.4:
            sampling["temperature"] = 0.8
        if chance.random() < 0.3:
            sampling["cfg_scale"] = 1.5
        if sampling.get("rule", pb.RULE_QUOTA) == pb.RULE_QUOTA and "profile" not in sampling and chance.random() < 0.7:
            sampling["remasking"] = pb.RANDOM
        pictures = chance.sample(PICTURES, chance.choice((0, 1, 1, 1, 2)))
        made.append(api.ask(chance.choice(PROMPTS), pictures, sampling=pb.Sampling(**sampling)))
    return made


def describe(request):
    return " ".join(str(request.sampling).split())


def differences(asked, got, wanted):
    found = []
    for index, (request, one, other) in enumerate(zip(asked, got, wanted)):
        for what in ("ids", "text", "finish_reason"):
            if getattr(one, what) != getattr(other, what):
                found.append(f"request {index} ({describe(request)}): {what} {getattr(one, what)}, alone {getattr(other, what)}")
        for what in ("forwards", "refreshes", "profile", "numerics", "restarted"):
            if getattr(one.usage, what) != getattr(other.usage, what):
                found.append(f"request {index} ({describe(request)}): {what} {getattr(one.usage, what)}, "
                             f"alone {getattr(other.usage, what)}")
    return found


def together(client, asked, order, middle=lambda: None):
    """All at once, submitted in `order`; `middle` is called once a quarter of them are answered."""
    results = [None] * len(asked)
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        calls = {pool.submit(client.once, asked[index], SECONDS): index for index in order}
        for done, call in enumerate(concurrent.futures.as_completed(calls), start=1):
            results[calls[call]] = call.result()
            if done == len(asked) // 4:
                middle()
    return results


def is_whole(client):
    return all(group.state == "up" and len(group.ranks) == 2 for group in client.status().groups)


def test_alone_and_among_64_neighbours_and_through_a_killed_rank():
    asked = requests()
    with Cluster(groups=2, ranks=2, visions=1) as cluster, api.Client(cluster.endpoint) as client:
        alone = [client.once(request) for request in asked]
        assert sum(result.usage.forwards for result in alone) > 10 * COUNT
        for turn in range(ORDERS):
            order = random.Random(turn).sample(range(COUNT), COUNT)
            before = [group.rounds for group in client.status().groups]
            results = together(client, asked, order)
            assert not differences(asked, results, alone)
            assert all(result.usage.recoveries == 0 for result in results)
            after = [group.rounds for group in client.status().groups]
            assert all(now > then for now, then in zip(after, before)), "a group had no part in it"

            victim = f"text g{turn % 2}/{turn // 2 % 2}"
            results = together(client, asked, order[::-1], middle=lambda: cluster.kill(victim))
            assert not differences(asked, results, alone)
            assert any(result.usage.recoveries > 0 for result in results), f"{victim} was killed, and nobody noticed"
            wait_until(lambda: is_whole(client), f"the return of {victim}", SECONDS)
