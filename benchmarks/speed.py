"""Speed of training beside transformers' Trainer (and peft): `python benchmarks/speed.py`.

Both sides get the same rows, epochs, batch size, optimizer, rate, schedule, decay and clipping, and the same weights
to start from. Every run is a process of its own, the sides in turn. Parts:

    full      SST-2 with builtin:minilm, against Trainer's best flags and its defaults
    shapes    the same with the shapes of DistilBERT and GPT-2, random weights
    lora      the same with LoRA of rank 8, against Trainer with peft
    fill      masked words of running text, blocks of 128 tokens
    instruct  answers to instructions, the loss on the answers, a vocabulary of 32,000 words
    frozen    head only and the top two blocks: the whole command, with the test rows answered
    quality   accuracy on the test rows over seeds, ours and Trainer's
    shortcuts the same with every shortcut and with none, also of a model that drops nothing out

Examples a second are those of all epochs after the first, which warms both sides up. The page is written as it grows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pairs import machine, options, tables, work
from pairs.data import Source
from pairs.turns import Found, Kept, Results, take_turns
from speed_cases import Cases, Comparison, Sizes

QUICK = {"pairs": 3, "rows": 640, "whole_rows": 960, "test_rows": 320, "seeds": 1}
LOOPS = ("full", "shapes", "lora", "fill", "instruct")
QUALITY = ("quality", "shortcuts")
HEADS = {
    "loops": ("what", "against", "examples/s, ours", "theirs", "ratio", "goal", "share of bfloat16 rate, ours",
              "theirs", "peak MB, ours", "theirs", "ratio", "goal", "added ratio", "pairs"),
    "frozen": ("what", "seconds, ours", "Trainer", "ratio", "goal", "accuracy, ours", "Trainer", "pairs"),
    "quality": ("what", "against", "accuracy, ours", "theirs", "difference", "lowest and highest", "seeds"),
}  # fmt: skip
Measured = dict[str, tuple[Comparison, Results]]


class Page:
    """The results so far, and how fast the machine multiplies, as a Markdown page."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.found: Measured = {}
        self.rates = [machine.matrix_rate("cpu")]
        self.work: dict[str, float] = {}

    def add(self, one: Comparison) -> None:
        """A comparison that is about to begin."""
        self.rates.append(machine.matrix_rate("cpu"))
        self.work[one.name] = work.operations(one.case, work.lengths(one.case))

    def told(self, one: Comparison, results: Results) -> None:
        """Write the page with what is known by now."""
        self.found[f"{one.part} {one.name}"] = (one, results)
        tables.write(self.given.out, "Speed beside transformers' Trainer", self.lines())

    def lines(self) -> list[str]:
        """The page below its title."""
        rate = tables.Spread.of(value / 1e9 for value in self.rates)
        texts = "texts of random words" if self.given.made else f"{self.given.rows:,} rows at most"
        lines = [
            f"Made by `{options.called()}` on {machine.facts('cpu')}. Product of two large bfloat16 matrices, measured "
            f"between the runs: {rate.told()} GFLOP/s.",
            f"{self.given.model} unless said; {texts}. Both sides start from the same weights and have the same rows, "
            "batches of the same size, AdamW, rate, schedule, decay and clipping; every run is a process of its own, "
            "the sides in turn; medians, with the lowest and the highest in brackets; ratios are taken pair by pair. "
            "*Trainer*: transformers' Trainer with bfloat16, batches of like length and the fused optimizer, and peft "
            "for LoRA; *defaults*: without these flags.",
            "",
        ]
        loops = [row for one, found in self.found.values() if one.part in LOOPS for row in self.loop(one, found)]
        if loops:
            lines += [
                "## Training",
                "",
                "Examples a second of every epoch after the first. Share: operations of the blocks' products on real "
                "tokens, forward and backward, a second, as a part of the matrix rate above; nothing that a side "
                "leaves out is taken off. Peak: of the process when the last update is done; added: the peak less what "
                "was held once the model was loaded (ours over theirs).",
                "",
                *tables.table(HEADS["loops"], loops),
                "",
            ]
        wholes = [self.whole(one, found) for one, found in self.found.values() if one.part == "frozen"]
        if any(wholes):
            lines += [
                "## Frozen parts, the whole command",
                "",
                f"From the start of the process to its end, {self.given.whole_rows:,} training rows, "
                f"{self.given.test_rows:,} test rows answered and written.",
                "",
                *tables.table(HEADS["frozen"], filter(None, wholes)),
                "",
            ]
        seeds = [self.quality(one, found) for one, found in self.found.values() if one.part in QUALITY]
        if any(seeds):
            lines += [
                "## Quality",
                "",
                f"Accuracy in percent on {self.given.test_rows:,} test rows after 2 epochs of "
                f"{self.given.whole_rows:,}: mean over seeds, and their deviation; the mean difference of a seed's two "
                "runs with its standard error, and the lowest and the highest. *plain*: ours with every shortcut off. "
                "Each side draws its own dropout.",
                "",
                *tables.table(HEADS["quality"], filter(None, seeds)),
                "",
            ]
        return lines[:-1]

    def loop(self, one: Comparison, found: Results) -> list[list[str]]:
        """A row for each of the others."""
        rows = []
        for other, goal in one.goals.items():
            mine, theirs = _both(found, one.ours, other)
            if not mine:
                continue
            share = 100 * self.work[one.name] / statistics.median(self.rates)
            rows.append([
                one.name, other, *(tables.spread(side, "rate").told(".1f") for side in (mine, theirs)),
                tables.ratio(mine, theirs, "rate").told(".2f", "x"), f"at least {goal}x",
                *(f"{tables.spread(side, 'rate', share).median:.0f} %" for side in (mine, theirs)),
                *(f"{tables.spread(side, 'peak', 1e-6).median:,.0f}" for side in (mine, theirs)),
                tables.ratio(mine, theirs, "peak").told(".2f", "x"),
                "" if one.memory is None else f"at most {one.memory}x",
                tables.ratio(mine, theirs, "added").told(".2f", "x"), str(len(mine)),
            ])  # fmt: skip
        return rows

    def whole(self, one: Comparison, found: Results) -> list[str]:
        """The row of a whole command; none before the first pair."""
        (other, goal), *_ = one.goals.items()
        mine, theirs = _both(found, one.ours, other)
        if not mine:
            return []
        seconds = [tables.spread(side, "whole").told(".1f") for side in (mine, theirs)]
        ratio = tables.ratio(theirs, mine, "whole").told(".2f", "x")
        return [one.name, *seconds, ratio, f"at least {goal}x", _mean(mine), _mean(theirs), str(len(mine))]

    def quality(self, one: Comparison, found: Results) -> list[str]:
        """The row of accuracies; none before the first pair."""
        (other,) = one.goals
        mine, theirs = _both(found, one.ours, other)
        if not mine:
            return []
        return [one.name, other, _mean(mine), _mean(theirs), *_difference(mine, theirs), str(len(mine))]


def _both(found: Results, ours: str, other: str) -> tuple[list[Found], list[Found]]:
    """The turns that both sides have finished."""
    count = min(len(found[ours]), len(found[other]))
    return found[ours][:count], found[other][:count]


def _mean(runs: Sequence[Found]) -> str:
    values = [run["accuracy"] for run in runs]
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def _difference(mine: Sequence[Found], theirs: Sequence[Found]) -> tuple[str, str]:
    """The mean of a seed's difference with its standard error, and the lowest and the highest."""
    each = [a["accuracy"] - b["accuracy"] for a, b in zip(mine, theirs, strict=True)]
    error = f" ± {statistics.stdev(each) / len(each) ** 0.5:.2f}" if len(each) > 1 else ""
    return f"{statistics.mean(each):+.2f}{error}", f"{min(each):+.2f} to {max(each):+.2f}"


def main() -> None:
    """Run the parts that are asked for."""
    parts = [*LOOPS, "frozen", *QUALITY]
    made = options.parser(__doc__, "speed.md")
    made.add_argument("--parts", nargs="+", default=parts, choices=parts)
    made.add_argument("--rows", type=int, default=1600, help="training rows where the loop is measured")
    made.add_argument("--whole-rows", type=int, default=6912, help="training rows of whole commands, and of quality")
    made.add_argument("--test-rows", type=int, default=1821)
    made.add_argument("--seeds", type=int, default=3, help="turns of the parts that compare quality")
    made.add_argument("--only", default="", help="the comparison of this name alone")
    given = options.parse(made, QUICK)
    page, kept = Page(given), Kept(given.results)
    names: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(folder), None if given.made else given.data)
        cases = Cases(source, given.model, Sizes(given.rows, given.whole_rows, given.test_rows))
        for part in given.parts:
            for one in cases.parts[part]():
                names.append(one.name)
                if given.only not in ("", one.name):
                    continue
                page.add(one)
                sides = {side: kept.side(f"{part}, {one.name}", side, one.of) for side in one.sides}
                turns = given.seeds if part in QUALITY else given.pairs
                take_turns(sides, turns, lambda results, one=one: page.told(one, results))  # type: ignore[misc]
    if not page.found:
        sys.exit(f"speed.py: no comparison of these parts is called {given.only!r}. There are: {'; '.join(names)}.")
    print("\n" + "\n".join(page.lines()))


if __name__ == "__main__":
    main()
