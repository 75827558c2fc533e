"""What the training cost, and what the model costs in use."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from tunesmith.core import part, surgery
from tunesmith.core.finished import Finished
from tunesmith.core.mapped import Mapped
from tunesmith.core.panel import Cell, Figure, Result, Table
from tunesmith.core.rows import take
from tunesmith.train.log import lines

METRICS, MODEL = "metrics.jsonl", "model"
BATCHES = (1, 32)
WARM = 3
"""Answers before the first that is timed."""
PATIENCE = 10.0
"""Seconds after which no further answer of a kind is timed."""
SAMPLE = 200
"""Training rows whose tokens are counted."""


class Cost(part.Suite):
    """What the training cost, and what the model costs in use: parameters, memory, time, size on disk, latency.

    Formula: examples a second = examples / seconds of updates; tokens a second = that times the mean number of tokens
    of 200 training rows; latency = the median and the 90th percentile of the seconds from rows to answers.
    Symbols: seconds of updates are without evaluations, checkpoints and pauses; the rows of a timed answer are held-out
    ones. Shapes: figures and a table.
    Paper: Mattson et al., "MLPerf Inference Benchmark", 2020, for a latency told by a percentile. Ours is rough: few
    answers, on a machine that may do other things, and with the encoding of texts inside.
    """

    asks: ClassVar[str] = "What did the training cost, and what does the model cost in use?"
    defines: ClassVar[Mapping[str, str]] = {
        "trained_parameters": "Numbers that the training could change.",
        "parameters": "Numbers that the saved model consists of.",
        "peak_memory_bytes": "The most memory that the training took, in bytes: of the process; on a GPU of tensors.",
        "examples_per_second": "Training examples a second of updates, without evaluations and checkpoints.",
        "tokens_per_second": f"Examples a second times the mean number of tokens of {SAMPLE} training rows.",
        "bytes_on_disk": "Size of the folder of the saved model, in bytes.",
        "seconds_of_*": "Seconds that went into this part of the run.",
        "latency_ms_of_*_90th": "Milliseconds within which 90 % of the answers to so many rows at once were there.",
        "latency_ms_of_*": "Milliseconds from so many rows at once to their answers: the median.",
    }

    answers: int = Field(20, ge=0)
    """How many answers are timed for each size of batch, at most ten seconds long; 0 leaves latency out."""

    def measure(self, finished: Finished) -> Result:
        """What the run's record tells, what stands on the disk, and what a clock says of a few answers."""
        record = _record(finished.folder)
        values: dict[str, float] = {**_trained(finished, record), **_speed(finished, record), **_disk(finished.folder)}
        phases = _phases(record)
        timed, why = self._latency(finished)
        rows: list[list[Cell]] = [[name.replace("_", " "), value] for name, value in values.items()]
        rows += [[f"seconds of {name}", value] for name, value in phases.items()]
        rows += [[name.replace("_", " "), value] for name, value in timed.items()]
        figures = [Figure(name, value, "run") for name, value in {**values, **_named(phases), **timed}.items()]
        return Result(figures, [Table("What it costs", ["what", "how much"], rows, _note(record, values, why))])

    def _latency(self, finished: Finished) -> tuple[dict[str, float], str]:
        """Milliseconds of an answer for each size of batch, and how they came about."""
        split = finished.held_out()
        rows = finished.train() if split is None else finished.splits[split]
        if not self.answers or rows is None:
            return {}, "Latency was not measured."
        found: dict[str, float] = {}
        some = take(rows, slice(0, max(BATCHES)))
        for batch in BATCHES:
            # Where there are fewer rows than a batch has, they come again.
            chosen = Mapped.from_list(list(islice(cycle(some), batch)))
            times = timed(lambda chosen=chosen: finished.now.predict(chosen), self.answers)  # type: ignore[misc]
            middle, high = 1000 * np.quantile(times, [0.5, 0.9])
            found |= {f"latency_ms_of_{batch}": float(middle), f"latency_ms_of_{batch}_90th": float(high)}
        return found, (
            f"Latency is rough: milliseconds for 1 and for {max(BATCHES)} rows at once, median and 90th percentile of "
            f"at most {self.answers} answers after {WARM} that are not counted, with the encoding of the rows."
        )


def timed(act: Callable[[], object], times: int) -> np.ndarray:
    """Seconds of each of `times` calls after a few that are not counted [times]; fewer where they take too long."""
    for _ in range(WARM):
        act()
    found: list[float] = []
    while len(found) < times and sum(found) < PATIENCE:
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return np.array(found)


def _record(folder: Path | None) -> Sequence[Mapping[str, Any]]:
    path = None if folder is None else folder / METRICS
    return lines(path) if path is not None and path.is_file() else []


def _trained(finished: Finished, record: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = {"parameters": float(surgery.count(finished.now.model)[1])}
    known = next((line["trained_parameters"] for line in record if "trained_parameters" in line), None)
    return found if known is None else {"trained_parameters": float(known), **found}


def _speed(finished: Finished, record: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    peaks = [line["peak_bytes"] for line in record if line["event"] == "memory"]
    if peaks:
        found["peak_memory_bytes"] = float(max(peaks))
    steps = [line for line in record if line["event"] == "step"]
    seconds = sum(line["seconds"] for line in steps)
    if seconds:
        found["examples_per_second"] = sum(line["examples"] for line in steps) / seconds
        mean = _tokens(finished)
        if mean is not None:
            found["tokens_per_second"] = mean * found["examples_per_second"]
    return found


def _tokens(finished: Finished) -> float | None:
    """The mean number of tokens of a training row; None where rows are not at hand, no texts, or laid out anew."""
    task, rows = finished.task, finished.train()
    if rows is None or not len(rows) or task.reads != "text" or type(task).arrange is not part.Task.arrange:
        return None
    places = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int).tolist()
    examples = task.encode(take(rows, places), finished.now.tokenizer, finished.now.limit)
    return float(np.mean([task.size(example) for example in examples]))


def _disk(folder: Path | None) -> dict[str, float]:
    model = None if folder is None else folder / MODEL
    if model is None or not model.is_dir():
        return {}
    return {"bytes_on_disk": float(sum(path.stat().st_size for path in model.rglob("*") if path.is_file()))}


def _phases(record: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by what they went into."""
    steps = [line["seconds"] for line in record if line["event"] == "step"]
    aside: dict[str, float] = next((line.get("aside", {}) for line in reversed(record) if line["event"] == "end"), {})
    return {**({"updates": sum(steps)} if steps else {}), **aside}


def _named(phases: Mapping[str, float]) -> dict[str, float]:
    return {f"seconds_of_{name}": value for name, value in phases.items()}


def _note(record: Sequence[Mapping[str, Any]], known: Mapping[str, float], why: str) -> str:
    told = [] if record else ["The run's record is not at hand: what training cost is not known."]
    if any(line["event"] == "resume" for line in record):
        told.append("Seconds of evaluations, checkpoints and parts are those since the run was resumed.")
    if record and "tokens_per_second" not in known:
        told.append("Tokens a second are not known: rows are no texts, or not encoded one by one.")
    return " ".join([*told, why])
