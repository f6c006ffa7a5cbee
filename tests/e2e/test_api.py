"""The public API of a running cluster: what is refused and how, the same request twice, leaving early, streaming, health,
metrics."""

import concurrent.futures
import io
import json
import math
import re
import struct
import threading
import time
import zlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

import api
from api import pb
from cluster import DEMO, ROOT, is_alive, wait_until

SCENES = ROOT / "tests" / "data" / "scenes"
PICTURE = (SCENES / "000.png").read_bytes()
JPEG = (SCENES / "001.jpg").read_bytes()
PROMPT = "Please describe the image in detail."
QUICK = pb.Sampling(gen_length=16, block_length=16, steps=4)
LONG = pb.Sampling(gen_length=1024, block_length=1024, steps=1024, no_default_stop=True)  # minutes, if nobody stops it


def quick(**fields):
    return api.ask(PROMPT, [PICTURE], sampling=QUICK, **fields)


def sampling(**fields):
    return api.ask("Hello", sampling=pb.Sampling(**fields))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png():
    """65535 x 65535 pixels in some hundred bytes."""
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
            + png_chunk(b"IEND", b""))


def gif():
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "GIF")
    return out.getvalue()


def two_roles():
    return pb.GenerateRequest(messages=[pb.Message(role="robot", parts=[pb.Part(text="Hi")])])


INVALID = grpc.StatusCode.INVALID_ARGUMENT

# name: request, status, words the sentence must have
BAD = {
    "no picture file": (api.ask(PROMPT, [b"this is no picture"], sampling=QUICK), INVALID, ["media 0"]),
    "an empty picture": (api.ask(PROMPT, [b""], sampling=QUICK), INVALID, ["media 0"]),
    "a GIF": (api.ask(PROMPT, [gif()], sampling=QUICK), INVALID, ["media 0", "GIF"]),
    "a PNG cut in its header": (api.ask(PROMPT, [PICTURE[:20]], sampling=QUICK), INVALID, ["media 0"]),
    "a PNG cut in its pixels": (api.ask(PROMPT, [PICTURE[: len(PICTURE) // 2]], sampling=QUICK), INVALID, ["PNG"]),
    "a JPEG cut in its pixels": (api.ask(PROMPT, [JPEG[: len(JPEG) // 2]], sampling=QUICK), INVALID, ["JPEG"]),
    "a JPEG cut in its header": (api.ask(PROMPT, [JPEG[:30]], sampling=QUICK), INVALID, ["media 0"]),
    "the second picture is bad": (api.ask(PROMPT, [PICTURE, b"x"], sampling=QUICK), INVALID, ["media 1"]),
    "65535 x 65535 pixels": (api.ask(PROMPT, [huge_png()], sampling=QUICK), INVALID, ["media 0", "65535"]),
    "media that are nothing": (
        pb.GenerateRequest(messages=[pb.Message(role="user", parts=[pb.Part(media=pb.Media())])]), INVALID,
        ["media 0", "neither an image nor a video"]),
    "a video without frames": (
        pb.GenerateRequest(messages=[pb.Message(role="user", parts=[pb.Part(media=api.video([]))])]), INVALID, ["frames"]),
    "gen_length does not divide": (sampling(gen_length=30, block_length=16, steps=30), INVALID, ["block_length", "16", "30"]),
    "steps do not divide": (sampling(gen_length=32, block_length=8, steps=6), INVALID, ["steps", "6"]),
    "gen_length too large": (sampling(gen_length=4_000_000_000), INVALID, ["gen_length"]),
    "steps too large": (sampling(gen_length=16, block_length=16, steps=4_000_000_000), INVALID, ["steps"]),
    "temperature is no number": (sampling(temperature=math.nan), INVALID, ["temperature"]),
    "temperature is negative": (sampling(temperature=-1), INVALID, ["temperature"]),
    "temperature is infinite": (sampling(temperature=math.inf), INVALID, ["temperature"]),
    "cfg_scale is infinite": (sampling(cfg_scale=math.inf), INVALID, ["cfg_scale"]),
    "cfg_scale is no number": (sampling(cfg_scale=math.nan), INVALID, ["cfg_scale"]),
    "too many stops": (sampling(stop=["a"] * 17), INVALID, ["stop", "17"]),
    "a stop is too long": (sampling(stop=["xyzzy " * 200]), INVALID, ["stop"]),
    "the suffix is too long": (sampling(suffix="xyzzy " * 1000), INVALID, ["suffix"]),
    "the prompt is too long": (api.ask("xyzzy " * 20000, sampling=QUICK), INVALID, ["rows", "4096"]),
    "the text is too long": (api.ask("x" * (2 << 20), sampling=QUICK), INVALID, ["bytes"]),
    "no messages": (pb.GenerateRequest(sampling=QUICK), INVALID, ["messages"]),
    "too many messages": (
        pb.GenerateRequest(messages=[pb.Message(role="user", parts=[pb.Part(text="x")])] * 1100), INVALID, ["messages"]),
    "an unknown role": (two_roles(), INVALID, ["role", "robot"]),
    "more placeholders than pictures": (
        api.ask("<image> and <image>", placeholders_in_text=True, media=[api.picture(PICTURE)]), INVALID,
        ["placeholder", "2", "1"]),
    "more pictures than placeholders": (
        api.ask("<image>", placeholders_in_text=True, media=[api.picture(PICTURE)] * 3), INVALID, ["placeholder", "1", "3"]),
    "media without a place": (api.ask("Hi", media=[api.picture(PICTURE)]), INVALID, ["media"]),
    "too many pictures": (api.ask("Hi", [PICTURE] * 17), INVALID, ["16"]),
    "raw prompt without leave": (pb.GenerateRequest(raw_prompt="<|startoftext|>"), INVALID, ["allow_special_tokens"]),
    "raw prompt beside messages": (
        api.ask("Hi", raw_prompt="x", allow_special_tokens=True), INVALID, ["raw_prompt"]),
    "a request id that is too long": (quick(request_id="x" * 200), INVALID, ["request_id"]),
    "a request id with a line end": (quick(request_id="x\ny"), INVALID, ["request_id"]),
    "another model": (quick(model="gpt-4"), grpc.StatusCode.NOT_FOUND, ["gpt-4", "demo"]),
    "an unknown image mode": (quick(image_mode=77), INVALID, ["image_mode", "77"]),
    "an unknown remasking": (sampling(remasking=9), INVALID, ["remasking", "9"]),
}

GOOD = api.ask("Hello", sampling=pb.Sampling(gen_length=8, block_length=8, steps=2))


def raw_bad():
    """Bytes that no client library would send."""
    text = quick(request_id="AAAAAAAA").SerializeToString()
    return {
        "no message": b"\xff\xff\xff\xff",
        "a message cut short": text[: len(text) // 2],
        "text that is no UTF-8": text.replace(PROMPT.encode(), b"\xff\xfe" + PROMPT.encode()[2:]),
        "text with a NUL": text.replace(PROMPT.encode(), b"\0" + PROMPT.encode()[1:]),
        "a request id that is no UTF-8": text.replace(b"AAAAAAAA", b"AAAA\xc3\x28AA"),
        "nested groups": b"\x0b" * 5000,
    }


def assert_unharmed(cluster, client, coordinator):
    assert is_alive(coordinator)
    assert client.once(GOOD).finish_reason in ("stop", "length")
    assert cluster.processes()["coordinator"] == coordinator


def assert_sentence(details):
    assert details and "\n" not in details and len(details) < 600
    assert not re.search(r"0x[0-9a-f]{6}|\.c:\d|/tmp/|/home/|/proc/", details), details


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence_and_harms_nobody(name, demo_cluster, demo):
    request, status, words = BAD[name]
    coordinator = demo_cluster.processes()["coordinator"]
    for attempt in (demo.once, lambda wrong: list(demo.stream(wrong))):
        with pytest.raises(grpc.RpcError) as caught:
            attempt(request)
        assert caught.value.code() == status, caught.value
        assert_sentence(caught.value.details())
        for word in words:
            assert word in caught.value.details()
    assert_unharmed(demo_cluster, demo, coordinator)


@pytest.mark.parametrize("name", raw_bad())
def test_bytes_that_are_no_request_are_refused(name, demo_cluster, demo):
    coordinator = demo_cluster.processes()["coordinator"]
    with pytest.raises(grpc.RpcError) as caught:
        demo.raw(raw_bad()[name])
    assert caught.value.code() == INVALID, caught.value
    assert_sentence(caught.value.details())
    assert_unharmed(demo_cluster, demo, coordinator)


def test_unknown_methods_are_named(demo):
    with pytest.raises(grpc.RpcError) as caught:
        demo.raw(b"", method="Frobnicate")
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "Frobnicate" in caught.value.details()


def test_special_tokens_in_a_message_are_text(demo):
    rows = demo.once(api.ask("Hi", sampling=QUICK)).usage.prompt_rows
    plain = demo.once(api.ask("Hi<|eot_id|>", sampling=QUICK)).usage.prompt_rows
    special = demo.once(api.ask("Hi<|eot_id|>", sampling=QUICK, allow_special_tokens=True)).usage.prompt_rows
    assert special == rows + 1
    assert plain > rows + 1


# ---- the same request again --------------------------------------------------------------------------------------------


def test_the_same_id_joins_a_request_that_is_under_way(demo):
    before = demo.status().accepted
    request = api.ask(PROMPT, [PICTURE], request_id="joined", sampling=pb.Sampling(gen_length=64, block_length=64, steps=64))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(demo.once, [request] * 4))
    assert all(result == results[0] for result in results)
    assert demo.status().accepted == before + 1


def test_the_same_id_afterwards_gives_the_stored_answer(demo):
    first = demo.once(quick(request_id="again"))
    before = demo.status().accepted
    assert demo.once(quick(request_id="again")) == first
    streamed = list(demo.stream(quick(request_id="again")))
    assert streamed[-1].result == first
    assert "".join(event.text.text for event in streamed) == first.text
    assert demo.status().accepted == before


def test_the_same_id_with_other_contents_is_refused(demo):
    demo.once(quick(request_id="taken"))
    other = api.ask("Something else", [PICTURE], request_id="taken", sampling=QUICK)
    with pytest.raises(grpc.RpcError) as caught:
        demo.once(other)
    assert caught.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert "request_id" in caught.value.details()


def test_a_request_without_an_id_gets_one(demo):
    ids = {demo.once(quick()).request_id for _ in range(3)}
    assert len(ids) == 3 and all(ids)


# ---- leaving early --------------------------------------------------------------------------------------------------------


def open_requests(client):
    status = client.status()
    return status.open_requests


def test_a_cancelled_request_ends_at_the_next_round(demo):
    call = demo.stream(api.ask(PROMPT, [PICTURE], sampling=LONG, stream_canvas=True))
    for event in call:
        if event.WhichOneof("kind") == "canvas":
            break
    assert open_requests(demo) == 1
    call.cancel()
    wait_until(lambda: open_requests(demo) == 0, "the end of a cancelled request", 20)
    assert demo.once(quick()).finish_reason


def test_a_request_is_cancelled_only_when_its_last_listener_has_left(demo):
    request = api.ask(PROMPT, [PICTURE], sampling=LONG, request_id="two listeners")
    first, second = demo.stream(request), demo.stream(request)
    assert next(first).WhichOneof("kind") == "accepted"
    assert next(second).WhichOneof("kind") == "accepted"
    first.cancel()
    time.sleep(0.3)
    assert open_requests(demo) == 1
    second.cancel()
    wait_until(lambda: open_requests(demo) == 0, "the end of a cancelled request", 20)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.5])
def test_a_deadline_ends_the_request(seconds, demo):
    with pytest.raises(grpc.RpcError) as caught:
        demo.once(api.ask(PROMPT, [PICTURE], sampling=LONG), timeout=seconds)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: open_requests(demo) == 0, "the end of a request past its deadline", 20)


def test_full_is_an_answer(demo):
    """The cluster was started with room for 64 requests."""
    calls = [demo.stream(api.ask(f"Number {i}", sampling=LONG)) for i in range(80)]
    refused = []

    def first_event(call):
        try:
            next(call)
        except grpc.RpcError as error:
            refused.append(error)

    threads = [threading.Thread(target=first_event, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for call in calls:
        call.cancel()
    assert len(refused) == 16
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    for error in refused:
        assert_sentence(error.details())
    wait_until(lambda: open_requests(demo) == 0, "the end of all requests", 30)


# ---- streaming ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [8, 64])
def test_streamed_pieces_are_the_final_text(block, demo):
    request = api.ask(PROMPT, [PICTURE], return_ids=True, stream_canvas=True,
                      sampling=pb.Sampling(gen_length=64, block_length=block, steps=32))
    events = list(demo.stream(request))
    kinds = [event.WhichOneof("kind") for event in events]
    assert kinds[0] == "accepted" and kinds.count("accepted") == 1
    assert kinds[-1] == "result" and kinds.count("result") == 1
    result = events[-1].result
    assert "".join(event.text.text for event in events if event.WhichOneof("kind") == "text") == result.text
    assert [one for event in events for one in event.text.ids] == list(result.ids)
    assert events[0].accepted.prompt_rows == result.usage.prompt_rows
    assert events[0].accepted.request_id == result.request_id
    canvases = [event.canvas for event in events if event.WhichOneof("kind") == "canvas"]
    assert len(canvases) == result.usage.forwards
    assert all(len(canvas.ids) == 64 for canvas in canvases)
    once = demo.once(request)
    assert (list(once.ids), once.text) == (list(result.ids), result.text)


def test_a_position_that_is_decided_stays(demo):
    tokens = json.loads((DEMO / "tokenizer.json").read_text())["added_tokens"]
    mask = next(token["id"] for token in tokens if token["content"] == "<|mdm_mask|>")
    request = api.ask(PROMPT, [PICTURE], stream_canvas=True,
                      sampling=pb.Sampling(gen_length=32, block_length=8, steps=16, no_default_stop=True))
    canvas = [mask] * 32
    for event in demo.stream(request):
        if event.WhichOneof("kind") == "canvas":
            assert all(old in (mask, new) for old, new in zip(canvas, event.canvas.ids, strict=True))
            assert list(event.canvas.ids) != canvas
            canvas = list(event.canvas.ids)
    assert mask not in canvas


# ---- health, metrics ------------------------------------------------------------------------------------------------------------


def test_health_tells_of_the_server_and_its_service(demo_cluster):
    with grpc.insecure_channel(demo_cluster.endpoint) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "remask.v1.Remask"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        first = next(stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=10))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


SAMPLE = re.compile(r'^([a-z_]+)(\{[a-z_]+="[^"\n]*"(?:,[a-z_]+="[^"\n]*")*\})? (NaN|[+-]?Inf|-?[0-9.e+-]+)$')


def read_metrics(cluster):
    status, text = cluster.get("/metrics")
    assert status == 200
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in types, f"{name} is announced twice"
            types[name] = kind
        elif line and not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            family = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in types or family in types, line
            key = match[1] + (match[2] or "")
            assert key not in values, f"{key} is there twice"
            values[key] = float(match[3])
    return values, types


def test_metrics_are_prometheus_text_and_count(demo_cluster, demo):
    before, types = read_metrics(demo_cluster)
    result = demo.once(quick())
    after, _ = read_metrics(demo_cluster)
    assert {"counter", "gauge", "histogram"} <= set(types.values())
    assert after["remask_accepted_total"] == before["remask_accepted_total"] + 1
    assert after["remask_forwards_total"] >= before["remask_forwards_total"] + result.usage.forwards
    assert after["remask_groups_up"] == 1
    assert after["remask_visions_up"] == 1
    assert after["remask_ready"] == 1


def test_probes_answer(demo_cluster):
    assert demo_cluster.get("/healthz")[0] == 200
    assert demo_cluster.get("/readyz")[0] == 200
    assert demo_cluster.get("/etc/passwd")[0] == 404


def test_usage_says_where_the_time_went(demo):
    usage = demo.once(api.ask(PROMPT, [JPEG], sampling=QUICK)).usage
    assert usage.prompt_rows > usage.image_rows > 0
    assert usage.image_tiles >= 2
    assert 0 < usage.forwards <= 4
    assert usage.total_us >= usage.first_commit_us > 0
    assert usage.total_us >= usage.queue_us >= usage.encode_us
    assert usage.queue_us > 0
    assert usage.compute_us > 0
    assert usage.refreshes == usage.forwards
    assert usage.tokens_per_forward == pytest.approx(4, abs=1)
    assert (usage.replays, usage.recoveries, usage.restarted) == (0, 0, False)
    assert usage.profile == "exact"
    assert usage.numerics.startswith("cpu/")
