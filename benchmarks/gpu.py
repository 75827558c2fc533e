"""Speed of training on a GPU beside transformers' Trainer with peft, and trl: `python benchmarks/gpu.py`.

MiniLM, an encoder of 110 million weights and a Llama of 1 billion, the last two with random weights, full and LoRA, in
bfloat16; the Llama on blocks of 2,048 tokens. Texts are random words, so that nothing but this repository is needed;
trl takes part where it is installed. Every run is a process of its own, the sides in turn. Without a GPU the page says
that nothing is measured; `--tiny` tries everything on the CPU with tiny models.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from pairs import machine, models, options, tables, work
from pairs.case import Case
from pairs.data import Source
from pairs.turns import Kept, Results, take_turns

TITLE = "Speed on a GPU"
UNMEASURED = (
    "GPU figures are not measured: no GPU was at hand. `python benchmarks/gpu.py` writes this page on a machine that "
    "has one, and needs no further package; `--tiny` tries the program on a CPU with tiny models."
)
ENCODER, LLAMA = models.LARGE
MINILM = "builtin:minilm"
BATCHES = {MINILM: 64, ENCODER: 64, LLAMA: 4}
HEAD = ("model", "method", "against", "tokens/s, ours", "theirs", "ratio", "share of bfloat16 rate, ours", "theirs",
        "peak GB, ours", "theirs", "ratio", "pairs")  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """A model and a method, the tokens and the operations of a mean example."""

    name: str
    method: str
    case: Case
    tokens: float
    work: float

    @property
    def others(self) -> list[str]:
        """Who is compared: trl for a causal model, where it is installed."""
        return ["Trainer", *(["trl"] if self.case.task == "text" and importlib.util.find_spec("trl") else [])]


def comparisons(folder: Path, given: argparse.Namespace) -> list[Comparison]:
    """Every model with every method."""
    source = Source(folder, None)
    device = "cpu" if given.tiny else "cuda"
    found = []
    for name in given.models:
        model, called = backbone(name, folder, source, given.tiny)
        batch, length = (8, 32) if given.tiny else (BATCHES[name], 2048 if name == LLAMA else 128)
        if name == LLAMA:
            # A word of the made texts is one token, or nearly so.
            task, train = "text", source.text(given.updates * batch * length)
        else:
            task, train = "classify", source.file("classify", given.updates * batch, batch)
        for method in ("full", "lora"):
            case = Case(task, model, called, train, method, batch=batch, length=length, device=device)
            tokens = work.lengths(case)
            found.append(Comparison(name, method, case, statistics.mean(tokens), work.operations(case, tokens)))
    return found


def backbone(name: str, folder: Path, source: Source, tiny: bool) -> tuple[str, str]:
    """The folder of a model, and what a recipe calls it."""
    where = folder / name.replace(" ", "-").replace(":", "-")
    if name == MINILM:
        return models.builtin("builtin:tiny-bert" if tiny else MINILM, where)
    texts = (row["text"] for row in source.rows("words", 2000))
    words = models.trained_reader(texts, 400 if tiny else models.VOCABULARY) if name == LLAMA else None
    small = models.builtin("builtin:tiny-bert" if tiny else MINILM, folder / "words")[0]
    return models.random(name, where, words or models.reader(small), tiny)


def row(one: Comparison, other: str, found: Results, rates: list[float]) -> list[str]:
    """The row of a comparison with one of the others; none before the first pair."""
    turns = min(len(found["ours"]), len(found[other]))
    mine, theirs = found["ours"][:turns], found[other][:turns]
    if not turns:
        return []
    share = 100 * one.work / statistics.median(rates)
    return [
        one.name, one.method, other,
        *(tables.spread(side, "rate", one.tokens).told() for side in (mine, theirs)),
        tables.ratio(mine, theirs, "rate").told(".2f", "x"),
        *(f"{tables.spread(side, 'rate', share).median:.0f} %" for side in (mine, theirs)),
        *(f"{tables.spread(side, 'peak', 1e-9).median:,.1f}" for side in (mine, theirs)),
        tables.ratio(mine, theirs, "peak").told(".2f", "x"), str(turns),
    ]  # fmt: skip


def lines(rows: list[list[str]], rates: list[float], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    device = "cpu" if given.tiny else "cuda"
    rate = tables.Spread.of(value / 1e12 for value in rates)
    trl = "" if importlib.util.find_spec("trl") else " trl is not installed and takes no part."
    return [
        f"Made by `{options.called()}` on {machine.facts(device)}. Product of two large bfloat16 matrices, measured "
        f"between the runs: {rate.told('.2f')} TFLOP/s.",
        "Texts of random words; the Llama on blocks of 2,048 tokens, the encoders on texts cut to 128. Two epochs, of "
        "which the second is measured; real tokens a second. Share: operations of the blocks' products on real tokens, "
        "forward and backward, as a part of that rate. Medians, with the lowest and the highest in brackets; ratios "
        f"are taken pair by pair.{trl}",
        *(["", "**Tried out on a CPU with tiny models: these are no figures of a GPU.**"] if given.tiny else []),
        "",
        *tables.table(HEAD, rows),
    ]


def compare(folder: Path, given: argparse.Namespace) -> list[str]:
    """Run everything; the page below its title."""
    device = "cpu" if given.tiny else "cuda"
    rates, kept = [machine.matrix_rate(device)], Kept(given.results)
    done: list[list[str]] = []
    for one in comparisons(folder, given):
        rates.append(machine.matrix_rate(device, 0.2))
        name = f"gpu {one.name} {one.method}"
        sides = {
            side: kept.side(name, side, lambda turn, one=one: replace(one.case, seed=turn))  # type: ignore[misc]
            for side in ("ours", *one.others)
        }

        def tell(found: Results, one: Comparison = one, before: tuple[list[str], ...] = tuple(done)) -> None:
            now = [row(one, other, found, rates) for other in one.others]
            tables.write(given.out, TITLE, lines([*before, *filter(None, now)], rates, given))

        found = take_turns(sides, given.pairs, tell)
        done += [row(one, other, found, rates) for other in one.others]
    return lines(done, rates, given)


def main() -> None:
    """Run all, or say why not."""
    made = options.parser(__doc__, "gpu.md")
    made.set_defaults(made=True)
    made.add_argument("--tiny", action="store_true", help="try it on the CPU with tiny models")
    made.add_argument("--models", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    made.add_argument("--updates", type=int, default=60, help="updates an epoch")
    given = options.parse(made, {"pairs": 2, "updates": 20})
    import torch

    if not given.tiny and not torch.cuda.is_available():
        if given.out is not None and not given.out.exists():
            tables.write(given.out, TITLE, [UNMEASURED])
        print(f"gpu: {UNMEASURED}")
        return
    if given.tiny and given.out == options.PAGES / "gpu.md":
        given.out = None
    with tempfile.TemporaryDirectory() as folder:
        print("\n" + "\n".join(compare(Path(folder), given)))


if __name__ == "__main__":
    main()
