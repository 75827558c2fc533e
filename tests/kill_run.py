"""Kills real runs again and again: `python tests/kill_run.py RECIPE FOLDER KILLS`.

A process that has imported everything forks a child for each attempt, which starts or resumes a run through the command
line. The first run, FOLDER/0, is left alone and tells how long one takes. The next ones are killed (SIGKILL) at random
moments of that time; a run that ends before the kills are used up is followed by another. Prints the number of runs.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import peft  # noqa: F401 - imported before the forks, so that an attempt starts at once
import sklearn.metrics  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401

from tunesmith import cli, recipe, run  # noqa: F401


def attempt(source: str, out: Path) -> int:
    """Start the run, or go on with it, in a child of its own; returns the child."""
    child = os.fork()
    if child:
        return child
    going = (out / "recipe.yaml").exists()
    status = 1
    try:
        sys.stdout = (out.parent / "output.txt").open("a", encoding="utf-8")
        status = cli.main(["resume", str(out)] if going else ["train", source, "--out", str(out)])
    finally:
        os._exit(status)


def ended(child: int) -> bool:
    """Wait for a child; True when it ended by itself, and rightly; False when it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status):
        sys.exit(f"an attempt ended with status {os.WEXITSTATUS(status)}")
    return True


def main() -> None:
    """Kill, and resume, until the kills are used up."""
    source, folder, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(0)
    began = time.perf_counter()
    ended(attempt(source, folder / "0"))
    life = time.perf_counter() - began
    number = 1
    while kills:
        child = attempt(source, folder / str(number))
        time.sleep(draw.uniform(0, 0.7 * life))
        os.kill(child, signal.SIGKILL)
        if ended(child):
            number += 1
        else:
            kills -= 1
    ended(attempt(source, folder / str(number)))
    print(number)


if __name__ == "__main__":
    main()
