"""What pydantic found wrong, in our words: where, which value, what is allowed, nearest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from tunesmith.core.errors import nearest

TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
}


def located(error: ValidationError, known: Iterable[str]) -> list[tuple[tuple[str | int, ...], str]]:
    """Every fault as (path of keys, sentence); faults of one value against several allowed types are joined."""
    sentences: dict[tuple[str | int, ...], list[str]] = {}
    names = list(known)
    for fault in error.errors(include_url=False):
        path = tuple(key for key in fault["loc"] if not _is_type(key, names))
        sentences.setdefault(path, []).append(_sentence(fault, names))
    return [(path, " or ".join(dict.fromkeys(found))) for path, found in sentences.items()]


def faults_of(error: ValidationError, known: Iterable[str]) -> list[str]:
    """Every fault as one line."""
    return [f"{dotted(path)}: {sentence}" if path else sentence for path, sentence in located(error, known)]


def dotted(path: Sequence[str | int]) -> str:
    """`('train', 'epochs')` as `train.epochs`."""
    return ".".join(str(key) for key in path)


def _is_type(key: str | int, names: list[str]) -> bool:
    # pydantic names the branch of a union that was tried ("int", "literal['auto']") as if it were a key.
    if not isinstance(key, str) or key in names:
        return False
    return key in ("int", "float", "str", "bool", "none") or "[" in key


def _sentence(fault: Any, names: list[str]) -> str:
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is unknown. {nearest(str(fault['loc'][-1]), names)}"
    if kind == "missing":
        return "is missing"
    if kind in TYPES:
        hint = (
            " (YAML reads a number without a point, such as 1e-5, as text: write 1.0e-5)" if _like_number(value) else ""
        )
        return f"{value!r} is not {TYPES[kind]}{hint}"
    if kind == "literal_error":
        return f"{value!r} is not allowed. {nearest(str(value), _literals(context['expected']))}"
    if kind == "value_error":
        return str(context["error"])
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
        return f"{value!r} is out of range: must be {words[bounds[kind]]} {context[bounds[kind]]}"
    return f"{value!r}: {fault['msg'].lower()}"


def _like_number(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _literals(expected: str) -> list[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
