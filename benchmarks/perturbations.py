"""Fifty changed sentences to read: `python benchmarks/perturbations.py`.

Messages of examples/messages.csv, each by one change of the suite `robustness`, the changes by turns, at the suite's
strengths by turns. A message in which a change finds no place is passed over. The same page comes out every time.

Options: --count, --out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from random import Random

from pairs import tables

from tunesmith.evaluate.robustness_changes import CHANGES, changed
from tunesmith.evaluate.robustness_english import negated

ROOT = Path(__file__).parents[1]
MESSAGES = ROOT / "examples" / "messages.csv"
PAGE = ROOT / "docs" / "benchmarks" / "perturbations.md"
STRENGTHS = (0.1, 0.3, 0.5)
NEGATED = 8
ABOUT = """\
Made by `python benchmarks/perturbations.py`. Messages of `examples/messages.csv`, each as it is and as a change of the
suite `robustness` made it, to see whether a reader still understands the same. Changes without a strength act wherever
they can."""
LAST = """\
Negation changes the meaning, and so is no such change: where the label depends on what is said, the score of the answer
should fall. One statement of a message is turned round."""


def texts() -> list[str]:
    """The messages, shuffled alike every time, so that changes meet every intent."""
    with MESSAGES.open(encoding="utf-8", newline="") as stream:
        found = [row["text"] for row in csv.DictReader(stream)]
    Random(0).shuffle(found)
    return found


def samples(waiting: Sequence[str], count: int) -> Iterator[list[str]]:
    """So many messages: the change, its strength, the message, the changed message; no message twice."""
    left, strengths = list(waiting), cycle(STRENGTHS)
    for name, _ in zip(cycle(CHANGES), range(count), strict=False):
        strength = 1.0 if CHANGES[name].whole else next(strengths)
        for place, text in enumerate(left):
            new = changed(name, text, strength, Random(f"{name} {text}"))
            if new != text:
                del left[place]
                yield [name, "" if CHANGES[name].whole else f"{strength:g}", text, new]
                break


def negations(waiting: Sequence[str], count: int) -> list[list[str]]:
    """The first messages that can be negated."""
    found = ((text, negated(text)) for text in waiting)
    return [[text, new] for text, new in found if new is not None][:count]


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    waiting = texts()
    lines = [
        ABOUT,
        "",
        *tables.table(["change", "what it does"], [[name, change.told] for name, change in CHANGES.items()]),
        "",
        *tables.table(["change", "strength", "message", "changed"], map(_cells, samples(waiting, given.count))),
        "",
        LAST,
        "",
        *tables.table(["message", "negated"], map(_cells, negations(waiting, NEGATED))),
    ]
    tables.write(given.out, "Changed sentences", lines)
    print(f"{given.out}: {given.count} changed sentences")


def _cells(texts: Sequence[str]) -> list[str]:
    # Blanks that stand side by side are one in Markdown.
    return [text.replace("|", "\\|").replace("<", "&lt;").replace("  ", " &nbsp;").replace("\n", " ") for text in texts]


if __name__ == "__main__":
    main()
