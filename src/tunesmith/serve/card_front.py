"""The head of a model card, which the hub reads: YAML between two lines of dashes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tunesmith.serve import card_marks as marks
from tunesmith.serve.card_use import Held

LICENSE = "# license: name one here; it must go with those of the base model and of the data"


def front(
    held: Held, name: str, words: tuple[str, str], base: str | None, figures: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
) -> str:  # fmt: skip
    """The head. name: the model's. words: of task and method. base: the backbone's name on the hub. figures: of the
    task's suite. data: the sources of the rows, by their splits.
    """
    values: dict[str, Any] = {"library_name": held.library}
    if held.tag is not None:
        values["pipeline_tag"] = held.tag
    if base is not None:
        values["base_model"] = marks.plain(base)
    values["tags"] = ["tunesmith", *(marks.plain(word) for word in words if word)]
    if results := _results(held, words[0], figures, data):
        values["model-index"] = [{"name": marks.plain(name), "results": results}]
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1 << 16)
    return f"---\n{text}{LICENSE}\n---\n"


def _results(
    held: Held, task: str, figures: Sequence[Mapping[str, Any]], data: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One entry a held-out split: the model's figures with their intervals."""
    found: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        if figure["subject"] != "model" or figure["split"] == "train" or not _known(figure["value"]):
            continue
        name = str(figure["name"])
        metric: dict[str, Any] = {"type": name, "value": figure["value"], "name": name.replace("_", " ")}
        if _known(figure["low"]) and _known(figure["high"]):
            metric["args"] = {"interval": [figure["low"], figure["high"]], "confidence": figure["confidence"]}
        found.setdefault(str(figure["split"]), []).append(metric)
    return [
        {
            "task": {"type": held.tag or task, "name": task},
            "dataset": {"type": "file", "name": marks.file_name(data, split), "split": marks.plain(split)},
            "metrics": metrics,
        }
        for split, metrics in found.items()
    ]


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
