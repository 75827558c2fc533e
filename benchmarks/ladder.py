"""What each lever gives: `python benchmarks/ladder.py`.

The levers of the recipe's section `speed` are switched on one after the other, each on top of those before, on the same
rows in the same batches; Trainer's defaults and best flags stand first. Every run is a process of its own, all in turn.
Examples a second are those of all epochs after the first. The page is written as it grows.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from pairs import machine, models, options, tables, work
from pairs.case import Case
from pairs.data import Source
from pairs.turns import Kept, Results, take_turns

from tunesmith.train.speed import SpeedSettings

QUICK = {"pairs": 3, "rows": 640}
LEVERS = {
    "unpadded": "blocks see real tokens alone, as one row",
    "fast_dropout": "masks of dropout from a fast generator",
    "touched_rows": "embeddings: only the rows that batches touch",
    "unread": "tokens that nothing reads left out of the last block",
    "fused": "blocks as one hand-written function",
    "keep_memory": "memory kept between steps",
    "ahead": "batches prepared ahead",
    "compile": "torch.compile where it pays",
}
"""In the order in which they are switched on."""
OTHERS = {"Trainer, defaults": "float32, random batches", "Trainer": "bfloat16, batches of like length, fused AdamW"}
HEAD = (
    "step",
    "what it adds",
    "examples/s",
    "to the step before",
    "to plain",
    "share of bfloat16 rate",
    "peak MB",
    "runs",
)


def rungs() -> dict[str, dict[str, object]]:
    """The section `speed` of every step: all off, then one lever more each time."""
    usual = SpeedSettings()
    found: dict[str, dict[str, object]] = {"plain": {"shortcuts": "plain"}}
    for lever in LEVERS:
        below = list(found.values())[-1]
        found[f"+ {lever}"] = {**below, lever: getattr(usual, lever)}
    return found


def lines(found: Results, case: Case, rates: list[float], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    rate = tables.Spread.of(value / 1e9 for value in rates)
    share = 100 * work.operations(case, work.lengths(case)) / statistics.median(rates)
    turns = min(map(len, found.values()))
    rows, before = [], None
    for name, runs in found.items():
        runs, lever = runs[:turns], name.removeprefix("+ ")
        if not turns:
            continue
        plain = found["plain"][:turns]
        rows.append([
            name, {**OTHERS, **LEVERS}.get(lever, "batches of like length, padded; bfloat16"),
            tables.spread(runs, "rate").told(".1f"),
            "" if before is None or name in (*OTHERS, "plain") else tables.ratio(runs, before, "rate").told(".2f", "x"),
            tables.ratio(runs, plain, "rate").told(".2f", "x"), f"{tables.spread(runs, 'rate', share).median:.0f} %",
            f"{tables.spread(runs, 'peak', 1e-6).median:,.0f}", str(turns),
        ])  # fmt: skip
        before = runs
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}. Product of two large bfloat16 matrices, measured in "
        f"the same run: {rate.told()} GFLOP/s.",
        f"SST-2, {given.model}, {given.rows:,} rows at most, batch {case.batch}, {given.method} training, 2 epochs, of "
        "which the second is measured. Every step keeps the levers of the steps above it; all steps have the same rows "
        "in the same batches, Trainer its own. Medians, with the lowest and the highest in brackets; ratios are taken "
        "turn by turn.",
        "",
        *tables.table(HEAD, rows),
    ]


def main() -> None:
    """Climb."""
    made = options.parser(__doc__, "ladder.md")
    made.add_argument("--rows", type=int, default=1600)
    made.add_argument("--method", default="full", choices=["full", "lora", "lora_all"])
    given = options.parse(made, QUICK)
    rates, kept = [machine.matrix_rate("cpu")], Kept(given.results)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(folder), None if given.made else given.data)
        model, ours = models.builtin(given.model, source.folder / "backbone")
        case = Case("classify", model, ours, source.file("classify", given.rows, 32), method=given.method)
        sides = {name: kept.side(f"ladder {given.method}", name, lambda _: case) for name in OTHERS}
        for name, speed in rungs().items():
            told = replace(case, speed=speed)
            sides[name] = kept.side(f"ladder {given.method} {name}", "ours", lambda _, told=told: told)  # type: ignore[misc]

        def tell(found: Results) -> None:
            rates.append(machine.matrix_rate("cpu", 0.2))
            tables.write(given.out, "The ladder: what each lever gives", lines(found, case, rates, given))

        found = take_turns(sides, given.pairs, tell)
        print("\n" + "\n".join(lines(found, case, rates, given)))


if __name__ == "__main__":
    main()
