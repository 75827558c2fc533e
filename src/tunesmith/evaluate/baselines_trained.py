"""Further trainings as baselines: of the head alone, and of the same model from random weights.

Each is the recipe with some values changed (`core.finished.Again`), at the learning rate that is usual for it, on the
same training and validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.evaluate.baselines_ground import Ground, Missing, Outcome, Told

USUAL_RATE = {"train": {"learning_rate": None}}
HEAD = {"method": "head_only", **USUAL_RATE}
SCRATCH = {"model": {"weights": "random"}, "method": "full", "regularizers": [], **USUAL_RATE}
"""Random weights have to train, all of them, and nothing in them is worth keeping."""


def head_only(ground: Ground) -> Outcome:
    """The same backbone, of which the head alone is trained."""
    if ground.finished.recipe.get("method", {}).get("name") == "head_only":
        return Missing("head_only", "the recipe's own method is head_only")
    return _trained(ground, "head_only", HEAD, "the head alone is trained")


def from_scratch(ground: Ground) -> Outcome:
    """The same architecture and tokenizer with random weights, all of which are trained."""
    model = ground.finished.recipe.get("model", {})
    if model.get("family") is not None or model.get("weights") is not None:
        return Missing("from_scratch", "the model starts from random weights already")
    return _trained(ground, "from_scratch", SCRATCH, "all weights are trained, from random ones")


def _trained(ground: Ground, name: str, changes: Mapping[str, Any], remark: str) -> Outcome:
    rows, again = ground.finished.train(), ground.finished.again
    if again is None or rows is None:
        return Missing(name, "the training rows are not at hand")
    made = again(name, changes)
    if made.now is None:
        return Missing(name, f"the training failed: {made.failed.rstrip('.')}")
    answers = made.now.predict(ground.rows("held out")).answers
    remark += ", with the recipe's other settings and the usual learning rate"
    return Told(name, ground.every, [answers], made.trained, len(rows), remark, seconds=made.seconds)
