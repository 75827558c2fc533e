"""Tasks of EleutherAI's lm-eval, asked of a language model; the library is loaded when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from torch import nn

from tunesmith.core.errors import MissingExtraError, RecipeError, raise_faults
from tunesmith.core.part import Reader

WIDTH = 1.96
"""How many standard errors to either side hold a figure with a probability of 95 %."""
DRAWS = 1000
"""How often figures that have no formula for their error are drawn anew."""


@dataclass(frozen=True)
class Score:
    """One figure of a task. error: its standard error; None where there is none. higher: whether more is better."""

    value: float
    error: float | None
    higher: bool

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """What holds the value with a probability of 95 %, by its standard error."""
        if self.error is None:
            return None, None
        return self.value - WIDTH * self.error, self.value + WIDTH * self.error


def check(tasks: Sequence[str]) -> None:
    """Refuse tasks that lm-eval does not know: RecipeError; without lm-eval: MissingExtraError."""
    known = set(_module("lm_eval.tasks").TaskManager().all_tasks)
    faults = []
    for name in tasks:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            faults.append(f"'{name}'" + (f" (did you mean {' or '.join(near)}?)" if near else ""))
    raise_faults(RecipeError, "retention.lm_eval names tasks that lm-eval does not know:", faults,
                 hint="All are listed by: lm-eval ls tasks")  # fmt: skip


def scores(model: nn.Module, tokenizer: Reader, tasks: Sequence[str], limit: int | None) -> dict[str, Score]:
    """Every figure of the tasks by `task metric`, on the first `limit` documents of each, or all.

    A task whose rows can't be had, or whose figures are none, raises what lm-eval raises.
    """
    asked = _module("lm_eval.models.huggingface").HFLM(pretrained=model, tokenizer=tokenizer, backend="causal")
    found = _module("lm_eval").simple_evaluate(
        model=asked, tasks=list(tasks), limit=limit, log_samples=False, bootstrap_iters=DRAWS
    )
    return {
        f"{task} {name}": one
        for task, values in found["results"].items()
        for name, one in _figures(values, found["higher_is_better"].get(task, {})).items()
    }


def _figures(values: dict[str, Any], better: dict[str, bool]) -> dict[str, Score]:
    """The figures among what lm-eval gives of a task: keys are `metric,filter`, errors `metric_stderr,filter`."""
    found = {}
    for key, value in values.items():
        name, comma, way = key.partition(",")
        if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = values.get(f"{name}_stderr,{way}")
        told = name if way == "none" else f"{name} {way}"
        wide = float(error) if isinstance(error, int | float) else None
        found[told] = Score(float(value), wide, better.get(name) is not False)
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"retention.lm_eval: the library lm-eval is not installed ({error}).",
            hint="Install it: pip install 'tunesmith[lm-eval]'",
        ) from error
