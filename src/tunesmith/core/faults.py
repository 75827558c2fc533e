"""What pydantic found wrong, in our words: where, which value, what is allowed, nearest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from tunesmith.core.errors import nearest

TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
}


def located(error: ValidationError, known: Iterable[str]) -> list[tuple[tuple[str | int, ...], str]]:
    """Every fault as (path of keys, sentence); faults of one value against several allowed types are joined.

    Where a value has the kind of one allowed type and is wrong as such, only that is told: of a wrong value in a
    mapping not that the mapping is no number, of a wrong word not that it is no mapping.
    """
    sentences: dict[tuple[str | int, ...], list[tuple[bool, str]]] = {}
    names = list(known)
    for fault in error.errors(include_url=False):
        path = tuple(key for key in fault["loc"] if not _is_type(key, names))
        sentences.setdefault(path, []).append((_of_other_kind(fault), _sentence(fault, names)))
    inner = {path[:end] for path in sentences for end in range(len(path))}
    found = []
    for path, several in sentences.items():
        told = [sentence for other, sentence in several if not other]
        if not told and path not in inner:
            told = [sentence for _, sentence in several]
        if told:
            found.append((path, " or ".join(dict.fromkeys(told))))
    return found


def faults_of(error: ValidationError, known: Iterable[str]) -> list[str]:
    """Every fault as one line."""
    return [f"{dotted(path)}: {sentence}" if path else sentence for path, sentence in located(error, known)]


def shown(value: object) -> str:
    """A value as a recipe spells it."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def dotted(path: Sequence[str | int]) -> str:
    """`('train', 'epochs')` as `train.epochs`."""
    return ".".join(str(key) for key in path)


def _is_type(key: str | int, names: list[str]) -> bool:
    # pydantic names the branch of a union that was tried ("int", "literal['auto']") as if it were a key.
    if not isinstance(key, str) or key in names:
        return False
    return key in ("int", "float", "str", "bool", "none") or "[" in key or key.startswith("constrained-")


def _of_other_kind(fault: Any) -> bool:
    literal = fault["type"] == "literal_error" and not isinstance(fault["input"], str)
    return literal or (fault["type"] in TYPES and fault["type"] not in ("int_from_float", "finite_number"))


def _sentence(fault: Any, names: list[str]) -> str:
    kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is unknown. {nearest(str(fault['loc'][-1]), names)}"
    if kind == "missing":
        return "is missing"
    if kind in TYPES:
        return f"{shown(value)} is not {TYPES[kind]}{_number_as_text(value)}"
    if kind == "literal_error":
        return f"{shown(value)} is not allowed. {nearest(str(value), _literals(context['expected']))}"
    if kind == "value_error":
        return str(context["error"])
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in bounds:
        words = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}
        return f"{shown(value)} is out of range: must be {words[bounds[kind]]} {context[bounds[kind]]:g}"
    return f"{shown(value)}: {fault['msg'].lower()}"


def _number_as_text(value: object) -> str:
    """What to do about a number that YAML gave as a text; "" for anything else."""
    if not isinstance(value, str):
        return ""
    try:
        finite = math.isfinite(float(value))
    except ValueError:
        return ""
    if not finite:
        return ""
    mantissa, e, exponent = value.lower().partition("e")
    # YAML 1.1 wants a point in the mantissa and a sign on the exponent.
    point, sign = "" if "." in mantissa else ".0", "" if exponent[:1] in ("", "+", "-") else "+"
    exact = f"{mantissa}{point}{e}{sign}{exponent}"
    if e and exact != value.lower():
        return f" (YAML reads {value} as text: write {exact})"
    return " but a text: leave out the quotation marks"


def _literals(expected: str) -> list[str]:
    return [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
