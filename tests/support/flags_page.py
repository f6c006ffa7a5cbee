"""docs/reference/flags.md, made of what the programs say of themselves: python tests/support/flags_page.py BIN > that page."""

import os
import pathlib
import re
import subprocess
import sys

REQUESTS = ("remask caption", "remask compare", "remask bench")
PROGRAMS = ("remask up", "remask down", "remask status", "remask check", *REQUESTS, "remask-coordinator",
            "remask-worker text", "remask-worker vision")

HEAD = """# Flags

Made by `tests/support/flags_page.py` from `--help` of the programs; a test compares the two.

Every flag `--some-name VALUE` may also be given as `--some-name=VALUE`, as the environment variable `REMASK_SOME_NAME`, or as a line
`some-name = value` of a file named by `--config FILE`. The command line wins, then the environment, then the file. Switches are
`--name` and `--no-name`. Sizes take `KiB`, `MiB`, `GiB`; times take `ms`, `s`, `m`, `h`. `--print-config` prints every value and
where it comes from; its output is a valid `--config` file. `--help` and `--version` are everywhere.

`remask up` does not hand its environment's `REMASK_…` variables on to the processes that it starts: they get flags, and more of them by
`--coordinator-flag`, `--text-flag` and `--vision-flag`.
"""


def run(bin_dir, program, flag):
    words = program.split()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REMASK_")}
    return subprocess.run([str(pathlib.Path(bin_dir) / words[0]), *words[1:], flag], env=environment, capture_output=True,
                          text=True, check=True).stdout


def flags_of(bin_dir, program):
    """Summary, and for each flag its row: how it is written, default, meaning."""
    defaults = dict(re.findall(r"^# default\n([a-z-]+) = (.*)$", run(bin_dir, program, "--print-config"), re.MULTILINE))
    text = run(bin_dir, program, "--help")
    head, *_ = text.split("\n\n")
    summary = " ".join(head.splitlines()[1:])
    rows = []
    for switch, name, argument, meaning in re.findall(r"^  --(\[no-\])?([a-z-]+) ([A-Z:]*) +(.*)$", text, re.MULTILINE):
        default = defaults.get(name, "")
        if meaning.endswith(" (required)"):
            meaning, default = meaning.removesuffix(" (required)"), "required"
        elif default:
            meaning = meaning.removesuffix(f" ({default})")
            default = f"`{default}`"
        shown = f"`--{'[no-]' if switch else ''}{name}{' ' + argument if argument else ''}`"
        rows.append((shown, default, meaning.replace("|", "\\|")))
    return summary, rows


def table(rows):
    return "\n".join(["| flag | default | meaning |", "| --- | --- | --- |", *(f"| {a} | {b} | {c} |" for a, b, c in rows)])


def page(bin_dir):
    found = {program: flags_of(bin_dir, program) for program in PROGRAMS}
    shared = [row for row in found[REQUESTS[0]][1] if all(row in found[program][1] for program in REQUESTS)]
    parts = [HEAD]
    for program, (summary, rows) in found.items():
        own = [row for row in rows if program not in REQUESTS or row not in shared]
        parts.append(f"## {program}\n\n{summary}\n\n{table(own)}\n")
        if program in REQUESTS:
            parts[-1] += "\nAnd those of [requests](#requests).\n"
        if program == REQUESTS[-1]:
            parts.append("## Requests\n\nWhat `remask caption`, `remask compare` and `remask bench` ask for.\n\n" + table(shared) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(sys.argv[1]), end="")
