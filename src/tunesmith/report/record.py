"""What a run folder says, read once: recipe, environment, events, data, evaluation.

Any file may be missing, for a run may be unfinished; a damaged one raises RunFolderError with its path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import read_json
from tunesmith.core.panel import Aspect, Figure, Panel, Result, Verdict

KINDS: dict[str, type[Panel]] = {kind.kind: kind for kind in get_args(Panel)}
ASPECTS: tuple[str, ...] = get_args(Aspect)
Event = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The file `evaluation.json`. `metric` is the main one, by which the run is judged."""

    title: str
    metric: str
    higher_is_better: bool = True
    suites: dict[str, Result] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    artifact: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One run folder, read. None stands for a file that is not there (yet)."""

    folder: Path
    recipe: str | None
    environment: dict[str, Any] | None
    events: list[Event] | None
    data: list[Panel] | None
    evaluation: Evaluation | None

    def of_kind(self, kind: str) -> list[Event]:
        """The events of one kind, in order of their steps.

        A run that was killed and resumed logs the steps since its last checkpoint twice: the later line counts.
        """
        found = {event["step"]: event for event in self.events or [] if event.get("event") == kind and "step" in event}
        return [found[step] for step in sorted(found)]

    def verdicts(self) -> list[Verdict]:
        """Of all suites, in the order of what they judge; those that only stand beside another after it."""
        suites = self.evaluation.suites.values() if self.evaluation else ()
        order = {aspect: place for place, aspect in enumerate(ASPECTS)}
        found = [verdict for suite in suites for verdict in suite.verdicts]
        return sorted(found, key=lambda one: (order.get(one.aspect, len(order)), one.support))

    def found(self) -> list[Panel]:
        """What parts found when the training ended."""
        values = [panel for event in self.events or [] if event.get("event") == "found" for panel in event["panels"]]
        return _panels(values, self.folder / "metrics.jsonl")

    def notes(self) -> list[str]:
        """What was said during the run, each sentence once."""
        said = [str(event.get("text", "")) for event in self.events or [] if event.get("event") == "note"]
        return list(dict.fromkeys(said))


def read(run_folder: Path) -> Record:
    """Read all that the report shows; a folder that is not there raises RunFolderError."""
    if not run_folder.is_dir():
        raise RunFolderError(f"The run folder {run_folder} does not exist.", hint="Give a folder that `train` wrote.")
    recipe, metrics = run_folder / "recipe.yaml", run_folder / "metrics.jsonl"
    data = _object(run_folder / "data.json")
    return Record(
        folder=run_folder,
        recipe=recipe.read_text(encoding="utf-8", errors="replace") if recipe.exists() else None,
        environment=_object(run_folder / "environment.json"),
        events=_events(metrics) if metrics.exists() else None,
        data=None if data is None else _panels(data.get("panels", []), run_folder / "data.json"),
        evaluation=_evaluation(run_folder / "evaluation.json"),
    )


def _object(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise RunFolderError(f"The file {path} is damaged: it holds no JSON object.")
    return value


def _events(path: Path) -> list[Event]:
    lines = path.read_bytes().splitlines()
    events: list[Event] = []
    for position, line in enumerate(lines, 1):
        try:
            event = json.loads(line) if line.strip() else {}
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            # The process may have been killed while it wrote its last line.
            if position == len(lines):
                break
            raise RunFolderError(f"The file {path} is damaged in line {position}: {error}.") from None
        if isinstance(event, dict):
            events.append(event)
    return events


def _panels(values: list[Mapping[str, Any]], path: Path) -> list[Panel]:
    try:
        return [KINDS[value["panel"]](**{key: value[key] for key in value if key != "panel"}) for value in values]
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"The file {path} is damaged: a panel does not fit ({error}).", hint=f"Known panels: {', '.join(KINDS)}."
        ) from None


def _evaluation(path: Path) -> Evaluation | None:
    value = _object(path)
    if value is None:
        return None
    try:
        suites = {
            name: Result(
                [Figure(**figure) for figure in suite["figures"]],
                _panels(suite["panels"], path),
                suite.get("failed", ""),
                [Verdict(**verdict) for verdict in suite.get("verdicts", [])],
                suite.get("asks", ""),
                suite.get("defines", {}),
            )
            for name, suite in value.pop("suites", {}).items()
        }
        known = {name: value[name] for name in Evaluation.__dataclass_fields__ if name in value}
        return Evaluation(suites=suites, **known)
    except (AttributeError, KeyError, TypeError) as error:
        raise RunFolderError(f"The file {path} is damaged: {error!r}.") from None
