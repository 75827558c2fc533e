"""A finished model for suites to measure: a toy on rows of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import measure, prepare
from tunesmith.core.finished import Finished
from tunesmith.core.rows import Rows, take
from tunesmith.data.read import read
from tunesmith.evaluate.predict import Predictor
from tunesmith.measure import Answers
from tunesmith.prepare import Prepared
from tunesmith.train.speed import SpeedSettings


def _never(*_: Any) -> Any:
    raise AssertionError("not asked for in this test")


UNASKED: dict[str, Any] = {"train": _never, "now": None, "before": _never, "read": _never}
"""What a suite that looks at answers alone does not ask for."""


def asked(toyed: Prepared) -> Answers:
    """The model of a toy, as it is now."""
    backbone, task = toyed.backbone, toyed.recipe.task
    return Answers(Predictor(backbone.model, backbone.tokenizer, task, backbone.limit), SpeedSettings())


def finished(
    toyed: Prepared, splits: Mapping[str, Rows] | None = None, folder: Path | None = None, **more: Any
) -> Finished:
    """A toy as a suite sees it, its training rows held out too where no splits are given."""
    rows = toyed.batches.rows
    splits = {"validation": rows, "test": rows} if splits is None else splits
    now = asked(toyed)

    def before() -> Answers:
        fresh = prepare.load_backbone(toyed.recipe)
        return Answers(Predictor(fresh.model, fresh.tokenizer, toyed.recipe.task, fresh.limit), SpeedSettings())

    task = toyed.recipe.task
    values: dict[str, Any] = {
        "task": task,
        "splits": splits,
        "predict": lambda name: now.predict(splits[name]),
        "untrained": lambda name: before().predict(splits[name]),
        "lines": lambda name, places: take(splits[name], list(places)),
        "seed": 0,
        "train": lambda: rows,
        "now": now,
        "before": before,
        "read": lambda path: read(path, task.columns()).rows,
        "folder": folder,
        "headed": lambda classes: measure.under(toyed.recipe, classes),
    }
    return Finished(**{**values, **more})
