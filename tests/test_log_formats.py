"""Every log line in the sources has a format that the log can split into keys and values: `key=%s other=%u`. One that it
cannot split stops the process, and such lines are often those that are rarely logged."""

import ast
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]
STRING = r'"(?:[^"\\]|\\.)*"'
CALL = re.compile(r"\brmk_log\s*\(")
STRINGS = re.compile(rf"(?:{STRING}|\bPRI\w+)(?:\s*(?:{STRING}|PRI\w+))*")


def sources():
    names = subprocess.run(["git", "ls-files", "*.c", "*.cc", "*.cu"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in names.stdout.splitlines() if not name.startswith("tests/")]


def arguments(text, begin):
    """The arguments of the call whose parenthesis opens just before `begin`."""
    found, depth, start = [], 0, begin
    at = begin
    while True:
        string = re.compile(STRING).match(text, at)
        if string:
            at = string.end()
            continue
        if text[at] in ",)" and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
        if text[at] == ")" and depth == 0:
            return found
        depth += (text[at] in "([{") - (text[at] in ")]}")
        at += 1


def literal(argument):
    """The text of adjoining string literals; None for anything else."""
    if not STRINGS.fullmatch(argument):
        return None
    words = re.sub(r"\bPRI\w+", '"u"', argument)
    return "".join(ast.literal_eval(part) for part in re.findall(STRING, words))


def formats():
    for name in sources():
        text = (ROOT / name).read_text()
        for call in CALL.finditer(text):
            parts = arguments(text, call.end())
            if len(parts) >= 4 and literal(parts[3]) is not None:
                yield f"{name}:{text.count(chr(10), 0, call.start()) + 1}", literal(parts[3])


def test_every_format_is_keys_and_values():
    seen = list(formats())
    assert len(seen) > 40
    for place, text in seen:
        for word in text.split(" "):
            assert re.fullmatch(r"[a-z][a-z0-9_]*=\S+", word), f"{place}: \"{word}\" of \"{text}\" is no key=value"
