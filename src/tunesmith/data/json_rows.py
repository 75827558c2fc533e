"""Rows of JSON files: an object a line, or one list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tunesmith.core.errors import DataError
from tunesmith.data.faults import Faults
from tunesmith.data.rows import Numbered

LINE_HINT = 'Every line must be one whole JSON object, such as {"text": "…", "label": "…"}.'
WORDS = {
    dict: "one object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def from_lines(text: Iterator[str], faults: Faults) -> Iterator[Numbered]:
    """One row a line that is not blank; lines that are no JSON object are faults."""
    for number, line in enumerate(text, 1):
        if line.isspace():
            continue
        try:
            value = json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            faults.add(f"line {number}, character {error.colno}: broken JSON: {error.msg}", at=number, hint=LINE_HINT)
            continue
        except (ValueError, RecursionError) as error:
            # Numbers of thousands of digits, and brackets nested thousands deep.
            faults.add(f"line {number}: broken JSON: {error}", at=number, hint=LINE_HINT)
            continue
        if not isinstance(value, dict):
            faults.add(f"line {number}: is not an object but {WORDS[type(value)]}", at=number, hint=LINE_HINT)
        elif "\\u" in line and not _encodable(value):
            faults.add(f"line {number}: holds half of a surrogate pair (\\ud800 to \\udfff)", at=number)
        else:
            yield number, value


def from_list(text: Iterator[str], faults: Faults) -> Iterator[Numbered]:
    """The objects of one list, numbered from 1; the file is read whole. Raise DataError if it is no list."""
    try:
        values = json.loads("".join(text))
    except json.JSONDecodeError as error:
        hint = "If it holds an object a line, let its name end in .jsonl." if error.msg == "Extra data" else ""
        faults.add(
            f"line {error.lineno}, character {error.colno}: broken JSON: {error.msg}", at=error.lineno, hint=hint
        )
        return
    except (ValueError, RecursionError) as error:
        faults.add(f"broken JSON: {error}")
        return
    if not isinstance(values, list):
        found = WORDS[type(values)]
        raise DataError(
            f"{faults.path} holds {found} and not a list of objects.", hint='It must read [{"text": …}, …].'
        )
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            faults.add(f"row {number}: is not an object but {WORDS[type(value)]}", at=number)
        elif not _encodable(value):
            faults.add(f"row {number}: holds half of a surrogate pair (\\ud800 to \\udfff)", at=number)
        else:
            yield number, value


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
