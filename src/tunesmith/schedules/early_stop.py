"""Early stopping: end when the validation metric no longer improves, and keep the best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, PrivateAttr

from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.part import Schedule
from tunesmith.core.step import Training


class EarlyStop(Schedule):
    """Stop after some evaluations without improvement, and end with the weights of the best evaluation.

    Formula: an evaluation improves when its metric beats the best one by more than `margin`; training stops after
    `patience` evaluations in a row that don't.
    Symbols: the metric is the task's own, or the one named; `loss` is better when it is lower. Shapes: numbers.
    Paper: Prechelt, "Early Stopping - But When?", 1998 (the criterion UP); we count evaluations, not strips of epochs.
    """

    patience: int = Field(2, ge=1)
    """Evaluations without improvement after which training stops."""
    metric: str | None = None
    """Metric to watch (or `loss`); the task's own where not given."""
    margin: float = Field(0.0, ge=0)
    """How much better the metric must be to count."""

    _best: float | None = PrivateAttr(default=None)
    _waited: int = PrivateAttr(default=0)

    def after_eval(self, training: Training, metrics: Mapping[str, float]) -> None:
        """Keep an improvement; stop when patience is at its end. An unknown metric raises RecipeError."""
        name = self.metric or training.task.metric
        if name not in metrics:
            raise RecipeError(f"early_stop.metric: there is no metric '{name}'. {nearest(name, metrics)}")
        lower = name in ("loss", "rmse") or (name == training.task.metric and not training.task.higher_is_better)
        value = -metrics[name] if lower else metrics[name]
        # A metric that is not defined (the correlation of a constant answer) is no improvement, not even the first.
        if not math.isnan(value) and (self._best is None or value > self._best + self.margin):
            self._best, self._waited = value, 0
            training.keep = True
            return
        self._waited += 1
        if self._waited >= self.patience:
            training.stop = f"{name} has not improved for {self._waited} evaluations"

    def state(self) -> dict[str, Any]:
        """The best value so far and the wait since."""
        return {"best": self._best, "waited": self._waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the best value and the wait."""
        self._best, self._waited = state["best"], int(state["waited"])
