"""MLflow: a run of an experiment, in local files, a database or on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import PrivateAttr

from tunesmith.core.tracker import Tracked, Tracker

STRANGE = re.compile(r"[^\w.\-/ ]")
"""What MLflow's names may not hold."""
LONGEST = 500
"""Characters of a parameter's value, which MLflow limits."""


class Mlflow(Tracker):
    """Tell MLflow: curves as metrics, the recipe as parameters, texts and the report as artifacts.

    Parameters: none that train. Paper: none; mlflow.start_run, log_metrics, log_params, log_text, log_artifact.
    """

    library: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"

    experiment: str = "tunesmith"
    """The experiment to which the run belongs; it is made where there is none."""
    uri: str | None = None
    """Where MLflow keeps its runs: a folder, a database, a server; its own choice where not given."""
    run_name: str | None = None
    """What MLflow calls the run; by its folder where not given."""

    _mlflow: Any = PrivateAttr(None)

    def open(self, run: Tracked) -> str:
        """Start the run, or start it again by its id."""
        self._mlflow = self.module()
        if self.uri is not None:
            self._mlflow.set_tracking_uri(self.uri)
        self._mlflow.set_experiment(self.experiment)
        begun = self._mlflow.start_run(run_id=run.id or None, run_name=self.run_name or run.name)
        if not run.id:
            self._mlflow.log_params({_named(name): str(value)[:LONGEST] for name, value in _flat(run.recipe)})
        return str(begun.info.run_id)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Metrics."""
        self._mlflow.log_metrics({_named(name): value for name, value in values.items()}, step=step)

    def text(self, name: str, text: str, step: int) -> None:
        """A file among the artifacts."""
        self._mlflow.log_text(text, f"{_named(name)}.txt")

    def file(self, path: Path) -> None:
        """A file among the artifacts."""
        self._mlflow.log_artifact(str(path))

    def close(self, ended: bool) -> None:
        """End the run; one that may go on is called killed."""
        self._mlflow.end_run("FINISHED" if ended else "KILLED")


def _named(name: str) -> str:
    return STRANGE.sub("_", name)


def _flat(values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its path; those of lists by their places."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _flat(value, f"{before}.{name}" if before else str(name))
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from _flat(value, f"{before}.{place}")
    else:
        yield before, values
