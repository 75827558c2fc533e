"""Measuring a finished model on many rows keeps memory flat: `python benchmarks/many_rows.py`.

Trains a tiny model once, then measures it with every suite on files of 1,000 to 100,000 rows of random words, made on
the fly, each command a process of its own. Shown: seconds, and peak memory; own memory leaves out pages of
memory-mapped files, which the system may drop at any time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml
from linear import write
from pairs import machine, options, tables
from pairs.turns import Found
from pairs.watch import watched

SIZES = (1_000, 10_000, 100_000)
QUICK = {"sizes": [500, 1_000], "trained": 200}
SUITES = ("task", "ood", "robustness", "calibration", "retention", "drift", "cost")
HEAD = ("rows", "seconds", "peak MB", "own peak MB", "own MB above the first")


def train(folder: Path, given: argparse.Namespace) -> None:
    """The run that is measured."""
    write(folder / "train.jsonl", given.trained)
    values = {
        "model": given.model,
        "task": {"name": "classify", "text": "text", "label": "label", "max_length": 32},
        "data": {"train": str(folder / "train.jsonl"), "validation": None, "test": None},
        "train": {"epochs": 2, "learning_rate": 1e-3, "device": "cpu"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    run, recipe = str(folder / "run"), str(folder / "recipe.yaml")
    watched([sys.executable, "-m", "tunesmith", "train", recipe, "--out", run, "--json"], machine.environment())


def measure(folder: Path, rows: int, suites: Sequence[str]) -> Found:
    """One whole command."""
    write(folder / "rows.jsonl", rows)
    named = [word for suite in suites for word in ("--suite", suite)]
    command = [sys.executable, "-m", "tunesmith", "evaluate", str(folder / "run"), "--data", str(folder / "rows.jsonl")]
    seconds, watch = watched([*command, *named, "--json"], machine.environment())
    return {"rows": rows, "seconds": seconds, "peak": watch.peak, "own": watch.own}


def lines(found: Sequence[Found], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    rows = [
        [f"{one['rows']:,}", f"{one['seconds']:.1f}", f"{one['peak'] / 1e6:,.0f}", f"{one['own'] / 1e6:,.0f}",
         f"{(one['own'] - found[0]['own']) / 1e6:+,.0f}"]
        for one in found
    ]  # fmt: skip
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}, two classes, texts of 6 to 43 random words cut to 32 tokens; `tunesmith evaluate RUN --data "
        f"FILE` with the suites {', '.join(given.suites)}, from the command to its end. Some suites take at most as "
        "many rows as their settings say.",
        "",
        *tables.table(HEAD, rows),
    ]


def main() -> None:
    """Measure all sizes."""
    made = options.parser(__doc__, "many_rows.md")
    made.set_defaults(model="builtin:tiny-bert", made=True)
    made.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    made.add_argument("--suites", nargs="+", default=list(SUITES))
    made.add_argument("--trained", type=int, default=2_000, help="rows that the model is trained on")
    given = options.parse(made, QUICK)
    found: list[Found] = []
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder), given)
        for rows in sorted(given.sizes):
            found.append(measure(Path(folder), rows, given.suites))
            print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
            tables.write(given.out, "Measuring many rows keeps memory flat", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
