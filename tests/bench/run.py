"""`./dev bench`: every speed claim, as a ratio against a baseline in the same run.

    run.py BIN_DIR [--only forward|generate|preprocess|rpc|coordinator] [--rounds N] [--quick]

Nothing here is a test: a shared machine is too noisy to pass or fail on. Figures go into docs/benchmarks.md by hand.
"""
import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def parts(bin_dir, rounds, quick):
    """Name to commands."""
    coordinator = bin_dir / "bench-coordinator"
    return {
        "forward": [[sys.executable, HERE / "bench_forward.py", bin_dir / "bench-forward", "--rounds", rounds]],
        "generate": [[sys.executable, HERE / "bench_generate.py", bin_dir, "--rounds", rounds,
                      *(["--quick"] if quick else [])]],
        "preprocess": [[sys.executable, HERE / "bench_preprocess.py", bin_dir / "bench-preprocess", "--rounds",
                        3 * rounds]],
        "rpc": [[bin_dir / "bench-rpc"]],
        "coordinator": [[coordinator, "--requests", 20_000 if quick else 1_000_000],
                        [coordinator, "--requests", 10_000, "--picture-bytes", 64],
                        [coordinator, "--requests", 10_000, "--picture-bytes", 200_000]],
    }


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("bin_dir", type=Path)
    ap.add_argument("--only", choices=parts(Path(), 1, False))
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--quick", action="store_true", help="one round, and less of what takes minutes")
    a = ap.parse_args()
    for name, commands in parts(a.bin_dir, 1 if a.quick else a.rounds, a.quick).items():
        if a.only not in (None, name):
            continue
        print(f"== {name}", flush=True)
        for command in commands:
            subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    main()
