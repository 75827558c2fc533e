"""What every program of this kind can be told."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from pairs import data

PAGES = Path(__file__).parent.parent.parent / "docs" / "benchmarks"


def parser(doc: str | None, page: str) -> argparse.ArgumentParser:
    """Options for data, pairs, and what is written; `page` is the name of the program's page."""
    made = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    made.add_argument("--data", type=Path, default=data.SHARED, help="folder of the data sets")
    made.add_argument("--made", action="store_true", help="take texts of random words instead of data sets")
    made.add_argument("--model", default="builtin:minilm", help="built-in model; a tiny one makes every model tiny")
    made.add_argument("--pairs", type=int, default=5, help="turns of each comparison")
    made.add_argument("--quick", action="store_true", help="few rows and pairs; prints, and writes no page")
    made.add_argument("--out", type=Path, default=PAGES / page, help="the page to write")
    made.add_argument("--results", type=Path, help="file of results: kept, and gone on with by a later call")
    return made


def parse(made: argparse.ArgumentParser, quick: dict[str, object]) -> argparse.Namespace:
    """The options; `quick` are those that --quick changes where they are not said. Without data the program ends."""
    options = made.parse_args()
    if options.quick:
        said = {argument.split("=")[0] for argument in sys.argv[1:]}
        for name, value in quick.items():
            if f"--{name.replace('_', '-')}" not in said:
                setattr(options, name, value)
        if "--out" not in said:
            options.out = None
    if not options.made and not options.data.is_dir():
        print(f"{made.prog}: no data at {options.data}; give a folder with --data, or --made for random words.")
        sys.exit(0)
    return options


def tiny(options: argparse.Namespace) -> bool:
    """Whether the program is only tried out."""
    return "tiny" in str(options.model)


def called() -> str:
    """How the program was called, without paths."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word.split("=")[0] in ("--data", "--out", "--results"):
            _ = next(words, None) if "=" not in word else None
        else:
            kept.append(word)
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *kept])
