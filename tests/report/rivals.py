"""Finished runs made by hand that answered the same rows, some better than others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tunesmith.core.panel import Figure, Result

ROWS = 200
NAMES = ("a", "b", "c")


def write_rival(
    folder: Path, share: float, seed: int = 0, *, method: str = "lora", rows: range = range(ROWS), **more: Any
) -> Path:
    """A run of `classify` that is right on about `share` of the rows; more: entries of evaluation.json's cost, or the
    retention score `kept`, or a hash `data` of its file.
    """
    folder.mkdir(parents=True)
    kept, data = more.pop("kept", None), more.pop("data", "0f" * 32)
    recipe = {
        "model": {"name": "builtin:tiny-bert"},
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {"train": "rows.csv"},
        "method": {"name": method, "rank": 8},
        "regularizers": [],
        "train": {"epochs": 3.0, "learning_rate": 0.0002, "seed": seed},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    _write(folder / "task.json", {"classes": list(NAMES), "shares": [0.4, 0.3, 0.3]})
    _write(folder / "data.json", {"panels": []})
    about = {name: {"path": "rows.csv", "sha256": data, "rows": len(rows)} for name in ("train", "test")}
    _write(folder / "environment.json", {"seed": seed, "machine": "one", "device": "cpu", "data": about})
    truths = np.random.default_rng(7).integers(0, 3, ROWS)
    draws = np.random.default_rng([seed, round(1000 * share)]).random(ROWS)
    answers = np.where(draws < share, truths, (truths + 1) % 3)
    lines = [
        {"text": f"row {row}", "label": NAMES[truths[row]], "line": row + 2, "prediction": NAMES[answers[row]]}
        for row in rows
    ]
    (folder / "predictions").mkdir()
    (folder / "predictions" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "model").mkdir()
    right = float(np.mean([line["label"] == line["prediction"] for line in lines]))
    suites = {
        "task": Result(
            [
                Figure("accuracy", right, low=right - 0.05, high=right + 0.05),
                Figure("accuracy", 0.4, subject="most frequent class"),
            ]
        )
    }
    if kept is not None:
        suites["retention"] = Result([Figure("retention", kept, "general")])
    cost = {"seconds": 60.0, "peak_memory_bytes": 1e9, "trained_parameters": 1000, "total_parameters": 10000, **more}
    _write(
        folder / "evaluation.json",
        {
            "title": f"classify with {method} on tiny-bert",
            "metric": "accuracy",
            "higher_is_better": True,
            "suites": {name: result.as_json() for name, result in suites.items()},
            "cost": cost,
        },
    )
    return folder


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))
