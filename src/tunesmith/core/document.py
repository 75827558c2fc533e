"""A YAML file as plain values, with the line of every key: so that a fault can be shown where it stands.

Keys are texts as they stand there: `yes: 1` and `2: 1` have the keys "yes" and "2".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core.errors import RecipeError, nearest, raise_faults

Keys = tuple[str | int, ...]
NEEDED = "Write `key: value` lines, at least `data: FILE`."
TEXT_TAG = "tag:yaml.org,2002:str"
MERGE_TAG = "tag:yaml.org,2002:merge"
COMMAND_LINE = 0


@dataclass(frozen=True)
class Document:
    """Plain values, and the line of each path of keys; COMMAND_LINE where it was given there."""

    values: dict[str, Any]
    lines: dict[Keys, int]

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line of a path, or of the nearest key above it."""
        found = (self.lines.get(tuple(path[:end])) for end in range(len(path), 0, -1))
        return next((line for line in found if line is not None), None)

    def place(self, path: Sequence[str | int]) -> str:
        """`line 3`, `command line`, or nothing: where a path, or the nearest key above it, was given."""
        line = self.line(path)
        if line is None:
            return ""
        return "command line" if line == COMMAND_LINE else f"line {line}"


def read(path: Path, what: str = "recipe", needed: str = NEEDED) -> Document:
    """Read a YAML mapping. Raises RecipeError: no YAML, no mapping, a key given twice (all such keys), not UTF-8.
    what: what the file is called in messages. needed: what to do where it is empty.
    """
    text = _text(path, what)
    lines: dict[Keys, int] = {}
    doubled: list[str] = []
    try:
        values = _parsed(text, lines, doubled)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _no_yaml(path, what, text, error) from None
    if not isinstance(values, dict):
        found = "is empty" if values is None else "is not a mapping of keys to values"
        raise RecipeError(f"The {what} {path} {found}.", hint=needed)
    raise_faults(RecipeError, f"The {what} {path} gives keys twice:", doubled, hint="Keep one of each.")
    return Document(values, lines)


def override(
    document: Document, settings: Sequence[str], widened: Callable[[str | int, Any], dict[str, Any]]
) -> Document:
    """The document with `key.key=value` settings on top; raises RecipeError with all that are malformed.

    widened: gives the mapping that stands for a value in which a key is set, by the value's own key.
    """
    values, lines = copy.deepcopy(document.values), dict(document.lines)
    faults: list[str] = []
    for setting in settings:
        keys, equals, text = setting.partition("=")
        path = keys.strip().split(".")
        if not equals or not all(path):
            faults.append(f"{setting!r} is not of the form key=value or key.key=value")
        elif not text.strip():
            faults.append(f"{setting!r} has no value: write null for none")
        else:
            try:
                put = _put(values, path, _value(text), widened)
                lines |= {put[:end]: COMMAND_LINE for end in range(1, len(put)) if put[:end] not in lines}
                lines[put] = COMMAND_LINE
            except IndexError as error:
                faults.append(f"{setting!r}: {error}")
    raise_faults(RecipeError, "--set is wrong:", faults, hint="For example --set train.epochs=5")
    return Document(values, lines)


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its path of keys in dotted form, places of lists as numbers; empty mappings and lists stay.

    >>> flat({"train": {"epochs": 3}, "schedules": [{"name": "constant"}], "regularizers": []})
    {'train.epochs': 3, 'schedules.0.name': 'constant', 'regularizers': []}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = {str(place): one for place, one in enumerate(value)} if isinstance(value, list) else value
        if isinstance(inner, Mapping) and inner:
            found |= {f"{key}.{below}": one for below, one in flat(inner).items()}
        else:
            found[str(key)] = value
    return found


def _put(values: Any, path: Sequence[str], value: Any, widened: Callable[[str | int, Any], dict[str, Any]]) -> Keys:
    """Put `value` at `path`, through mappings and lists; returns the path with the lists' places as numbers."""
    place: Any = values
    taken: list[str | int] = []
    for number, key in enumerate(path):
        step: str | int = key
        if isinstance(place, list):
            if not key.isdecimal() or int(key) >= len(place):
                above = ".".join(map(str, taken))
                raise IndexError(f"'{key}' is no place of the list {above}, which has 0 to {len(place) - 1}")
            step = int(key)
        taken.append(step)
        if number == len(path) - 1:
            place[step] = value
        else:
            inner = place.get(step) if isinstance(place, dict) else place[step]
            place[step] = inner if isinstance(inner, list) else widened(step, inner)
            place = place[step]
    return tuple(taken)


def _value(text: str) -> Any:
    # On the command line 1e-5 can only be a number; in a YAML file it is a text, and refused as one.
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    try:
        return _parsed(text, {}, [])
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


def _parsed(text: str, lines: dict[Keys, int], doubled: list[str]) -> Any:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return None
    _walk(node, (), lines, doubled)
    return yaml.SafeLoader("").construct_document(node)


def _text(path: Path, what: str) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        there = [other.name for other in path.parent.glob("*.y*ml")]
        alone = "Give the path of a recipe, or of a file of rows." if what == "recipe" else "Give its path."
        hint = nearest(path.name, there) if there else alone
        raise RecipeError(f"The {what} {path} does not exist.", hint=hint) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"The {what} {path} is not UTF-8: line {line}, byte {error.start} (0x{content[error.start]:02x}).",
            hint="Save it as UTF-8.",
        ) from None
    except OSError as error:
        raise RecipeError(f"The {what} {path} can't be read: {error.strerror}.") from None


def _no_yaml(path: Path, called: str, text: str, error: Exception) -> RecipeError:
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, RecursionError):
        where, what = "", "its values are nested too deeply"
    elif mark is not None:
        where, what = f"line {mark.line + 1}, column {mark.column + 1}: ", str(getattr(error, "problem", error))
    elif isinstance(error, yaml.reader.ReaderError):
        where = f"line {text.count(chr(10), 0, error.position) + 1}: "
        what = f"{error.reason} (0x{ord(text[error.position]):02x})"
    else:
        where, what = "", str(error)
    return RecipeError(
        f"The {called} {path} is no YAML that can be read: {where}{what}.",
        hint="Put texts with signs such as : # [ ] { } ! & * in quotation marks, and indent with spaces, not tabs.",
    )


def _walk(node: yaml.Node, path: Keys, lines: dict[Keys, int], doubled: list[str]) -> None:
    """Note the line of every key, and of keys that stand there twice; make every key a text."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[(*path, number)] = item.start_mark.line + 1
            _walk(item, (*path, number), lines, doubled)
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        inner = (*path, str(key.value))
        line = key.start_mark.line + 1
        if inner in lines:
            doubled.append(f"line {line}: '{'.'.join(map(str, inner))}' stands in line {lines[inner]} already")
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE_TAG:
            key.tag = TEXT_TAG
        lines[inner] = line
        _walk(value, inner, lines, doubled)
