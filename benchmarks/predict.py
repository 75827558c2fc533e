"""Speed of prediction beside transformers' text-classification pipeline: `python benchmarks/predict.py`.

Trains a classifier for a few steps and answers a file of texts with it: `tunesmith predict`, and the pipeline with the
batch size and the type of weights that are its best on a short part of the file. Every run is a process of its own,
from its start to the last line written, the sides in turn. Counted besides: on how many rows both say the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from itertools import cycle, islice
from pathlib import Path

from pairs import machine, options, tables
from pairs.data import Source
from pairs.turns import Found, Results, child, take_turns

BATCHES, TYPES = (1, 8, 16, 32, 64), ("float32", "bfloat16")
TRAINING_ROWS, STEPS = 640, 20
GOAL = 2.0
QUICK = {"rows": 1_000, "short": 64, "pairs": 1}
HEAD = ("rows", "rows/s, ours", "pipeline", "ratio", "goal", "same answer", "pairs")
Flags = tuple[int, str]


class Sides:
    """A run, a file of texts, and both ways to answer them. Each process reads and encodes anew: no cache is kept."""

    def __init__(self, folder: Path, texts: Path, model: Path) -> None:
        self.folder, self.texts, self.model = folder, texts, model
        self.best: Flags = (1, TYPES[0])

    def ours(self, turn: int) -> Found:
        """`tunesmith predict` as a user calls it."""
        out = self.folder / f"ours-{turn}.jsonl"
        return {"whole": self._child("-m", "tunesmith", "predict", self.model.parent, self.texts, "--out", out)[1]}

    def pipeline(self, turn: int) -> Found:
        """The pipeline with its best flags."""
        out = self.folder / f"pipeline-{turn}.jsonl"
        return {"whole": self._pipeline(out, self.best)[1]}

    def seconds(self, flags: Flags, rows: int) -> float:
        """What the pipeline takes for the first rows, without imports and loading."""
        return float(self._pipeline(self.folder / "short.jsonl", flags, rows)[0].splitlines()[-1])

    def _pipeline(self, out: Path, flags: Flags, *rows: int) -> tuple[str, float]:
        program = Path(__file__).parent / "peers" / "predict_pipeline.py"
        return self._child(program, self.texts, self.model, out, *flags, *rows)

    def _child(self, *words: object) -> tuple[str, float]:
        with tempfile.TemporaryDirectory() as cache:
            return child([sys.executable, *map(str, words)], cache)

    def same(self, turn: int) -> float:
        """The share of rows with the same answer, in percent."""
        both = [self.folder / f"{side}-{turn}.jsonl" for side in ("ours", "pipeline")]
        mine, theirs = ([json.loads(line)["prediction"] for line in path.open(encoding="utf-8")] for path in both)
        return 100 * sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(mine)


def tried(sides: Sides, rows: int) -> dict[Flags, float]:
    """Rows a second of the pipeline by its flags, on the first rows."""
    found: dict[Flags, float] = {}
    for flags in ((batch, kind) for kind in TYPES for batch in BATCHES):
        found[flags] = rows / sides.seconds(flags, rows)
        print(*flags, f"{found[flags]:.1f} rows/s", flush=True)
    return found


def train(source: Source, model: str, folder: Path) -> Path:
    """A run of a few steps: its folder."""
    run = folder / "run"
    settings = [f"model={model}", f"train.steps={STEPS}", "task=classify"]
    recipe = [word for setting in settings for word in ("--set", setting)]
    rows = source.file("classify", TRAINING_ROWS)
    child([sys.executable, "-m", "tunesmith", "train", rows, *recipe, "--out", str(run)], str(folder / "cache"))
    return run


def texts(source: Source, count: int, folder: Path) -> Path:
    """So many texts, from the beginning again where there are fewer."""
    path = folder / "texts.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for row in islice(cycle(source.rows("classify", count)), count):
            stream.write(json.dumps({"text": row["text"]}) + "\n")
    return path


def lines(given: argparse.Namespace, found: Results, flags: Mapping[Flags, float], sides: Sides) -> list[str]:
    """The page below its title."""
    count = min(map(len, found.values()))
    mine, theirs = (found[side][:count] for side in ("ours", "pipeline"))
    speeds = [tables.Spread.of(given.rows / run["whole"] for run in side) for side in (mine, theirs)]
    same = tables.Spread.of(map(sides.same, range(count)))
    row = [
        f"{given.rows:,}", *(speed.told(".1f") for speed in speeds),
        tables.ratio(theirs, mine, "whole").told(".2f", "x"), f"at least {GOAL}x",
        same.told(".2f", " %"), str(count),
    ]  # fmt: skip
    tries = [[kind, *(f"{flags[batch, kind]:.1f}" for batch in BATCHES)] for kind in TYPES]
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}, {'texts of random words' if given.made else 'texts of SST-2'}. Every run is a process of its "
        "own, from its start to the last line written, the sides in turn; medians, with the lowest and the highest in "
        "brackets; ratios are taken pair by pair.",
        "",
        *tables.table(HEAD, [row]),
        "",
        f"The pipeline ran with batches of {sides.best[0]} and {sides.best[1]}, its best on the first {given.short:,} "
        "rows. Its rows a second there, without imports and loading, by type of weights and batch size:",
        "",
        *tables.table(("type", *map(str, BATCHES)), tries),
    ]


def main() -> None:
    """Try the pipeline's flags, then take turns."""
    made = options.parser(__doc__, "predict.md")
    made.add_argument("--rows", type=int, default=20_000, help="texts to answer")
    made.add_argument("--short", type=int, default=1_000, help="texts on which the pipeline's flags are tried")
    given = options.parse(made, QUICK)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = Source(folder, None if given.made else given.data)
        sides = Sides(folder, texts(source, given.rows, folder), train(source, given.model, folder) / "model")
        flags = tried(sides, min(given.short, given.rows))
        sides.best = max(flags, key=flags.__getitem__)

        def tell(found: Results) -> None:
            if all(found.values()):
                tables.write(given.out, "Prediction", lines(given, found, flags, sides))

        found = take_turns({"ours": sides.ours, "pipeline": sides.pipeline}, given.pairs, tell)
        print("\n" + "\n".join(lines(given, found, flags, sides)))


if __name__ == "__main__":
    main()
