"""The list of parts is the list of files.

A file of a kind's folder is a part when it defines the class of its own name (`early_stop.py`: `EarlyStop`). Folders
are searched in our package and in every package that an entry point of the group `tunesmith.parts` names; such a
package has the same folders (`my_parts/methods/my_method.py`). Listing reads files without importing them, so that it
needs no torch.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tunesmith.core.errors import RecipeError, UserError, nearest, raise_faults
from tunesmith.core.faults import faults_of

if TYPE_CHECKING:
    from tunesmith.core.part import Part

KINDS = {
    "tasks": "task",
    "methods": "method",
    "objectives": "objective",
    "regularizers": "regularizer",
    "schedules": "schedule",
    "evaluate": "suite",
    "trackers": "tracker",
}
"""Folder of a kind -> the word for one of its parts."""

GROUP = "tunesmith.parts"
OURS = "tunesmith"


@dataclass(frozen=True)
class Entry:
    """One part as its file tells it, unimported."""

    name: str
    sentence: str
    module: str
    path: Path
    class_name: str

    @property
    def ours(self) -> bool:
        """Whether the part is of this package."""
        return self.module.startswith(f"{OURS}.")


@cache
def entries(kind: str) -> dict[str, Entry]:
    """Every part of a kind, by name."""
    found: dict[str, Entry] = {}
    for package, folder in _roots():
        for path in sorted((folder / kind).glob("*.py")):
            entry = _read(path, f"{package}.{kind}.{path.stem}")
            if entry is None:
                continue
            if entry.name in found:
                raise UserError(f"Two {kind} are called '{entry.name}': {found[entry.name].path} and {path}.")
            found[entry.name] = entry
    return dict(sorted(found.items()))


def names(kind: str) -> list[str]:
    """The names of all parts of a kind."""
    return list(entries(kind))


def load(kind: str, name: str) -> type[Part]:
    """The class of a part; an unknown name raises RecipeError with the nearest known one."""
    known = entries(kind)
    if name not in known:
        raise RecipeError(f"No {KINDS[kind]} is called '{name}'. {nearest(name, known)}")
    entry = known[name]
    try:
        return getattr(importlib.import_module(entry.module), entry.class_name)  # type: ignore[no-any-return]
    except ModuleNotFoundError as error:
        raise UserError(
            f"The {KINDS[kind]} '{name}' can't be loaded: it needs the library '{error.name}'.",
            hint=f"Install it: pip install {error.name}",
        ) from error


def build(kind: str, spec: str | Mapping[str, Any]) -> Part:
    """The part that a recipe names: a bare name, or a mapping with `name` and settings.

    Raises RecipeError with all faults of the settings.
    """
    settings: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise RecipeError(f"A {KINDS[kind]} needs a name. {nearest('', names(kind))}")
    part = load(kind, name)
    try:
        return part.model_validate(settings)
    except ValidationError as error:
        faults = faults_of(error, part.model_fields)
        raise_faults(RecipeError, f"The settings of the {KINDS[kind]} '{name}' are wrong:", faults)
        raise


def spec(part: Part) -> dict[str, Any]:
    """The mapping from which `build` makes the same part again."""
    return {"name": part.word(), **part.model_dump(mode="json")}


def _roots() -> list[tuple[str, Path]]:
    roots = [(OURS, Path(__file__).parent.parent)]
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.value):
        try:
            found = importlib.util.find_spec(point.value)
        except ModuleNotFoundError:
            found = None
        if found is None or not found.submodule_search_locations:
            raise UserError(
                f"The package '{point.value}', which offers parts to tunesmith, can't be found.",
                hint=f"Install it again, or remove the entry point '{point.name}' of the group {GROUP}.",
            )
        roots.append((point.value, Path(next(iter(found.submodule_search_locations)))))
    return roots


def _read(path: Path, module: str) -> Entry | None:
    class_name = "".join(word.capitalize() for word in path.stem.split("_"))
    try:
        text = path.read_text(encoding="utf-8")
        # Most files of a folder are no part, but what several share: they need no parsing.
        if f"class {class_name}" not in text:
            return None
        parsed = ast.parse(text, str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"The file of parts {path} is no Python that can be read: {error}.") from error
    for node in parsed.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            sentence = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
            return Entry(path.stem, sentence, module, path, class_name)
    return None
