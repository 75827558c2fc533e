"""Kills a sequence of stages where it is told to: `python tests/kill_stages.py RECIPE FOLDER`.

A process that has imported everything forks a child for each attempt, which starts or resumes the stages. One is left
alone, in FOLDER/whole. Those in FOLDER/killed end at one of MOMENTS each, by SIGKILL, which nothing can catch; the last
attempt goes on to the end.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sklearn.metrics  # noqa: F401 - imported before the forks, so that an attempt starts at once
import transformers.models.bert.modeling_bert  # noqa: F401

from tunesmith import continual, run, stages
from tunesmith.evaluate import stats

IN_TRAINING = 5
"""The update at which a training is killed."""


def die(*given: Any) -> None:
    """What no handler sees."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watch:
    """Kills the process in the middle of the first training that it sees begin; what only goes on is left alone."""

    def __init__(self) -> None:
        self.begun = False

    def __call__(self, line: dict[str, Any]) -> None:
        """One line of a run's record."""
        self.begun = self.begun or line["event"] == "start"
        if self.begun and line["event"] == "step" and line["step"] == IN_TRAINING:
            die()


def in_training(folder: Path) -> None:
    """Go on until a training has begun, and die in its middle."""
    go_on(folder, Watch())


def before_measuring_again(folder: Path) -> None:
    """Go on until an earlier task is to be answered again."""
    continual._again = die
    go_on(folder)


def before_suites(folder: Path) -> None:
    """Go on until a model was saved and is to be measured."""
    run.evaluate = die
    go_on(folder)


def go_on(folder: Path, watch: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Start the stages, or go on with them."""
    if (folder / stages.STAGES).exists():
        stages.resume(folder, watch)
    else:
        stages.start(stages.read(sys.argv[1]), folder, watch)


MOMENTS = (in_training, in_training, before_measuring_again, in_training, before_suites, in_training)
"""In stage 1, in stage 2 and behind it, in stage 3 and behind it, in stage 2 alone."""


def killed(act: Callable[[Path], None], folder: Path) -> bool:
    """Act in a child, and tell whether it was killed."""
    child = os.fork()
    if not child:
        status = 1
        try:
            act(folder)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        sys.exit(f"an attempt ended with status {os.WEXITSTATUS(status)}")
    return os.WIFSIGNALED(status)


def main() -> None:
    """One sequence is left alone; the other is killed at every moment."""
    folder = Path(sys.argv[2])
    stats.RESAMPLES = 4
    assert not killed(go_on, folder / "whole")
    for number, act in enumerate(MOMENTS):
        assert killed(act, folder / "killed"), f"moment {number} never came"
        print(",".join(sorted(path.parent.name for path in (folder / "killed").glob("*/recipe.yaml"))))
    assert not killed(go_on, folder / "killed")


if __name__ == "__main__":
    main()
