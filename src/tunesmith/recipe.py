"""The recipe: one mapping that says everything about a run, checked as a whole.

`resolve` turns a mapping (from a YAML file, from the command line, from Python) into a `Recipe` of built parts, or
raises one RecipeError with all of its faults. `Recipe.values` gives the mapping back with every default filled in: it
repeats the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from tunesmith.core import document, registry
from tunesmith.core.document import Document
from tunesmith.core.errors import DataError, RecipeError, UserError, nearest, raise_faults
from tunesmith.core.faults import dotted, located, shown
from tunesmith.core.notes import note
from tunesmith.core.part import Method, Objective, Part, Schedule, Suite, Task
from tunesmith.core.tracker import Tracker
from tunesmith.data import sample
from tunesmith.data.settings import DataSettings
from tunesmith.models.settings import ModelSettings
from tunesmith.train.settings import TrainSettings
from tunesmith.train.speed import SpeedSettings

SECTIONS = ("model", "task", "data", "method", "objective", "regularizers", "schedules", "train", "speed", "evaluate",
            "track")  # fmt: skip
BARE = {"data": "train", "speed": "shortcuts"}
DEFAULTS = {"method": "full", "objective": "supervised"}
Settings = TypeVar("Settings", bound=BaseModel)
Fault = tuple[tuple[str | int, ...], str]


@dataclass(frozen=True)
class Recipe:
    """A run, said completely: settings, and parts that are built."""

    model: ModelSettings
    task: Task
    data: DataSettings
    method: Method
    objective: Objective
    regularizers: list[Part]
    schedules: list[Part]
    train: TrainSettings
    speed: SpeedSettings
    suites: list[Suite]
    trackers: list[Tracker]

    @property
    def parts(self) -> list[Part]:
        """The parts whose hooks the loop calls, in their order."""
        return [self.method, self.objective, *self.regularizers, *self.schedules]

    @property
    def title(self) -> str:
        """One line that names the run."""
        return f"{self.task.word()} with {self.method.word()} on {self.model.titled}"

    def values(self) -> dict[str, Any]:
        """The mapping from which `resolve` makes the same recipe."""
        return {
            "model": self.model.model_dump(),
            "task": registry.spec(self.task),
            "data": self.data.model_dump(),
            "method": registry.spec(self.method),
            "objective": registry.spec(self.objective),
            "regularizers": [registry.spec(part) for part in self.regularizers],
            "schedules": [registry.spec(part) for part in self.schedules],
            "train": self.train.model_dump(),
            "speed": self.speed.model_dump(),
            "evaluate": [registry.spec(part) for part in self.suites],
            "track": [registry.spec(part) for part in self.trackers],
        }

    def text(self) -> str:
        """The mapping as YAML."""
        return yaml.safe_dump(self.values(), sort_keys=False, allow_unicode=True)


def from_source(source: str | Path, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a YAML file, or of a bare data file (or folder), with sections and `key.key=value` overrides
    on top.
    """
    return resolve(*document_of(source, overrides, values))


def document_of(
    source: str | Path, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> tuple[Document, str]:
    """The same as plain values, and what to call the recipe in messages."""
    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        read = document.read(path)
    else:
        read = Document({"data": {"train": str(source)}}, {})
    where = str(path) if read.lines else ""
    return document.override(Document(merged(read.values, values or {}), read.lines), overrides, _widened), where


def from_values(values: Mapping[str, Any]) -> Recipe:
    """The recipe of a mapping."""
    return resolve(Document(dict(values), {}))


def merged(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Sections with overrides on top: a mapping over a mapping replaces only its keys, unless it names another part."""
    result = dict(values)
    for key, override in overrides.items():
        whole = not isinstance(override, Mapping) or "name" in override
        result[key] = override if whole else {**_widened(key, result.get(key)), **override}
    return result


def _widened(key: str | int, value: Any) -> dict[str, Any]:
    """The mapping for which a bare word stands: of a file in `data`, of all shortcuts in `speed`, of a part's name
    elsewhere.
    """
    if value is None and key in DEFAULTS:
        value = DEFAULTS[str(key)]
    if isinstance(value, str):
        return {BARE.get(str(key), "name"): value}
    return dict(value) if isinstance(value, Mapping) else {}


def resolve(read: Document, where: str = "") -> Recipe:
    """Build every section and part; raises RecipeError with all faults together, each with its line."""
    faults: list[Fault] = []
    values = read.values
    faults += [((key,), f"is unknown. {nearest(str(key), SECTIONS)}") for key in values if key not in SECTIONS]
    model = _section(values, "model", ModelSettings, "name", faults)
    data = _section(values, "data", DataSettings, "train", faults)
    train = _section(values, "train", TrainSettings, "epochs", faults)
    speed = _section(values, "speed", SpeedSettings, "shortcuts", faults)
    task, unread = None, None
    try:
        spec = _task_spec(values.get("task"), data, faults)
        task = None if spec is None else _part("tasks", spec, ("task",), faults)
    except DataError as error:
        unread = error
    method = _part("methods", _given(values, "method", DEFAULTS["method"]), ("method",), faults)
    objective = _part("objectives", _given(values, "objective", DEFAULTS["objective"]), ("objective",), faults)
    regularizers = _parts("regularizers", values, "regularizers", [], faults)
    schedules = _parts("schedules", values, "schedules", [], faults)
    suites = _parts("evaluate", values, "evaluate", ["task"], faults)
    trackers = _parts("trackers", values, "track", [], faults)
    schedules = _with_rate(schedules, faults)
    if task is not None and objective is not None:
        _fit(cast(Task, task), cast(Objective, objective), faults)
    if unread is not None and not faults:
        raise unread
    if unread is not None:
        faults.append((("data", "train"), unread.message))
    _raise(faults, read, where)
    assert model and data and train and speed and task and method and objective
    return Recipe(
        model, cast(Task, task), data, cast(Method, method), cast(Objective, objective), regularizers, schedules, train,
        speed, suites, trackers,
    )  # fmt: skip


def _section(
    values: Mapping[str, Any], name: str, settings: type[Settings], bare: str, faults: list[Fault]
) -> Settings | None:
    given = _given(values, name, {})
    if isinstance(given, str) and bare != "epochs":
        given = {bare: given}
    if not isinstance(given, Mapping):
        words = {"name": "neither a name nor", "train": "neither a path nor", "shortcuts": "neither a word nor"}
        word = words.get(bare, "not")
        faults.append(((name,), f"{shown(given)} is {word} a mapping of settings"))
        return None
    try:
        return settings.model_validate(dict(given))
    except ValidationError as error:
        faults += [((name, *path), sentence) for path, sentence in located(error, settings.model_fields)]
        return None


def _given(values: Mapping[str, Any], key: str, default: Any) -> Any:
    # `train:` with nothing behind it is null in YAML, and means what leaving it out means.
    return default if values.get(key) is None else values[key]


def _part(kind: str, spec: Any, path: tuple[str | int, ...], faults: list[Fault]) -> Part | None:
    word = registry.KINDS[kind]
    if not isinstance(spec, str | Mapping):
        faults.append((path, f"{shown(spec)} is neither the name of a {word} nor a mapping with `name`"))
        return None
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if name is None:
        faults.append((path, f"names no {word}: `name` is missing. {nearest('', registry.names(kind))}"))
        return None
    try:
        part = registry.load(kind, str(name))
        return part.model_validate(settings)
    except ValidationError as error:
        faults += [((*path, *keys), sentence) for keys, sentence in located(error, part.model_fields)]
    except UserError as error:
        faults.append(((*path, "name"), str(error)))
    return None


def _parts(kind: str, values: Mapping[str, Any], key: str, default: list[str], faults: list[Fault]) -> list[Any]:
    given = _given(values, key, default)
    if isinstance(given, str | Mapping):
        given = [given]
    if not isinstance(given, list):
        faults.append(((key,), f"{shown(given)} is not a list of {registry.KINDS[kind]}s"))
        return []
    built = [_part(kind, spec, (key, number), faults) for number, spec in enumerate(given)]
    return [part for part in built if part is not None]


def _with_rate(schedules: list[Any], faults: list[Fault]) -> list[Any]:
    """No two schedules set the same; exactly one sets the rate: `warmup_linear` where the recipe names none."""
    setting = [(part.sets, part.word()) for part in schedules if isinstance(part, Schedule) and part.sets]
    for what in dict.fromkeys(what for what, _ in setting):
        words = [word for other, word in setting if other == what]
        if len(words) > 1:
            faults.append((("schedules",), f"{' and '.join(words)} both set {what}: keep one"))
    rated = any(what == "the learning rate" for what, _ in setting)
    return schedules if rated else [registry.build("schedules", "warmup_linear"), *schedules]


def _fit(task: Task, objective: Objective, faults: list[Fault]) -> None:
    if lacking := sorted(objective.needs - task.gives):
        needs = f"'{objective.word()}' needs {', '.join(lacking)} in a batch"
        faults.append((("objective",), f"{needs}, which the task '{task.word()}' does not give"))


def _task_spec(given: Any, data: DataSettings | None, faults: list[Fault]) -> Any:
    """What the recipe says of the task; where it names none, the first task that suits the training file's columns.

    The choice is said, so that nobody is surprised.
    """
    if isinstance(given, str) or (isinstance(given, Mapping) and "name" in given):
        return _looked_up(_widened("task", given), data)
    if data is None or not isinstance(given, Mapping | None):
        return given
    settings = dict(given or {})
    able: dict[str, type[Task]] = {}
    columns, rows = sample.peek(data.train, lenient=True)
    for name in registry.names("tasks"):  # those behind the first that suits need not be loaded
        task = cast(type[Task], registry.load("tasks", name))
        if set(settings) <= set(task.model_fields):
            able[name] = task
        found = task.suits(columns, rows) if name in able else None
        if found is not None:
            note(f"Task: {name} ({_told({**found, **settings}, columns)}), by the file's columns.")
            return {"name": name, **found, **settings}
    if settings and able:
        name = min(able, key=lambda name: len(able[name].model_fields))
        note(f"Task: {name}, the plainest that has the settings {', '.join(settings)}.")
        return {"name": name, **settings}
    sample.peek(data.train)
    faults.append(
        (("task",), f"no task suits the columns of {data.train}: {', '.join(columns)}; say which, for example "
         "task: {name: classify, text: COLUMN, label: COLUMN}")
    )  # fmt: skip
    return None


def _looked_up(spec: dict[str, Any], data: DataSettings | None) -> dict[str, Any]:
    """What the recipe says of a task that it names; where that wants to look at the training file, with what it finds
    there. A file that can't be read is left to who reads it whole.
    """
    if data is None or spec["name"] not in registry.names("tasks"):
        return spec
    task = cast(type[Task], registry.load("tasks", spec["name"]))
    if not task.looks:
        return spec
    try:
        columns, rows = sample.peek(data.train, lenient=True)
    except DataError:
        return spec
    if found := {key: value for key, value in (task.suits(columns, rows) or {}).items() if key not in spec}:
        note(f"Task: {spec['name']} ({_told(found, columns)}), by the file's columns.")
    return {**spec, **found}


def _told(settings: Mapping[str, Any], columns: Sequence[str]) -> str:
    # A role's column; what only happens to have a column's name (format: text) is none.
    columns = [column for column in columns if column != settings.get("format")]
    named = {key: f"column '{value}'" if value in columns else value for key, value in settings.items()}
    return ", ".join(f"{key} = {value}" for key, value in named.items())


def _raise(faults: list[Fault], read: Document, where: str) -> None:
    faults.sort(key=lambda fault: read.line(fault[0]) or 0)
    places = [": ".join(filter(None, [read.place(path), dotted(path)])) for path, _ in faults]
    lines = [f"{place}: {sentence}" for place, (_, sentence) in zip(places, faults, strict=True)]
    headline = f"The recipe {where} is wrong:" if where else "The recipe is wrong:"
    raise_faults(RecipeError, headline, lines, hint="`tunesmith explain NAME` shows the settings of a part.")
