"""One temperature that makes confidences right: fitted, kept in the run's folder, and read by who predicts.

Scores z [rows, classes] become probabilities softmax(z / T). T > 1 makes a model less sure, T < 1 surer; which class
has the highest score stays. After Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.core.files import read_json, reading, write_json
from tunesmith.core.lazy import Lazy

special: Any = Lazy("scipy.special")
optimize: Any = Lazy("scipy.optimize")

FILE = "calibration.json"
LOWEST, HIGHEST = 0.01, 100.0
BLOCK = 4096
"""Rows whose probabilities are held at once, in double precision."""


def blocks(scores: np.ndarray, temperature: float = 1.0) -> Iterator[tuple[slice, np.ndarray]]:
    """Places, and there the scores [some rows, classes] divided by the temperature, in float64."""
    for start in range(0, len(scores), BLOCK):
        part = slice(start, start + BLOCK)
        yield part, scores[part].astype(np.float64) / temperature


def losses(scores: np.ndarray, truths: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The negative log-likelihood of every row: log sum_k exp(z_k / T) - z_y / T, [rows]."""
    found = np.empty(len(scores))
    for part, some in blocks(scores, temperature):
        found[part] = special.logsumexp(some, axis=1) - some[np.arange(len(some)), truths[part]]
    return found


def fit(scores: np.ndarray, truths: np.ndarray) -> float | None:
    """The temperature with the least mean negative log-likelihood, from scores [rows, classes] and classes [rows].

    The mean is convex in 1 / T, so it has one minimum; None where that lies outside of 0.01 to 100: where every row is
    right no confidence is too high, and where answers are no better than chance none is too low.
    """
    if not (scores.max(axis=1) > scores[np.arange(len(scores)), truths]).any():
        return None
    least = optimize.minimize_scalar(
        lambda log: losses(scores, truths, math.exp(log)).mean(),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    found = math.exp(least.x)
    return found if 1.01 * LOWEST < found < HIGHEST / 1.01 else None


def write(folder: Path, temperature: float, rows: int) -> None:
    """Keep the temperature in a run's folder, with the number of validation rows that it was fitted on."""
    write_json(folder / FILE, {"temperature": temperature, "fitted_on": "validation", "rows": rows})


def read(folder: Path) -> float:
    """The temperature that a run keeps, 1 where it keeps none; a file that holds none raises RunFolderError."""
    path = folder / FILE
    if not path.is_file():
        return 1.0
    with reading(path):
        found = float(read_json(path)["temperature"])
        if not 0 < found < math.inf:
            raise ValueError(f"the temperature is {found}")
    return found
