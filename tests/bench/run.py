"""`./dev bench`: every speed claim, as a ratio against a baseline in the same run.

    run.py BIN_DIR [--only forward|preprocess|rpc|coordinator] [--rounds N]

Nothing here is a test: a shared machine is too noisy to pass or fail on. Figures go into docs/benchmarks.md by hand.
"""
import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("bin_dir", type=Path)
    ap.add_argument("--only", choices=["forward", "preprocess", "rpc", "coordinator"])
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_args()
    parts = {
        "forward": [sys.executable, HERE / "bench_forward.py", a.bin_dir / "bench-forward", "--rounds", str(a.rounds)],
        "preprocess": [sys.executable, HERE / "bench_preprocess.py", a.bin_dir / "bench-preprocess", "--rounds",
                       str(3 * a.rounds)],
        "rpc": [a.bin_dir / "bench-rpc"],
        "coordinator": [a.bin_dir / "bench-coordinator"],
    }
    for name, command in parts.items():
        if a.only in (None, name):
            print(f"== {name}", flush=True)
            subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    main()
