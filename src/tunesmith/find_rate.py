"""A learning-rate range test (Smith, "Cyclical Learning Rates for Training Neural Networks", 2017).

A model that is loaded for it trains with a rate that grows from update to update, until the loss does. Nothing of it
stays: no file, no weight, no random number drawn.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith import prepare
from tunesmith.core.errors import DivergedError, RecipeError
from tunesmith.core.panel import Lines, Panel
from tunesmith.core.part import Schedule
from tunesmith.core.seeding import undrawn
from tunesmith.data.load import load as load_data
from tunesmith.joint import Joint
from tunesmith.recipe import Recipe
from tunesmith.train import loop
from tunesmith.train.log import Log
from tunesmith.train.rate_range import RateRange, chosen, is_over, smoothed

LOWEST, HIGHEST = 1e-6, 1.0
"""The range of rates that is tried."""
LEAST = 10
"""Fewest updates that tell anything."""


@dataclass(frozen=True)
class Found:
    """rates and losses: of every update. rate: the one that is named, None where none is; reason: why."""

    rates: list[float]
    losses: list[float]
    rate: float | None
    reason: str

    def panels(self) -> list[Panel]:
        """The curve."""
        powers = [math.log10(rate) for rate in self.rates]
        series = {"loss": (powers, self.losses), "smoothed": (powers, smoothed(self.losses))}
        return [Lines("Loss by learning rate", series, "learning rate, as a power of 10", "loss")]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {"learning_rate": self.rate, "reason": self.reason, "rates": self.rates, "losses": self.losses}

    def told(self) -> str:
        """The rate and its reason in a sentence."""
        named = "No rate is named" if self.rate is None else f"train.learning_rate={self.rate:.1e}"
        return f"{named}: {self.reason}."


class _Enough(Exception):
    """The loss has grown: larger rates need not be tried."""


def find_rate(recipe: Recipe | Joint, updates: int = 100) -> Found:
    """Try rates from 1e-6 to 1, one an update, on the recipe's data, method and parts. Raises what a run would raise,
    and RecipeError for fewer than 10 updates, or for several tasks at once.
    """
    if updates < LEAST:
        raise RecipeError(
            f"--updates: {updates} updates tell nothing; it takes {LEAST} at least.",
            hint="Give --updates 100, or leave it out.",
        )
    if isinstance(recipe, Joint):
        raise RecipeError(
            "The loss of several tasks that train together goes up and down with their turns: it names no rate.",
            hint="Find the rate of one of them, with its task and data alone, and start from there.",
        )
    losses: list[float] = []

    def watch(line: dict[str, Any]) -> None:
        if line["event"] == "step":
            losses.append(line["loss"])
            if is_over(losses):
                raise _Enough

    with undrawn(), tempfile.TemporaryDirectory() as folder:
        recipe = prepare.settle(recipe)
        splits = load_data(recipe.data, recipe.task.columns())
        prepare.learn(recipe, splits)
        grows = RateRange(base=recipe.train.learning_rate or 1.0, lowest=LOWEST, highest=HIGHEST)
        others = [
            part for part in recipe.schedules if isinstance(part, Schedule) and part.sets == "the rates of layers"
        ]
        never = {"evaluate_every": updates + 1, "checkpoint_every": updates + 1}
        settings = recipe.train.model_copy(update={"steps": updates, "log_every": 1, **never})
        prepared = prepare.prepare(replace(recipe, schedules=[grows, *others], train=settings), splits)
        outside = loop.Outside(
            Path(folder) / "checkpoints", Log(Path(folder) / "metrics.jsonl", watch), dict, lambda: False
        )
        with suppress(_Enough, DivergedError):
            prepared.train(outside)
    if len(losses) < LEAST:
        raise DivergedError(
            f"The loss is no number from update {len(losses) + 1} on, at a rate of {LOWEST:g} already.",
            hint="Look at the rows and the model: `tunesmith check` shows what it would train on.",
        )
    rates = [grows.rate(step, updates) for step in range(len(losses))]
    return Found(rates, losses, *chosen(rates, losses))
