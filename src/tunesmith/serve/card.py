"""The model card: `README.md` of a model's folder, in the hub's form, from what its run knows of itself.

Nothing stands in it that differs between two equal runs: no dates, no times. Paths of the machine are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from tunesmith.core import document, registry
from tunesmith.core.files import read_json, write_text
from tunesmith.core.part import Task
from tunesmith.serve import card_front, card_use
from tunesmith.serve import card_marks as marks
from tunesmith.serve.folder import ENVIRONMENT, MODEL, RECIPE, TASK

NAME = "README.md"
EVALUATION = "evaluation.json"
TIMED = "cost"
"""The suite whose figures are times, which are others in every run."""
SHOWN, CLASSES = 200, 50
"""Most figures of a suite, and most classes, that are shown."""
BLANK = "**[To be filled in: {}]**"


@dataclass(frozen=True)
class Facts:
    """What a run's folder says: its recipe as values, what its task learned, where and on what it was trained, what was
    measured. What is not there is empty.
    """

    recipe: Mapping[str, Any]
    task: Task
    state: Mapping[str, Any]
    environment: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @property
    def method(self) -> str:
        """The word of the method."""
        return str(self.recipe["method"]["name"])

    @property
    def base(self) -> str | None:
        """The backbone's name on the hub, where it has one."""
        return self.environment.get("base_model")

    @property
    def backbone(self) -> str:
        """What to call the backbone."""
        model = self.recipe["model"]
        called = model.get("name") or model.get("like") or model.get("family") or "a model"
        return self.base or marks.plain(marks.unplaced(str(called)))

    @property
    def data(self) -> Mapping[str, Any]:
        """The sources of its rows, by splits."""
        return cast(Mapping[str, Any], self.environment.get("data", {}))

    @property
    def suites(self) -> Mapping[str, Any]:
        """What was measured, by suites."""
        return cast(Mapping[str, Any], self.evaluation.get("suites", {}))


def facts(run: Path) -> Facts:
    """What the folder of a run says. A damaged one raises RunFolderError."""
    recipe = document.read(run / RECIPE).values
    task = cast(Task, registry.build("tasks", recipe["task"]))
    known = {name: read_json(run / name) if (run / name).is_file() else {} for name in (TASK, ENVIRONMENT, EVALUATION)}
    if known[TASK]:
        task.restore(known[TASK])
    return Facts(recipe, task, known[TASK], known[ENVIRONMENT], known[EVALUATION])


def write(run: Path) -> Path:
    """Write the card of a finished run into its `model/`, anew where there is one."""
    return _write(run / MODEL, [facts(run)], "", run=True)


def write_merged(folder: Path, told: Mapping[str, Any], *, run: bool = False) -> Path:
    """Write the card of what was made of finished runs into the model's folder. told: what `merge` tells of it. run:
    whether the folder is the `model/` of one that works as a run does.
    """
    folders = told.get("taken") or [one["folder"] for one in told["runs"]]
    runs = [facts(Path(one)) for one in folders]
    changed = max(told.get("largest_difference_of_merging", 0.0), told.get("largest_difference", 0.0))
    if len(runs) == 1 and told.get("weights", [1.0]) == [1.0] and told.get("density", 1.0) == 1.0:
        made = f"It was made of one run; its outputs differed from the run's by at most {changed:.2g} where compared."
    else:
        made = f"It was made of {len(runs)} runs by their weights: their figures are not its own."
        runs = [replace(one, evaluation={}) for one in runs]
    return _write(folder, runs, made, run=run)


def _write(folder: Path, known: Sequence[Facts], made: str, *, run: bool) -> Path:
    path = folder / NAME
    write_text(path, card(folder, known, made, run=run))
    return path


def card(folder: Path, known: Sequence[Facts], made: str, *, run: bool) -> str:
    """The card as text. known: of the run, or of the runs that were put together. made: how, in a sentence, where it is
    no run's own.
    """
    first = known[0]
    held = card_use.held(folder, first.task)
    methods = list(dict.fromkeys(one.method for one in known))
    name = f"{first.task.word()} with {' and '.join(methods)} on {first.backbone}"
    suites = first.suites
    figures = suites.get("task", {}).get("figures", [])
    words = (first.task.word(), " and ".join(methods))
    sections = {
        "What it is": _what(first, methods, held, made),
        "Intended use": _use(first),
        "How to use it": _how(first, held, run=run),
        "Training data": _data(known),
        "Training": "\n\n".join(_recipe(one) for one in known),
        "Figures": _figures(suites),
        "What was not measured": _unmeasured(suites),
        "Licence": BLANK.format("the licence, here and as `license:` in the head of this file"),
        "Versions": _versions(first),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"{card_front.front(held, name, words, first.base, figures, first.data)}\n# {marks.text(name)}\n\n{body}\n"


def _what(first: Facts, methods: Sequence[str], held: card_use.Held, made: str) -> str:
    kinds = {
        "model": "The folder holds the whole model.",
        "peft": "The folder holds a delta in peft's form: what was added to the backbone or trained, and the head.",
        "delta": "The folder holds a delta: what was added to the backbone or trained, and the head.",
        "difference": "The folder holds the difference to the backbone.",
    }
    tasks, known = registry.entries("tasks"), registry.entries("methods")
    lines = [f"- Task `{first.task.word()}`: {marks.text(tasks[first.task.word()].sentence)}"]
    lines += [f"- Method `{word}`: {marks.text(known[word].sentence) if word in known else ''}" for word in methods]
    hub = "" if first.base else " It is none of the hub's, so that this card names no `base_model`."
    lines += [f"- Backbone: {marks.text(first.backbone)}.{hub}", f"- {kinds[held.kind]} {made}".rstrip()]
    return "\n".join(lines)


def _use(first: Facts) -> str:
    sentence = marks.text(registry.entries("tasks")[first.task.word()].sentence)
    names = [str(one) for one in first.task.head().get("id2label", {}).values()]
    told = f"It was trained for this: {sentence[:1].lower()}{sentence[1:]}"
    if len(names) > 1:
        more = f", and {len(names) - CLASSES:,} more" if len(names) > CLASSES else ""
        told += f" Its {len(names):,} classes: {', '.join(marks.text(one) for one in names[:CLASSES])}{more}."
    blank = BLANK.format("for whom and for what it is meant, and for what it must not be used")
    return f"{told}\n\n{blank}"


def _how(first: Facts, held: card_use.Held, *, run: bool) -> str:
    ways = card_use.ways(held, first.base, run=run)
    parts = [f"{told}\n\n{marks.fenced(code, 'python')}" for told, code in ways]
    caution = card_use.caution(first.recipe["task"], first.state) if held.library != "tunesmith" else ""
    return "\n\n".join([*parts, *([f"Without tunesmith, mind: {caution}"] if caution else [])])


def _data(known: Sequence[Facts]) -> str:
    rows = [[marks.file_name(one.data, split), split, source.get("rows"), source.get("sha256")]
            for one in known for split, source in one.data.items()]  # fmt: skip
    shown = [marks.table(["file", "split", "rows", "SHA-256"], rows)] if rows else []
    blank = BLANK.format("where the rows come from, what they hold of people, and who may use them")
    return "\n\n".join([*shown, blank])


def _recipe(one: Facts) -> str:
    text = yaml.safe_dump(marks.unplaced(dict(one.recipe)), sort_keys=False, allow_unicode=True)
    return marks.fenced(text, "yaml")


def _figures(suites: Mapping[str, Any]) -> str:
    parts = []
    for name, suite in suites.items():
        figures = [] if name == TIMED else suite.get("figures", [])
        rows = [[one["name"].replace("_", " "), one["split"], one["subject"], one["value"], _interval(one)]
                for one in figures[:SHOWN]]  # fmt: skip
        if rows:
            columns = ["figure", "on", "of", "value", "interval"]
            more = f"\n\n{len(figures) - SHOWN:,} more stand in the run's report." if len(figures) > SHOWN else ""
            parts.append(f"Suite `{marks.plain(name).replace('`', '')}`:\n\n{marks.table(columns, rows)}{more}")
    if not parts:
        return "None were measured on this model itself."
    return "\n\n".join([*parts, "Intervals hold the value with a probability of 95 %, unless another is named."])


def _interval(figure: Mapping[str, Any]) -> str:
    low, high, sure = figure["low"], figure["high"], figure.get("confidence", 0.95)
    if low is None or high is None:
        return ""
    named = "" if sure == 0.95 else f" ({100 * sure:.3g} %)"
    return f"{marks.number(low)} to {marks.number(high)}{named}"


def _unmeasured(suites: Mapping[str, Any]) -> str:
    known = registry.entries("evaluate")
    lines = [f"- `{name}`: {marks.text(entry.sentence)}" for name, entry in known.items() if name not in suites]
    for name, suite in suites.items():
        if why := suite.get("failed"):
            lines.append(f"- {marks.text(name)} failed: {marks.text(marks.unplaced(str(why)))}")
        for panel in suite.get("panels", []):
            if panel.get("columns") == ["why"]:
                lines.append(f"- {marks.text(panel['title'])}: {marks.text(panel['rows'][0][0])}")
    if TIMED in suites:
        lines.append("- Times and memory stand in the run's report: they are others on every machine.")
    return "\n".join(lines)


def _versions(first: Facts) -> str:
    told = {key: value for key, value in first.environment.items() if isinstance(value, str | int)}
    rows = [[key, str(value)] for key, value in told.items() if key not in ("base_model", "machine")]
    return marks.table(["of", "version"], rows) if rows else ""
