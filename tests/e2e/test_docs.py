"""The pages are true where a machine can tell: links lead somewhere, flags exist, reference pages are complete."""

import functools
import re
import subprocess
import sys

import pytest

from api import pb
from cluster import BIN, ROOT, run_remask

sys.path.insert(0, str(ROOT / "tests" / "support"))
import flags_page

REFERENCE = ROOT / "docs" / "reference"


def files(*of, new=True):
    """Names of the project's files, those that are `new` too."""
    which = ["--cached", "--others", "--exclude-standard"] if new else ["--cached"]
    return subprocess.run(["git", "ls-files", *which, *of], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]


@functools.cache
def pages():
    return [ROOT / name for name in files("*.md") if (ROOT / name).exists()]


def without_code(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """As the usual renderers make them of headings."""
    titles = re.findall(r"^#+ +(.*)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_lead_somewhere():
    wrong, count = [], 0
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or anchor and anchor not in anchors(there):
                wrong.append(f"{page.relative_to(ROOT)}: {target}")
    assert count > 10 and not wrong, wrong


def test_files_that_are_named_exist():
    """`docs/x.md` and the like in backticks, or the end of such a path; not what a run makes."""
    known, wrong, count = files(), [], 0
    for page in pages():
        for word in re.findall(r"`([\w./-]+/[\w./-]+\.(?:md|c|h|py|sh|proto|txt|cu|json))`", without_code(page.read_text())):
            count += 1
            if not word.startswith(("build/", "..", "NAME")) and not any(("/" + name).endswith("/" + word) for name in known):
                wrong.append(f"{page.relative_to(ROOT)}: {word}")
    assert count > 30 and not wrong, wrong


@functools.cache
def known_flags():
    """Of the programs, of the scripts of this project, and of the commands in the pages that are others'."""
    text = "".join(flags_page.run(BIN, program, "--help") for program in flags_page.PROGRAMS)
    found = {name for _, name in re.findall(r"--(\[no-\])?([a-z][a-z0-9-]*)", text)}
    for name in files("dev", "*.py", "tests/gpu", "tests/golden/tool", "tests/sim", "tests/bench", ".ci", new=False):
        text = (ROOT / name).read_text(errors="replace")
        found |= set(re.findall(r"--([a-z][a-z0-9-]*)", text)) | set(re.findall(r'\.name = "([a-z0-9-]+)"', text))
    return found


def test_flags_in_the_pages_exist():
    wrong = [f"{page.relative_to(ROOT)}: --{flag}" for page in pages()
             if page.name != "CHANGELOG.md" and ROOT / "models" not in page.parents
             for flag in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", page.read_text())
             if flag not in known_flags() and flag.removeprefix("no-") not in known_flags()]
    assert not wrong, wrong


def test_the_page_of_flags_is_what_the_programs_say():
    assert (REFERENCE / "flags.md").read_text() == flags_page.page(BIN), \
        "make it again: python tests/support/flags_page.py build/release/bin > docs/reference/flags.md"


@pytest.mark.parametrize("message", [name for name in pb.DESCRIPTOR.message_types_by_name if name != "StatusRequest"])
def test_every_field_of_the_api_is_described(message):
    text = (REFERENCE / ("usage.md" if message == "Usage" else "api.md")).read_text()
    assert message in text
    for field in pb.DESCRIPTOR.message_types_by_name[message].fields:
        assert f"`{field.name}`" in text, f"{message}.{field.name}"


def test_every_choice_of_the_api_is_described():
    text = (REFERENCE / "api.md").read_text()
    for enum in pb.DESCRIPTOR.enum_types_by_name.values():
        for value in enum.values:
            assert f"`{value.name}`" in text, value.name
    for method in pb.DESCRIPTOR.services_by_name["Remask"].methods:
        assert f"`{method.name}`" in text


def test_every_exit_status_is_described():
    text = (REFERENCE / "exit-statuses.md").read_text()
    numbers = re.findall(r"RMK_EXIT_\w+ = (\d+)", (ROOT / "cli" / "cli.h").read_text())
    numbers += re.findall(r"define RMK_EXIT_\w+ (\d+)", (ROOT / "common" / "config.h").read_text())
    assert len(numbers) >= 8
    for number in numbers:
        assert f"| {number} |" in text, number


def test_statuses_that_the_coordinator_gives_are_described():
    text = (REFERENCE / "api.md").read_text()
    names = set()
    for path in [*(ROOT / "coordinator").rglob("*.c"), ROOT / "common" / "rpc" / "rpc.c"]:
        names |= set(re.findall(r"RMK_STATUS_([A-Z_]+)\b", path.read_text()))
    for name in names - {"COUNT", "UNKNOWN"}:
        if re.search(rf"(return|status = |finish\(.*|refuse\(.*)\s*RMK_STATUS_{name}\b",
                     "".join(path.read_text() for path in (ROOT / "coordinator").rglob("*.c"))):
            assert f"| `{name}` |" in text, name


def test_the_commands_of_the_readme_are_all_there():
    commands = re.findall(r"^  ([a-z]+) ", run_remask("--help").stdout, re.MULTILINE)
    assert set(commands) - {"version"} <= {program.split()[-1] for program in flags_page.PROGRAMS}
