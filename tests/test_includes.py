"""Who may include whom (docs/architecture.md, "Tree"): includes are written from the root and point one way."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Longest prefix wins. A folder may include itself and what is listed.
ALLOWED = {
    "common": [],
    "common/rpc": ["common", "proto"],
    "model": ["common"],
    # kernels take dtypes from the checkpoint's own header: model/safetensors.h.
    "kernels": ["common", "model"],
    "coordinator/engine": ["common"],
    "coordinator": ["common", "common/rpc", "model", "coordinator/engine", "proto"],
    "worker/tp": ["common", "kernels", "model"],
    "worker/text": ["common", "model", "kernels", "worker/tp"],
    "worker/vision": ["common", "model", "kernels"],
    "worker": ["common", "common/rpc", "model", "kernels", "worker/tp", "worker/text", "worker/vision", "proto"],
    "cli": ["common", "common/rpc", "model", "proto"],
}

# Where coordinator and worker meet besides proto/: the commit code, which both run. It knows of nothing else.
SHARED = {f"coordinator/engine/{name}.h" for name in ("ahead", "canvas", "cache", "denoise", "rules")}
SHARES = ("worker/text/run_ahead.c", "worker/text/plan.c")

# What serves, and so may know of gRPC and of the worker's own plumbing.
SERVING = {
    "worker/text/serve.c", "worker/text/serve.h", "worker/text/plan.c", "worker/text/plan.h", "worker/text/staging.c",
    "worker/text/staging.h", "worker/vision/serve.c", "worker/vision/serve.h", "worker/vision/order.c",
    "worker/vision/order.h", "worker/vision/pull.c", "worker/vision/pull.h", "worker/vision/fetch.c",
    "worker/vision/fetch.h", "worker/vision/cache.c", "worker/vision/cache.h",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def folder_of(path):
    best = ""
    for folder in list(ALLOWED) + ["proto"]:
        if path.startswith(folder + "/") and len(folder) > len(best):
            best = folder
    return best


def target_of(include):
    if include.endswith(".pb-c.h"):
        return "proto"
    return folder_of(include)


def sources():
    for folder in ("common", "model", "kernels", "coordinator", "worker", "cli"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".c", ".h", ".cu", ".cuh"):
                yield path.relative_to(ROOT).as_posix()


def test_includes_point_one_way():
    wrong = []
    checked = 0
    for source in sources():
        folder = "worker" if source in SERVING else folder_of(source)
        allowed = set(ALLOWED[folder]) | {folder}
        for include in INCLUDE.findall((ROOT / source).read_text()):
            target = target_of(include)
            checked += 1
            if include in SHARED and source in SHARES:
                continue
            if target == "":
                wrong.append(f"{source}: \"{include}\" is not written from the root")
            elif target not in allowed and not (source in SERVING and target == folder_of(source)):
                wrong.append(f"{source}: {folder} may not include {target} ({include})")
    assert checked > 100
    assert not wrong, "\n".join(wrong)


def test_what_is_shared_brings_nothing_else_along():
    wrong = [
        f"{header}: {include}"
        for header in sorted(SHARED)
        for include in INCLUDE.findall((ROOT / header).read_text())
        if include not in SHARED and folder_of(include) != "common"
    ]
    assert not wrong, wrong


def test_generated_types_stay_at_the_edge():
    """proto/*.pb-c.h only in front/, back/, the serving files, the CLI's client and common/rpc."""
    edge = ("coordinator/front/", "coordinator/back/", "worker/attach.", "cli/", "common/rpc/")
    wrong = [
        source
        for source in sources()
        if ".pb-c.h" in (ROOT / source).read_text() and not source.startswith(edge) and source not in SERVING
    ]
    assert not wrong, wrong
