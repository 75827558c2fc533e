"""What a run says of itself."""

import json
from pathlib import Path

import pytest

from tunesmith import account


def write(folder: Path, *losses: float) -> None:
    steps = [{"event": "step", "step": number + 1, "loss": loss} for number, loss in enumerate(losses)]
    (folder / account.METRICS).write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((2.0, 1.95), "hardly changed, from 2 to 1.95: train longer (train.epochs), or raise train.learning_rate"),
        ((5.566, 5.569), "hardly changed, from 5.57 to 5.57: train longer"),
        ((2.0, 3.5), "rose, from 2 to 3.5: lower train.learning_rate"),
        ((2.0, 1.0), ""),
        ((2.0,), ""),
    ],
)
def test_a_loss_that_did_not_fall_is_said(
    losses: tuple[float, ...], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, *losses)
    account.judge(tmp_path)
    assert said in caplog.text and bool(said) == bool(caplog.text)
