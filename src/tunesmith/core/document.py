"""A YAML file as plain values, with the line of every key: so that a fault can be shown where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.core.errors import RecipeError, raise_faults

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """Plain values, and the line of each path of keys."""

    values: dict[str, Any]
    lines: dict[Keys, int]

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line of a path, or of the nearest key above it."""
        for end in range(len(path), 0, -1):
            found = self.lines.get(tuple(path[:end]))
            if found is not None:
                return found
        return None


def read(path: Path) -> Document:
    """Read a YAML mapping. Raises RecipeError: no YAML, no mapping, a key given twice (all such keys), not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"The recipe {path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe {path} is not UTF-8: byte {error.start}.") from None
    except OSError as error:
        raise RecipeError(f"The recipe {path} can't be read: {error.strerror}.") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise RecipeError(f"The recipe {path} is no YAML:{where} {getattr(error, 'problem', error)}.") from None
    if not isinstance(node, yaml.MappingNode):
        found = "is empty" if node is None else "is not a mapping of keys to values"
        raise RecipeError(f"The recipe {path} {found}.", hint="Write `key: value` lines, at least `data: FILE`.")
    lines: dict[Keys, int] = {}
    doubled: list[str] = []
    _walk(node, (), lines, doubled)
    raise_faults(RecipeError, f"The recipe {path} gives keys twice:", doubled, hint="Keep one of each.")
    return Document(yaml.safe_load(text), lines)


def _walk(node: yaml.Node, path: Keys, lines: dict[Keys, int], doubled: list[str]) -> None:
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
        lines[inner] = line
        _walk(value, inner, lines, doubled)
