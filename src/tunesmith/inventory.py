"""All runs below a folder: what they were, how they stand, what they came to.

Of a run only its small files are read: recipe, environment, evaluation. Stages and the tasks of one training are runs
of their own. A folder that can't be read is listed with what is wrong.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from rich.console import RenderableType
from rich.text import Text

from tunesmith.core.document import flat
from tunesmith.core.errors import RecipeError, RunFolderError, nearest, raise_faults
from tunesmith.core.panel import Cell, Table
from tunesmith.report import printed
from tunesmith.report.lead import MODEL, SPLITS
from tunesmith.report.wording import duration, number, percent, printable, words

RECIPE, ENVIRONMENT, EVALUATION, LOCK = "recipe.yaml", "environment.json", "evaluation.json", ".lock"
COLUMNS = (
    "name", "task", "model", "method", "when", "state", "metric", "split", "value", "low", "high", "seconds",
    "trained_share", "wrong",
)  # fmt: skip
SHOWN = ("name", "task", "model", "method", "when", "state", "value", "seconds", "trained_share")
FINISHED, RUNNING, STOPPED, BROKEN = "finished", "running", "stopped", "broken"
MARKS = {RECIPE, ENVIRONMENT, EVALUATION, "task.json"}
"""Of these files a folder that is a run has two at least, whatever befell it."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times quicker than PyYAML's own, where libyaml is there."""
Listed = dict[str, Any]


def runs(folder: Path, where: Mapping[str, Any] | None = None, sort: str | None = None) -> list[Listed]:
    """Every run at or below a folder as a plain mapping: COLUMNS, and its `folder` and `recipe`.

    state: finished; running (its lock is held); stopped (interrupted or killed: `resume` goes on); broken. where:
    columns, or keys of the recipe in dotted form, with the value that they must have. sort: such a key, with a minus in
    front for the largest first; by time where not given. Raises RunFolderError for a folder that is not there,
    RecipeError for keys that no run has.
    """
    if not folder.is_dir():
        raise RunFolderError(f"The folder {folder} does not exist.", hint="Give the folder in which runs lie.")
    found = [_listed(path, folder, lock) for path, lock in _places(folder)]
    wanted, key = where or {}, (sort or "when").removeprefix("-")
    each = [flat(one["recipe"]) for one in found]
    _check([*wanted, key], each)
    kept = [
        (_value(one, settings, key), one)
        for one, settings in zip(found, each, strict=True)
        if all(_fits(_value(one, settings, name), value) for name, value in wanted.items())
    ]
    kept.sort(key=lambda pair: _rank(pair[0]), reverse=(sort or "").startswith("-"))
    # What a run does not have stands last, whichever way.
    kept.sort(key=lambda pair: pair[0] is None)
    return [one for _, one in kept]


def conditions(given: Sequence[str]) -> dict[str, str]:
    """Keys and values of `KEY=VALUE` texts; raises RecipeError with all that are malformed."""
    parts = [one.partition("=") for one in given]
    faults = [f"{one!r} is not of the form key=value" for one, (key, sign, _) in zip(given, parts, strict=True)
              if not sign or not key.strip()]  # fmt: skip
    raise_faults(RecipeError, "--where is wrong:", faults, hint="For example --where method=lora")
    return {key.strip(): value.strip() for key, _, value in parts}


def shown(found: Sequence[Listed], folder: Path, extra: Sequence[str] = ()) -> list[RenderableType]:
    """The runs as a table for a terminal, with `extra` keys as columns, and what is wrong with broken ones."""
    if not found:
        return [Text(printable(f"No runs in {folder}."))]
    more = [key for key in dict.fromkeys(extra) if key not in (*SHOWN, "metric", "split", "low", "high")]
    rows: list[list[Cell]] = []
    for one in found:
        settings = flat(one["recipe"])
        rows.append([*(_cell(one, name) for name in SHOWN), *(_told(_value(one, settings, key)) for key in more)])
    names = {"value": "main metric", "trained_share": "trained", "seconds": "time"}
    columns = [*(names.get(name, name) for name in SHOWN), *more]
    wrong = [f"{one['name']}: {one['wrong']}" for one in found if one["wrong"]]
    table = Table(f"{len(found):,} run{'' if len(found) == 1 else 's'} in {folder}", columns, rows)
    return [printed.lines(table), *(Text(printable(one)) for one in wrong)]


def _places(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of runs, each with the folder that holds its lock."""
    holders: dict[Path, Path] = {}
    for name, below, files in os.walk(folder):
        path = Path(name)
        below[:] = sorted(one for one in below if not one.startswith("."))
        begun = len(MARKS.intersection(files)) > 1
        if begun and not (ENVIRONMENT not in files and _is_joint(path)):
            # What lies below is the run's own: its model, its checkpoints.
            below.clear()
            yield path, holders.get(path.parent, path)
        elif RECIPE in files and _is_joint(path):
            holders[path] = path


def _is_joint(path: Path) -> bool:
    try:
        return "tasks" in _recipe(path)
    except ValueError:
        return False


def _listed(path: Path, folder: Path, lock: Path) -> Listed:
    name = str(path.relative_to(folder)) if path != folder else path.resolve().name
    one: Listed = {**dict.fromkeys(COLUMNS), "name": name, "folder": str(path), "recipe": {}}
    try:
        one["when"] = _when(path)
        one |= {"recipe": _recipe(path)}
        one |= _named(one["recipe"], folder)
        if (path / EVALUATION).is_file():
            one |= {"state": FINISHED, **_measured(_object(path / EVALUATION))}
        else:
            one["state"] = RUNNING if _held(lock) else STOPPED
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        one |= {
            "state": BROKEN,
            "wrong": str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}",
        }
    return one


def _recipe(path: Path) -> dict[str, Any]:
    try:
        found = yaml.load((path / RECIPE).read_text(encoding="utf-8"), Loader=LOADER)
    except FileNotFoundError:
        raise ValueError(f"The file {RECIPE} is missing.") from None
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"The file {RECIPE} is no YAML that can be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ValueError(f"The file {RECIPE} holds no mapping.")
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"The file {path.name} is damaged: {error}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"The file {path.name} holds no JSON object.")
    return found


def _named(recipe: Mapping[str, Any], folder: Path) -> Listed:
    found = {key: _part(recipe.get(key)) for key in ("task", "model", "method")}
    model = Path(str(found["model"]))
    above = folder.resolve()
    if model.is_absolute() and model.is_relative_to(above):
        found["model"] = str(model.relative_to(above))
    return found


def _part(spec: Any) -> Any:
    return spec.get("name") if isinstance(spec, Mapping) else spec


def _measured(evaluation: Mapping[str, Any]) -> Listed:
    metric, cost = evaluation["metric"], evaluation.get("cost") or {}
    trained, total = cost.get("trained_parameters"), cost.get("total_parameters")
    found: Listed = {"metric": metric, "seconds": cost.get("seconds")}
    found["trained_share"] = trained / total if trained is not None and total else None
    figures = [one for suite in evaluation.get("suites", {}).values() for one in suite["figures"]]
    for split in SPLITS:
        for one in figures:
            if (one["name"], one["split"], one["subject"]) == (metric, split, MODEL):
                return found | {key: one[key] for key in ("split", "value", "low", "high")}
    return found


def _when(path: Path) -> str | None:
    """When the run began: its environment is written then, and never again."""
    if not (path / ENVIRONMENT).is_file():
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime((path / ENVIRONMENT).stat().st_mtime))


def _held(folder: Path) -> bool:
    """Whether a process holds the lock of a run."""
    if not (folder / LOCK).is_file():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _check(keys: Sequence[str], each: Sequence[Mapping[str, Any]]) -> None:
    known = {*COLUMNS, *(key for settings in each for key in settings)}
    known |= {key.split(".")[0] for key in known}
    faults = []
    for key in keys:
        if key not in known and f"{key}.name" not in known:
            section = [one for one in known if one.startswith(f"{key.split('.')[0]}.")]
            faults.append(f"no run has '{key}'. {nearest(key, section or [one for one in known if '.' not in one])}")
    raise_faults(RecipeError, "Runs can't be chosen by this:", faults, hint="Keys are columns, or keys of the recipe.")


def _value(one: Listed, settings: Mapping[str, Any], key: str) -> Any:
    """A column, a value of the recipe, the name of a part, or the names of a list of parts."""
    if key in COLUMNS:
        return one[key]
    for name in (key, f"{key}.name"):
        if name in settings:
            return settings[name]
    names = [value for name, value in settings.items() if re.fullmatch(rf"{re.escape(key)}\.\d+\.name", name)]
    return names or None


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(value, list):
        return any(_fits(one, wanted) for one in value)
    numbers = _number(value), _number(wanted)
    return numbers[0] == numbers[1] if None not in numbers else _told(value) == _told(wanted)


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _rank(value: Any) -> tuple[bool, float, str]:
    """Numbers before texts, each in their order."""
    found = _number(value)
    return found is None, found or 0.0, _told(value)


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value))
    words_of = {None: "null", True: "true", False: "false"}
    return words_of[value] if value is None or isinstance(value, bool) else str(value)


def _cell(one: Listed, name: str) -> str:
    value = one[name]
    if value is None:
        return ""
    if name == "value":
        span = "" if one["low"] is None else f" ({number(one['low'])} to {number(one['high'])})"
        return f"{words(one['metric'])} {number(value)}{span}"
    if name == "when":
        return str(value)[:16].replace("T", " ")
    forms = {"seconds": duration, "trained_share": percent}
    return forms[name](value) if name in forms else str(value)
