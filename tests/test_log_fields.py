"""What rmk_log is given: its fields are a format of key=value, apart by single spaces, with an argument for each conversion. A
line that breaks this ends the process that writes it (common/log.c), perhaps for the first time in years."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent

FIELD = re.compile(r"[a-z][a-z0-9_]*=[^ ]+")
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
CONVERSION = re.compile(r"%[-+ #0]*(\*|[0-9]+)?(\.(\*|[0-9]+))?(hh|h|ll|l|z|j|t)?[a-zA-Z%]")


def arguments(text, at):
    """Those of the call whose parenthesis opens before `at`."""
    found, current, depth, quoted = [], "", 1, False
    while depth > 0:
        if quoted and text[at] == "\\":
            current += text[at:at + 2]
            at += 2
            continue
        if text[at] == '"':
            quoted = not quoted
        if not quoted:
            depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0 or (text[at] == "," and depth == 1 and not quoted):
            found.append(current.strip())
            current = ""
        else:
            current += text[at]
        at += 1
    return found


def wanted(fields):
    """How many arguments the conversions take."""
    return sum(match.group(0) != "%%" and 1 + match.group(0).count("*") for match in CONVERSION.finditer(fields))


def wrong_with(fields, given):
    for field in fields.split(" "):
        if not FIELD.fullmatch(field):
            return f"\"{field}\" is no key=value"
    return f"{given} arguments for {wanted(fields)}" if wanted(fields) != given else None


def calls():
    for folder in ("common", "coordinator", "worker", "cli", "model"):
        for path in sorted((ROOT / folder).rglob("*.c")):
            text = path.read_text()
            for match in re.finditer(r"\brmk_log\(", text):
                found = arguments(text, match.end())
                if not found[0].startswith("enum "):  # the function itself
                    yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}", found


def test_every_log_line_has_fields_that_can_be_written():
    wrong = []
    checked = 0
    for place, (_, _, _, fields, *values) in calls():
        checked += 1
        fault = None
        if fields != "NULL" and fields.startswith('"'):
            fault = wrong_with("".join(STRING.findall(fields)), len(values))
        elif fields != "NULL":
            fault = f"{fields} is no literal"
        if fault:
            wrong.append(f"{place}: {fault}")
    assert checked > 40
    assert not wrong, "\n".join(wrong)


def test_what_cannot_be_written_is_found():
    assert wrong_with("why=there is no key", 0)
    assert wrong_with("a=%d b=%s", 1)
    assert wrong_with("a=%.*s", 1)
    assert wrong_with("a=%d  b=%d", 2)
    assert not wrong_with("a=%llu b=%.300s c=%d/%d d=x", 4)
