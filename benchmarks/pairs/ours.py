"""Our side of a case: `python benchmarks/pairs/ours.py CASE` trains and prints what it measured as JSON.

The recipe of a case is that of any user; `speed` is left out unless the case says it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from pairs.machine import held_memory, peak_memory

NEVER = 10**9
Told = dict[str, Any]
BLOCKS = {"join": True}
TASKS: dict[str, Told] = {
    "classify": {"name": "classify", "text": "text", "label": "label"},
    "fill": {"name": "fill", "whole_words": False, **BLOCKS},
    "instruct": {"name": "generate", "format": "prompt_completion", "template": "plain", "answered": 0},
    "text": {"name": "generate", "format": "text", "answered": 0, **BLOCKS},
}


def values(case: Told) -> Told:
    """The recipe of a case."""
    lora = {"name": "lora", "rank": case["rank"], "alpha": float(case["alpha"])}
    methods = {
        "full": {"name": "full"},
        "lora": lora,
        "lora_all": {**lora, "targets": "all-linear"},
        "head": {"name": "head_only"},
        "top": {"name": "top_blocks", "count": case["top"]},
    }
    return {
        "model": case["ours"],
        "task": {**TASKS[case["task"]], "max_length": case["length"]},
        "data": {
            "train": case["train"],
            "validation": None,
            "test": case["test"] or None,
            "leaks": "keep",
            "near_duplicates": False,
        },
        "method": methods[case["method"]],
        "schedules": [{"name": "warmup_linear", "warmup": case["warmup"]}, *case["schedules"]],
        "evaluate": [],
        "train": {
            "epochs": float(case["epochs"]),
            "batch_size": case["batch"],
            "learning_rate": case["rate"],
            "weight_decay": case["decay"],
            "clip": case["clip"],
            "seed": case["seed"],
            "device": case["device"],
            "checkpoint_every": NEVER,
            "log_every": 1 if case["steps"] else NEVER,
        },
        **({"speed": case["speed"]} if case["speed"] else {}),
    }


class Clock:
    """Follows a run: it is told of every line of the log, of which there is one at the end of each epoch, or of each
    update where `steps` is set.
    """

    def __init__(self, device: str, steps: bool = False) -> None:
        self.device, self.steps = device, steps
        self.held = self.peak = 0
        self.ends: list[tuple[float, int]] = []
        """Time and number of examples at the end of each epoch."""
        self.lines: list[tuple[float, int, int]] = []
        """Of each line its seconds and examples, and how many parameters train from there on."""

    def __call__(self, line: Told) -> None:
        """Note times and memory."""
        if line["event"] == "start":
            self.held = held_memory(self.device)
        if line["event"] == "step":
            if self.device == "cuda":
                import torch

                torch.cuda.synchronize()
            self.ends.append((time.perf_counter(), line["examples"]))
            self.lines.append((line["seconds"], line["examples"], line["trained"]))
            self.peak = peak_memory(self.device)

    def measured(self) -> dict[str, float]:
        """Examples a second of every epoch after the first, and memory: at the peak, and beyond the loaded model. By
        steps: seconds in all, examples a second of all, and `ms N`, the median of the milliseconds of an update in
        which N parameters train, without the first.
        """
        memory = {"peak": float(self.peak), "added": float(self.peak - self.held)}
        if self.steps:
            seconds = sum(line[0] for line in self.lines)
            found: dict[int, list[float]] = {}
            for (_, _, trains), (cost, _, _) in pairwise(self.lines):
                found.setdefault(trains, []).append(1000 * cost)
            each = {f"ms {trains}": statistics.median(costs) for trains, costs in found.items()}
            return {"seconds": seconds, "rate": sum(line[1] for line in self.lines) / seconds, **each, **memory}
        examples = sum(count for _, count in self.ends[1:])
        seconds = self.ends[-1][0] - self.ends[0][0]
        rate = {"rate": examples / seconds} if examples else {}
        return {**rate, **memory}


def accuracy(predictions: Path) -> float:
    """Percent of the rows that were answered right."""
    lines = [json.loads(line) for line in predictions.read_text(encoding="utf-8").split("\n") if line]
    return 100 * sum(line["label"] == line["prediction"] for line in lines) / len(lines)


def measure(case: Told) -> dict[str, float]:
    """Train, and answer the test rows where there are some."""
    from tunesmith import recipe, run

    clock = Clock(case["device"], case["steps"])
    with tempfile.TemporaryDirectory() as folder:
        done = run.start(recipe.from_values(values(case)), Path(folder) / "run", clock)
        found = clock.measured()
        if case["test"]:
            found["accuracy"] = accuracy(done.folder / "predictions" / "test.jsonl")
    return found


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
