"""Cost grows linearly: `python benchmarks/linear.py`.

Makes files of 1,000 to 1,000,000 rows of random words on the fly and trains one epoch of a tiny model on each, from the
command to its end, each run a process of its own. Shown: time per row and peak memory, as a table and a figure. Own
memory leaves out pages of memory-mapped files, which the system may drop at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from pairs import data, machine, options, tables
from pairs.turns import Found
from pairs.watch import watched

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK = {"sizes": [1_000, 3_000, 10_000]}
HEAD = ("rows", "seconds, whole", "of these training", "µs a row, training", "µs a further row, whole", "peak MB",
        "own peak MB")  # fmt: skip
WIDTH, HEIGHT, LEFT, TOP, GAP = 340, 220, 60, 40, 90
COLOURS = ("#1f6feb", "#d1570b")


def write(path: Path, rows: int) -> None:
    """A JSON Lines file, row by row."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in data.made("classify", rows))


def measure(rows: int, given: argparse.Namespace) -> Found:
    """One whole command."""
    with tempfile.TemporaryDirectory() as folder:
        train, recipe, out = Path(folder) / "rows.jsonl", Path(folder) / "recipe.yaml", Path(folder) / "run"
        write(train, rows)
        values = {
            "model": given.model,
            "task": {"name": "classify", "text": "text", "label": "label", "max_length": 32},
            "data": {"train": str(train), "validation": None, "test": None},
            "evaluate": [],
            "train": {"epochs": 1.0, "batch_size": given.batch, "learning_rate": 1e-3, "device": "cpu"},
        }
        recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
        command = [sys.executable, "-m", "tunesmith", "train", str(recipe), "--out", str(out), "--json"]
        whole, watch = watched(command, {**machine.environment(), "TUNESMITH_CACHE": f"{folder}/cache"})
        cost = json.loads((out / "evaluation.json").read_text())["cost"]
    return {"rows": rows, "whole": whole, "training": cost["seconds"], "peak": watch.peak, "own": watch.own}


def rows_of(found: Sequence[Found]) -> list[list[str]]:
    """The rows of the table."""
    rows = []
    for place, one in enumerate(found):
        before = found[place - 1] if place else None
        further = "" if before is None else f"{_further(before, one):,.0f}"
        rows.append([
            f"{one['rows']:,}", f"{one['whole']:.1f}", f"{one['training']:.1f}",
            f"{1e6 * one['training'] / one['rows']:,.0f}", further, f"{one['peak'] / 1e6:,.0f}",
            f"{one['own'] / 1e6:,.0f}",
        ])  # fmt: skip
    return rows


def _further(before: Found, one: Found) -> float:
    """Microseconds that each row more costs the whole command: what does not grow with the rows falls out."""
    return 1e6 * (one["whole"] - before["whole"]) / (one["rows"] - before["rows"])


def figure(found: Sequence[Found]) -> str:
    """Two panels, over the number of rows on a logarithmic axis: time per row, and peak memory."""
    times = {
        "training": [(one["rows"], 1e6 * one["training"] / one["rows"]) for one in found],
        "a further row, whole command": [(b["rows"], _further(a, b)) for a, b in pairwise(found)],
    }
    memory = {
        "peak": [(one["rows"], one["peak"] / 1e6) for one in found],
        "own peak": [(one["rows"], one["own"] / 1e6) for one in found],
    }
    across = 2 * (LEFT + WIDTH) + GAP // 2
    panels = [*panel("Microseconds a row", times, LEFT), *panel("Memory, MB", memory, 2 * LEFT + WIDTH + GAP // 4)]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {TOP + HEIGHT + 60}" font-family="sans-serif" '
        'font-size="12" fill="#444">'
    )
    white = f'<rect width="{across}" height="{TOP + HEIGHT + 60}" fill="white"/>'
    return "\n".join([head, white, *panels, "</svg>"]) + "\n"


def panel(title: str, series: dict[str, list[tuple[float, float]]], left: int) -> list[str]:
    """One panel with its axes, from zero up to the highest value."""
    points = [point for line in series.values() for point in line]
    low, high = (math.log10(end(rows for rows, _ in points)) for end in (min, max))
    top = max(value for _, value in points) * 1.15 or 1.0

    def x(rows: float) -> float:
        return left + WIDTH * (math.log10(rows) - low) / ((high - low) or 1.0)

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - max(value, 0.0) / top)

    base = TOP + HEIGHT
    drawn = [
        f'<text x="{left}" y="{TOP - 16}" font-weight="bold">{title}</text>',
        f'<path d="M{left} {TOP} V{base} H{left + WIDTH}" fill="none" stroke="#888"/>',
        f'<text x="{left + WIDTH / 2:.0f}" y="{base + 38}" text-anchor="middle">rows</text>',
    ]
    for part in range(5):
        value = top * part / 4
        drawn.append(f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.0f}</text>')
        drawn.append(f'<path d="M{left} {y(value):.1f} H{left + WIDTH}" stroke="#eee"/>')
    for rows in sorted({rows for rows, _ in points if math.log10(rows) % 1 < 1e-9}):
        drawn.append(f'<text x="{x(rows):.1f}" y="{base + 18}" text-anchor="middle">{rows:,.0f}</text>')
    for place, ((name, line), colour) in enumerate(zip(series.items(), COLOURS, strict=False)):
        way = " ".join(f"{x(rows):.1f},{y(value):.1f}" for rows, value in line)
        drawn.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x(rows):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for rows, value in line]
        height = TOP + HEIGHT - 30 + 16 * place
        drawn.append(f'<text x="{left + 12}" y="{height}" fill="{colour}">{name}</text>')
    return drawn


def lines(found: Sequence[Found], given: argparse.Namespace, picture: str) -> list[str]:
    """The page below its title."""
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}, one epoch, batch {given.batch}, texts of 6 to 43 random words cut to 32 tokens, made on the "
        "fly; from the command to its end, one run a size. *A further row*: what each row more costs the whole command "
        "against the size above it; what does not grow with the rows, such as the start, falls out. Peak memory counts "
        "pages of memory-mapped files, own memory does not.",
        "",
        *([f"![Time per row and peak memory over the number of rows]({picture})", ""] if picture else []),
        *tables.table(HEAD, rows_of(found)),
    ]


def main() -> None:
    """Run all sizes."""
    made = options.parser(__doc__, "linear.md")
    made.set_defaults(model="builtin:tiny-bert", made=True)
    made.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    made.add_argument("--batch", type=int, default=128)
    given = options.parse(made, QUICK)
    found: list[Found] = []
    for rows in sorted(given.sizes):
        found.append(measure(rows, given))
        print({name: round(value, 2) for name, value in found[-1].items()}, flush=True)
        if given.out is not None and len(found) > 1:
            tables.write(given.out, "Cost grows linearly", lines(found, given, f"{given.out.stem}.svg"))
            given.out.with_suffix(".svg").write_text(figure(found), encoding="utf-8")
    print("\n" + "\n".join(lines(found, given, "")))


if __name__ == "__main__":
    main()
