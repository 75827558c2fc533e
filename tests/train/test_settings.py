"""The recipe's section `train`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.train.settings import TrainSettings


def test_micro_batches_must_fill_a_batch() -> None:
    assert TrainSettings(batch_size=12, micro_batch_size=4).micro_batch_size == 4
    with pytest.raises(ValidationError, match="micro_batch_size 5 does not divide batch_size 12"):
        TrainSettings(batch_size=12, micro_batch_size=5)
    with pytest.raises(ValidationError, match="micro_batch_size 64 does not divide batch_size 32"):
        TrainSettings(micro_batch_size=64)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": float("nan")},
        {"steps": 0},
        {"batch_size": 0},
        {"batch_size": True},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"weight_decay": -0.1},
        {"clip": 0.0},
        {"seed": -1},
        {"evaluate_every": 0},
        {"log_every": 0},
        {"precision": "int8"},
        {"device": "cuda:1"},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(values))):
        TrainSettings(**values)


def test_whole_epochs_may_be_written_without_a_point() -> None:
    assert TrainSettings(epochs=3).epochs == 3.0
