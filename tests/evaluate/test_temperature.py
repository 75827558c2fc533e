"""One temperature: fitted, kept, read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from tunesmith.core.errors import RunFolderError
from tunesmith.evaluate import temperature


def drawn(rows: int, heat: float, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and true classes that are drawn with the probabilities softmax(scores / heat)."""
    draw = np.random.default_rng(0)
    scores = draw.normal(size=(rows, classes)).astype(np.float32) * 4
    shares = softmax(scores.astype(float) / heat, axis=1)
    return scores, (shares.cumsum(axis=1) < draw.random((rows, 1))).sum(axis=1).clip(max=classes - 1)


def test_losses_are_those_of_scikit_learn() -> None:
    scores, truths = drawn(5000, 2.0)  # more than one block
    assert len(truths) > temperature.BLOCK
    for heat in (1.0, 3.0):
        expected = log_loss(truths, softmax(scores.astype(float) / heat, axis=1))
        assert temperature.losses(scores, truths, heat).mean() == pytest.approx(expected, rel=1e-9)


def test_the_temperature_with_which_rows_were_drawn_is_found() -> None:
    assert temperature.fit(*drawn(20_000, 2.5)) == pytest.approx(2.5, rel=0.03)
    assert temperature.fit(*drawn(20_000, 0.7)) == pytest.approx(0.7, rel=0.03)


def test_it_is_the_minimum_and_grows_with_the_scores() -> None:
    scores, truths = drawn(1000, 2.0)
    found = temperature.fit(scores, truths)
    assert found is not None
    least = temperature.losses(scores, truths, found).mean()
    assert all(temperature.losses(scores, truths, found * other).mean() > least for other in (0.99, 1.01))
    assert temperature.fit(scores * 3, truths) == pytest.approx(found * 3, rel=1e-4)


def test_rows_that_fix_none_give_none() -> None:
    scores = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.5]], dtype=np.float32)
    assert temperature.fit(scores, scores.argmax(axis=1)) is None
    assert temperature.fit(scores, scores.argmin(axis=1)) is None


def test_a_run_keeps_it(tmp_path: Path) -> None:
    assert temperature.read(tmp_path) == 1.0
    temperature.write(tmp_path, 1.75, 12)
    assert temperature.read(tmp_path) == 1.75
    assert json.loads((tmp_path / temperature.FILE).read_text())["rows"] == 12


@pytest.mark.parametrize("text", ['{"temperature": 0}', '{"temperature": "hot"}', '{"T": 2}', "[]", "{"])
def test_a_damaged_file_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / temperature.FILE).write_text(text)
    with pytest.raises(RunFolderError, match=r"calibration\.json is damaged"):
        temperature.read(tmp_path)
