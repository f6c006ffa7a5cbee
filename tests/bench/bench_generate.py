"""Whole answers of a running cluster against the published loop in plain PyTorch, alternately in one run.

    bench_generate.py BIN_DIR [--dtype f32|bf16] [--rounds 3] [--quick] [--require]

A random model of width 1024 (8 layers, 16 heads, ff 4096, vocabulary 126,464), a picture of 730 rows, 64 tokens of
answer in one block, the same threads and rows on both sides. Ours is a coordinator, a text and a vision worker as
processes, asked over gRPC: the clock runs from a request to its answer. The picture was encoded before (usage.encode_us
is taken off besides), as PyTorch starts from encoded rows too. PyTorch's steps all cost the same, so its time for 64
tokens is 64 times that of the few that are run. Every answer must have as many tokens, forwards and full forwards
as its setting says.
"""
import argparse
import concurrent.futures
import importlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import bench_model

HERE = Path(__file__).parent
E2E = HERE.parent / "e2e"
WIDTH, LAYERS, HEADS, FF, VOCAB = 1024, 8, 16, 4096, 126464  # as baseline_forward.py
TOKENS = 64
COMPANY = 8  # requests at once
# Refreshes are forwards over all rows. 22 steps commit three tokens each, the last two of them two.
SETTINGS = {
    "exact": dict(steps=TOKENS, profile="exact"),
    "prompt": dict(steps=22, rule="RULE_QUOTA", cache="CACHE_PROMPT", refresh_interval=32),
    "dual": dict(steps=22, rule="RULE_QUOTA", cache="CACHE_DUAL", refresh_interval=32),
}
WANTED = {"exact": 2.5, "prompt": 10, "dual": 10}
COMPANY_STEPS = {"exact": 4, "dual": 22}
THROUGHPUT_LEAST, SHARE_MOST = 0.95, 1.3


def picture():
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, "PNG")
    return out.getvalue()


class Ours:
    """The cluster and its client."""

    def __init__(self, model, dtype, threads):
        clusters, self.api = (importlib.import_module(name) for name in ("cluster", "api"))
        dummy = "--load-format=dummy"
        self.cluster = clusters.Cluster(model, flags=[
            "--dtype", dtype, "--threads", threads, f"--coordinator-flag={dummy}", f"--text-flag={dummy}",
            f"--vision-flag={dummy}", f"--text-flag=--slots={COMPANY}", "--text-flag=--rows-max=1024"])
        self.image = picture()

    def __enter__(self):
        self.cluster.__enter__()
        self.client = self.api.Client(self.cluster.endpoint)
        return self

    def __exit__(self, kind, value, trace):
        self.client.__exit__(kind, value, trace)
        self.cluster.__exit__(kind, value, trace)

    def generate(self, setting, steps=None, seed=0):
        """-> seconds from the request to its answer, usage"""
        fields = dict(SETTINGS[setting])
        for name in ("rule", "cache"):
            if name in fields:
                fields[name] = getattr(self.api.pb, fields[name])
        fields["steps"] = steps or fields["steps"]
        request = self.api.ask(
            f"Please describe the image in detail ({seed:02}).", [self.image], image_mode=self.api.pb.IMAGE_MODE_PAD,
            sampling=self.api.pb.Sampling(gen_length=TOKENS, block_length=TOKENS, no_default_stop=True, **fields))
        start = time.perf_counter()
        usage = self.client.once(request, timeout=900).usage
        seconds = time.perf_counter() - start - usage.encode_us / 1e6
        refreshes = 1 if "cache" in fields else fields["steps"]
        found = (usage.forwards, usage.refreshes, usage.completion_tokens)
        if found != (fields["steps"], refreshes, TOKENS):
            sys.exit(f"{setting}: forwards, full forwards and tokens are {found}, "
                     f"not {(fields['steps'], refreshes, TOKENS)}")
        return seconds, usage


class Theirs:
    """PyTorch in a process of its own, which measures when asked."""

    def __init__(self, dtype, threads, prompt_rows, forwards):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "baseline_generate.py", "--on-request", "--dtype", dtype, "--threads", str(threads),
             "--prompt-rows", str(prompt_rows), "--forwards", str(forwards)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.process.stdin.close()
        self.process.wait()

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("baseline_generate.py printed no result")
        return json.loads(line)


def compare(ours, theirs, dtype, rounds, quick):
    """Each of ours between two of theirs; the ratio is to the mean of these."""
    before = theirs.measure()
    ratios, seconds, baseline = ({name: [] for name in SETTINGS} for _ in range(3))
    for i in range(rounds):
        for name in SETTINGS:
            if name == "exact" and i > 0:  # takes a minute or more, over which a machine's noise is evened out
                continue
            steps = 8 if quick and name == "exact" else None
            took, usage = ours.generate(name, steps)
            if steps:  # all its forwards are full ones
                took *= TOKENS / steps
            after = theirs.measure()
            base = TOKENS * (before["seconds_per_forward"] + after["seconds_per_forward"]) / 2
            print(f"{dtype} {name}, round {i + 1}: ours {took:.2f} s in {usage.forwards} forwards, {usage.refreshes} of "
                  f"them full (compute {usage.compute_us / 1e6:.2f} s, encode {usage.encode_us / 1e6:.2f} s)"
                  f"{', scaled to 64' if steps else ''}; PyTorch {base:.1f} s in {TOKENS}; ratio {base / took:.2f}",
                  flush=True)
            ratios[name].append(base / took)
            seconds[name].append(took)
            baseline[name].append(base)
            before = after
    return [{"part": name, "dtype": dtype, "steps": SETTINGS[name]["steps"], "rows": before["rows"],
             "ours_seconds": round(statistics.median(seconds[name]), 2),
             "torch_seconds": round(statistics.median(baseline[name]), 1),
             "torch_forwards_measured": before["forwards"],
             "torch_seconds_in_model": round(TOKENS * before["seconds_in_model"], 1), "ratio": round(statistics.median(ratios[name]), 2),
             "ratio_min": round(min(ratios[name]), 2), "ratio_max": round(max(ratios[name]), 2),
             "rounds": len(ratios[name]), "wanted": WANTED[name], "torch": before["torch"]} for name in SETTINGS]


def accompany(ours, dtype, setting):
    """The same requests one after the other, together, and one after the other again.

    A request's fair share of the machine is an eighth, so with it an answer would take eight times what it takes
    alone.
    """
    steps = COMPANY_STEPS[setting]

    def serial(half):
        return [ours.generate(setting, steps, seed)[0] for seed in half]

    alone = serial(range(COMPANY // 2))
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(COMPANY) as pool:
        together = list(pool.map(lambda seed: ours.generate(setting, steps, seed)[0], range(COMPANY)))
    total = time.perf_counter() - start
    alone += serial(range(COMPANY // 2, COMPANY))
    fair = COMPANY * statistics.mean(alone)
    line = {"part": f"{COMPANY} at once, {setting}", "dtype": dtype, "steps": steps,
            "serial_seconds": round(sum(alone), 2), "together_seconds": round(total, 2),
            "throughput": round(sum(alone) / total, 3), "throughput_wanted": THROUGHPUT_LEAST,
            "latency_over_fair_share_max": round(max(together) / fair, 3),
            "latency_over_fair_share_min": round(min(together) / fair, 3), "share_wanted": SHARE_MOST}
    print(f"{dtype} {line['part']}: serial {sum(alone):.2f} s, together {total:.2f} s, throughput "
          f"{line['throughput']}; latency / fair share {line['latency_over_fair_share_min']} to "
          f"{line['latency_over_fair_share_max']}", flush=True)
    return line


def is_met(line):
    if "ratio" in line:
        return line["ratio"] >= line["wanted"]
    return line["throughput"] >= line["throughput_wanted"] and \
        line["latency_over_fair_share_max"] <= line["share_wanted"]


def run(model, dtype, a):
    with Ours(model, dtype, a.threads) as ours:
        _, usage = ours.generate("dual")  # warms up, and the picture's features stay
        lines = []
        if a.only != "company":
            with Theirs(dtype, a.threads, usage.prompt_rows, 1 if a.quick else 2) as theirs:
                lines += compare(ours, theirs, dtype, a.rounds, a.quick)
        if a.only != "ratio":
            lines += [accompany(ours, dtype, setting) for setting in COMPANY_STEPS]
    return lines


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("bin_dir", type=Path)
    ap.add_argument("--dtype", choices=["f32", "bf16"], action="append", help="may be repeated; default: both")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rounds", type=int, default=3, help="of the caches; exact is measured once")
    ap.add_argument("--only", choices=["ratio", "company"])
    ap.add_argument("--quick", action="store_true", help="one round, exact in 8 steps")
    ap.add_argument("--require", action="store_true", help="exit 1 where a figure is worse than wanted")
    a = ap.parse_args()
    a.rounds = 1 if a.quick else a.rounds
    os.environ["RMK_BIN"] = str(a.bin_dir.resolve())
    sys.path.insert(0, str(E2E))
    lines = []
    with tempfile.TemporaryDirectory(prefix="remask-bench-") as folder:
        bench_model.write_model(Path(folder), WIDTH, LAYERS, HEADS, FF, VOCAB)
        for dtype in a.dtype or ["f32", "bf16"]:
            lines += run(folder, dtype, a)
    for line in lines:
        print(json.dumps({**line, "threads": a.threads, "met": is_met(line)}))
    if a.require and not all(is_met(line) for line in lines):
        sys.exit("a figure is worse than wanted")


if __name__ == "__main__":
    main()
