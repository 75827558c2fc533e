"""What do freezing and unfreezing save, and what do they cost? `python benchmarks/freezing.py`.

Full training of SST-2 with builtin:minilm beside the schedules `freeze` (by timetable, an early one and a late one, and
by gradients) and `unfreeze`, all with the same rows in the same batches. Shown: milliseconds of an update by the number
of blocks that train; seconds of training in all, examples a second, peak memory; accuracy on the test split, and its
difference to full training seed by seed. Every run is a process of its own, all in turn, a seed a turn. The page is
written as it grows.

Options: --rows, --test-rows, --epochs, --pairs (seeds), --results.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from pairs import machine, models, options, tables
from pairs.case import Case
from pairs.data import Source
from pairs.turns import Found, Kept, Results, take_turns

PAGE = "freezing.md"
TITLE = "Freezing and unfreezing"
QUICK = {"pairs": 1, "rows": 960, "test_rows": 400, "epochs": 2}
PLAIN = "full training"
WITHIN = 0.5
"""Points of accuracy that count as equal."""
SIDES: dict[str, list[dict[str, Any]]] = {
    PLAIN: [],
    "freeze, first 0.8": [{"name": "freeze", "first": 0.8}],
    "freeze, first 0.5": [{"name": "freeze", "first": 0.5}],
    "freeze by gradients": [{"name": "freeze", "rule": "gradients"}],
    "unfreeze, a quarter of an epoch each": [{"name": "unfreeze", "epochs": 0.25}],
}
"""The schedules of each side, chosen once, by no look at these data."""
STEPS = ("what trains", *SIDES)
HEAD = ("what", "seconds", "to full training", "examples/s", "peak MB", "accuracy", "less full training, seed by seed",
        "mean", f"less time within {WITHIN} points", "seeds")  # fmt: skip


def states(folder: str) -> dict[int, str]:
    """What trains, by the number of parameters that do: the head and so many blocks from the top, or all."""
    from transformers import AutoModelForSequenceClassification, logging

    from tunesmith.core.places import places

    logging.set_verbosity_error()
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    found = places(model)
    sizes = [0] * (found.blocks + 1)
    top = 0
    for name, parameter in model.named_parameters():
        place = found.of[name]
        if place > found.blocks:
            top += parameter.numel()
        else:
            sizes[place] += parameter.numel()
    opened = list(accumulate([top, *reversed(sizes)]))
    names = ["head", *(f"head and {count} block{'s' * (count > 1)}" for count in range(1, found.blocks + 1)), "all"]
    return dict(zip(opened, names, strict=True))


def steps(found: Results, known: Mapping[int, str]) -> list[list[str]]:
    """A row a state, the largest first: milliseconds of an update of every side, the median over seeds."""
    rows = []
    for trains, name in sorted(known.items(), reverse=True):
        key = f"ms {trains}"
        costs = [[run[key] for run in found[side] if key in run] for side in SIDES]
        if any(costs):
            rows.append([name, *(f"{statistics.median(cost):.0f}" if cost else "" for cost in costs)])
    return rows


def line(name: str, runs: Sequence[Found], plain: Sequence[Found]) -> list[str]:
    """A row of the second table."""
    pairs = list(zip(runs, plain, strict=False))
    apart = [one["accuracy"] - other["accuracy"] for one, other in pairs]
    ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
    own = name == PLAIN or not pairs
    kept = not own and statistics.median(ratios) < 1 and statistics.mean(apart) > -WITHIN
    return [
        name, tables.spread(runs, "seconds").told(".1f"),
        "" if own else tables.Spread.of(ratios).told(".2f", "x"), f"{tables.spread(runs, 'rate').median:.0f}",
        f"{tables.spread(runs, 'peak', 1e-6).median:,.0f}", f"{statistics.mean(run['accuracy'] for run in runs):.2f}",
        "" if own else ", ".join(f"{one:+.2f}" for one in apart), "" if own else f"{statistics.mean(apart):+.2f}",
        "" if own else "yes" if kept else "no", str(len(runs)),
    ]  # fmt: skip


def lines(found: Results, case: Case, known: Mapping[int, str], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"SST-2, {given.model}, {given.rows:,} training rows at most, {case.epochs} epochs, batches of {case.batch}, a "
        f"rate of {case.rate:g} that warms up and falls to zero; {given.test_rows:,} test rows at most. All sides have "
        "the same rows in the same batches, and every shortcut that a run has by itself. `freeze` by timetable stops "
        "the embeddings after the cube of `first` of the updates and every block above later; by gradients when these "
        "settle; `unfreeze` opens the blocks from the top, and the embeddings last.",
        "",
        "## An update, by what trains",
        "",
        "Milliseconds, median of a run's updates, median over seeds. While the lowest blocks don't train, what they "
        "gave for a text that comes again is read and not computed.",
        "",
        *tables.table(STEPS, steps(found, known)),
        "",
        "## The whole training",
        "",
        "Seconds are those of the updates, median with the lowest and the highest; ratios are taken seed by seed. "
        "Accuracy in percent, a mean over seeds.",
        "",
        *tables.table(HEAD, [line(name, runs, found[PLAIN]) for name, runs in found.items() if runs]),
    ]


def main() -> None:
    """Train every side, a seed a turn."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--rows", type=int, default=6920)
    made.add_argument("--test-rows", type=int, default=1821)
    made.add_argument("--epochs", type=int, default=3)
    made.set_defaults(pairs=3)
    given = options.parse(made, QUICK)
    kept = Kept(given.results)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(folder), None if given.made else given.data)
        model, ours = models.builtin(given.model, source.folder / "backbone")
        train, test = source.file("classify", given.rows, 32), source.file("test", given.test_rows)
        case = Case("classify", model, ours, train, test=test, epochs=given.epochs, steps=True)
        known = states(model)

        def side(name: str) -> Any:
            return kept.side(f"freezing {name}", "ours", lambda seed: replace(case, seed=seed, schedules=SIDES[name]))

        def tell(found: Results) -> None:
            tables.write(given.out, TITLE, lines(found, case, known, given))

        found = take_turns({name: side(name) for name in SIDES}, given.pairs, tell)
        print("\n" + "\n".join(lines(found, case, known, given)))


if __name__ == "__main__":
    main()
