"""A run folder made by hand: every kind of panel, many classes, and texts that try to break out of the page."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from tunesmith.core.panel import Bars, Figure, Heatmap, Lines, Points, Result, Table, Verdict

HOSTILE = [
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    '"><img src=x onerror="window.hacked=1">',
    "<a href='https://example.com/'>link</a>",
    "emoji 🚀 and an accent é",
    "مرحبا بالعالم",
    "half a character \ud83d",
]
WORD = "Donaudampfschifffahrt" * 240
"""A word of 5,040 letters, where no line may break."""


def write_run(folder: Path, classes: int = 150, steps: int = 400) -> Path:
    """Write the files of a finished run into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)
    recipe = f"# {HOSTILE[0]}\nmodel: builtin:minilm\ntask: {{name: classify, text: text, label: intent}}\n"
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    _write(folder / "environment.json", _environment())
    _write(folder / "data.json", {"panels": _data(draw).as_json()["panels"]})
    _write(folder / "evaluation.json", _evaluation(draw, classes))
    lines = [json.dumps(event) for event in _events(draw, steps)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"event": "st', encoding="utf-8")
    (folder / "model").mkdir(exist_ok=True)
    return folder


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _environment() -> dict[str, Any]:
    splits = {"train": 10003, "validation": 1200, "test": 3080}
    return {
        "tunesmith": "0.1.0",
        "python": "3.11.8",
        "torch": "2.9.0",
        "transformers": "5.5.0",
        "device": "cuda (NVIDIA H200)",
        "precision": "bfloat16",
        "seed": 0,
        "packages": {"tokenizers": "0.22.1", HOSTILE[2]: HOSTILE[1]},
        "data": {
            name: {"path": f"data/{name}.csv", "sha256": "0f" * 32, "rows": rows} for name, rows in splits.items()
        },
    }


def _data(draw: random.Random) -> Result:
    lengths = [draw.gauss(14, 4) for _ in range(1000)]
    counts = [float(sum(1 for length in lengths if int(length) == bucket)) for bucket in range(30)]
    return Result(
        panels=[
            Bars(
                "Tokens in an example", [str(bucket) for bucket in range(30)], {"train": counts}, "tokens", "examples"
            ),
            Bars("Rows of each class", HOSTILE, {"train": [50, 40, 33, 30, 21, 9, 4]}, "class", "rows", "Most first."),
            Table("Duplicates", ["split", "rows", "example"], [["train", 3, HOSTILE[0]], ["test", 0, None]]),
        ]
    )


def _evaluation(draw: random.Random, classes: int) -> dict[str, Any]:
    names = [f"card_payment_wrong_{number}" for number in range(classes - len(HOSTILE))] + HOSTILE
    asks, defines = "How good are the answers?", {"accuracy": "The share of right answers. " + HOSTILE[0]}
    panels = [*_task_panels(draw, names), _small_matrix(draw)]
    task = Result(_figures(), panels, verdicts=_verdicts(), asks=asks, defines=defines)
    return {
        "title": "classify: text -> intent",
        "metric": "accuracy",
        "higher_is_better": True,
        "suites": {
            "task": task.as_json(),
            "calibration": _calibration(draw).as_json(),
            "drift": Result(panels=[_signed(draw)]).as_json(),
            f"strange {HOSTILE[0]}": Result(failed=f"OSError: {HOSTILE[2]} {WORD}").as_json(),
        },
        "cost": {
            "seconds": 754.2,
            "examples_per_second": 1321.4,
            "peak_memory_bytes": 3_420_000_000,
            "trained_parameters": 147_456,
            "total_parameters": 22_713_216,
            "device": "cuda (NVIDIA H200)",
            "precision": "bfloat16",
        },
        "artifact": {"folder": "model", "compared_rows": 32, "largest_difference": 1.2e-7},
    }


def _figures() -> list[Figure]:
    return [
        Figure("accuracy", 0.9131, low=0.8904, high=0.9312),
        Figure("macro_f1", 0.9078, low=0.8861, high=0.9270),
        Figure("accuracy", 0.12, subject="most frequent class", low=0.10, high=0.14),
        Figure("macro_f1", 0.0021, subject="most frequent class"),
        Figure("accuracy", 0.8342, subject="linear model on word counts", low=0.812, high=0.855),
        Figure("macro_f1", 0.829, subject="linear model on word counts", low=0.803, high=0.851),
        Figure("accuracy", 0.9211, split="validation"),
    ]


def _verdicts() -> list[Verdict]:
    gap, ahead = "accuracy: share lost", f"accuracy: better than {HOSTILE[2]} by"
    return [
        Verdict("generalises", "mixed", "Generalises in part", HOSTILE[5], gap, 0.08, 0.06, 0.1, "A rule."),
        Verdict("learned", "good", "Learned", f"It is better. {HOSTILE[1]}", ahead, 0.079, 0.05, 0.11, "Above 0."),
        Verdict("kept", "good", "Moved little", "Beside it.", "likeness", 0.97, support=True),
        Verdict("kept", "bad", "Forgot much", WORD, "retention score", 0.4, 0.3, 0.5, "At least 0.7."),
        Verdict("calibrated", "unknown", "Calibrated?", "Too few rows.", "calibration error"),
    ]


def _task_panels(draw: random.Random, names: list[str]) -> list[Table | Bars | Heatmap]:
    size = len(names)
    right = [draw.uniform(0.6, 1) for _ in names]
    matrix = [[draw.choice([0, 0, 0, 0, 1]) for _ in names] for _ in names]
    for position in range(size):
        matrix[position][position] = draw.randint(14, 20)
    mistakes = [
        [HOSTILE[row % 7] + " is my card still on its way? " * 3, names[row % size], names[-row % size]]
        for row in range(60)
    ]
    return [
        Table(
            "Per class",
            ["class", "rows", "precision", "recall"],
            [[name, 20, r, r] for name, r in zip(names, right, strict=True)],
        ),
        Bars("Recall of each class", names, {"recall": right}, "class", "recall"),
        Heatmap("Confusion matrix", names, names, matrix, "predicted", "true"),
        Table("Mistakes", ["text", "true", "predicted"], mistakes, "The model was surest of the first."),
    ]


def _small_matrix(draw: random.Random) -> Heatmap:
    names = ["refund", HOSTILE[0], "top up", "fee"]
    return Heatmap("Confusion, four groups", names, names, [[draw.randint(0, 90) for _ in names] for _ in names])


def _calibration(draw: random.Random) -> Result:
    ticks = [step / 10 for step in range(11)]
    xs = [draw.random() for _ in range(500)]
    spread = [min(1, max(0, x + draw.gauss(0, 0.1))) for x in xs]
    figures = [Figure("expected_calibration_error", 0.0312, low=0.021, high=0.044), Figure("loss", 0.412)]
    lines = {
        "model": (ticks, [x**1.3 for x in ticks]),
        HOSTILE[3]: (ticks, [x**0.7 for x in ticks]),
        "ideal": (ticks, ticks),
    }
    both = {"before": [0.2, 0.5, 0.7], "after": [0.3, 0.6, 0.9]}
    return Result(
        figures,
        [
            Lines("Reliability", lines, "confidence", "share right"),
            Points("Predicted against true", xs, spread, "true", "predicted", diagonal=True),
            Bars("Confidence", ["low", "middle", "high"], both, "confidence", "share"),
        ],
    )


def _signed(draw: random.Random) -> Heatmap:
    layers = [f"layer {number}" for number in range(12)]
    values = [[draw.gauss(0, 1) for _ in range(4)] for _ in layers]
    return Heatmap("Change of each layer", layers, ["query", "key", "value", "output"], values, "weight", "block")


def _events(draw: random.Random, steps: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"event": "start"},
        {"event": "note", "text": "12 rows were dropped: " + HOSTILE[0]},
    ]
    events.append(
        {"event": "note", "text": "The task is 'classify': the column 'intent' holds 150 names. " + HOSTILE[5]}
    )
    for step in range(1, steps + 1):
        loss = 4.5 * math.exp(-step / 90) + 0.3 + draw.gauss(0, 0.08)
        rate = 5e-5 * min(step / 40, (steps - step) / (steps - 40 or 1))
        losses = {"supervised": loss - 0.05, "l2_sp": 0.05}
        logged = {"event": "step", "step": step, "epoch": step / 100, "loss": loss, "losses": losses}
        speeds = {"learning_rate": rate, "gradient_norm": 1 + draw.random(), "examples_per_second": 1300.0}
        events.append(logged | speeds)
        if step % 50 == 0:
            metrics = {
                "loss": loss + 0.1,
                "accuracy": 1 - loss / 6,
                "macro_f1": 0.97 - loss / 6,
                "perplexity": 3 + loss,
            }
            events.append({"event": "evaluation", "step": step, "split": "validation", "metrics": metrics})
            events.append({"event": "checkpoint", "step": step})
    return [*events, {"event": "end"}]
