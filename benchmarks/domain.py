"""Does raw text of a field help the task? `python benchmarks/domain.py`.

Two stages, `fill` on biomedical abstracts and then `classify` on sentences of medical abstracts by their role, beside
`classify` alone, with builtin:minilm. Shown: masked-word perplexity on held-out abstracts before and after the first
stage, accuracy and macro F1 on the test split with and without it, a line a seed, and the means. Reported as found. The
page is written as it grows.

Data: folders biomed_abstracts (train.txt, test.txt) and nicta_piboso (train.jsonl.gz, test.jsonl) below --data.
Options: --rows, --abstracts, --epochs, --seeds, --out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "domain.md"
FIGURES = ("accuracy", "macro_f1")


def recipe_of(folder: Path, seed: int, epochs: float, staged: bool) -> dict[str, Any]:
    """One or two stages."""
    task = {
        "model": "builtin:minilm",
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {"train": str(folder / "train.jsonl"), "validation": None, "test": str(folder / "test.jsonl"),
                 "leaks": "keep", "near_duplicates": False},
        "train": {"epochs": 3.0, "batch_size": 16, "learning_rate": 2e-4, "seed": seed, "device": "cpu"},
    }  # fmt: skip
    if not staged:
        return task
    raw = {
        "task": "fill",
        "data": {"train": str(folder / "train.txt"), "validation": None, "test": str(folder / "test.txt"),
                 "near_duplicates": False},
        "train": {"epochs": epochs, "learning_rate": 5e-4},
    }  # fmt: skip
    return {**task, "stages": [raw, {}]}


def measure(folder: Path, seed: int, epochs: float) -> dict[str, float]:
    """One seed: both ways."""
    import tunesmith
    from tunesmith.evaluate import stats

    stats.RESAMPLES = 20  # intervals over rows are not shown: the seeds are
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as runs:
        for way, staged in (("alone", False), ("staged", True)):
            run = tunesmith.train(recipe_of(folder, seed, epochs, staged), out=Path(runs) / way)
            values = {one["name"]: one["value"] for one in _figures(run.folder) if one["subject"] == "model"}
            found |= {f"{way} {name}": 100 * values[name] for name in FIGURES}
            if staged:
                for one in _figures(run.folder.parent / "1-fill"):
                    if one["name"] == "perplexity":
                        found["after" if one["subject"] == "model" else "before"] = one["value"]
    return found


def _figures(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "evaluation.json").read_text())["suites"]["task"]["figures"])


def rows_of(data: Path, folder: Path, rows: int, abstracts: int) -> None:
    """The files of both stages, drawn once with a fixed seed."""
    for split in ("train", "test"):
        lines = (data / "biomed_abstracts" / f"{split}.txt").read_text(encoding="utf-8").split("\n")
        text = "\n".join(lines[: abstracts if split == "train" else abstracts // 4])
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    train = gzip.decompress((data / "nicta_piboso" / "train.jsonl.gz").read_bytes()).decode()
    test = (data / "nicta_piboso" / "test.jsonl").read_text(encoding="utf-8")
    for split, text in (("train", train), ("test", test)):
        lines = [line for line in text.split("\n") if line]
        random.Random(0).shuffle(lines)
        (folder / f"{split}.jsonl").write_text("\n".join(lines[:rows]) + "\n", encoding="utf-8")


def page(found: list[dict[str, float]], options: argparse.Namespace) -> str:
    """What was found so far, as a Markdown page."""
    import torch
    import transformers

    columns = ["before", "after", *(f"{way} {name}" for name in FIGURES for way in ("alone", "staged"))]
    lines = [
        "# Raw text of the field before the task",
        "",
        f"Made by `python benchmarks/domain.py --rows {options.rows} --abstracts {options.abstracts} --epochs "
        f"{options.epochs:g} --seeds {options.seeds}` on {date.today()}, {torch.get_num_threads()} of {os.cpu_count()} "
        f"CPU cores ({platform.machine()}), torch {torch.__version__}, transformers {transformers.__version__}.",
        f"builtin:minilm. First stage: `fill` on {options.abstracts} biomedical abstracts, {options.epochs:g} epochs; "
        "its perplexity is that of masked words in held-out abstracts, before and after. Second stage: `classify` on "
        f"{options.rows:,} sentences of medical abstracts, six roles; accuracy and macro F1 in percent on the test "
        "split, without the first stage and with it. As found.",
        "",
        "| seed | perplexity before | after | accuracy, one stage | two stages | macro F1, one stage | two stages |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, one in enumerate(found):
        lines.append(f"| {seed} | " + " | ".join(f"{one[name]:.1f}" for name in columns) + " |")
    means = {name: statistics.mean(one[name] for one in found) for name in columns}
    lines.append("| mean | " + " | ".join(f"{means[name]:.1f}" for name in columns) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all seeds, or the one of a child process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--abstracts", type=int, default=500)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder, options.seed, options.epochs)))
        return
    if not options.data.is_dir():
        print(f"domain: no data at {options.data}; give a folder with --data.")
        return
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        rows_of(options.data, Path(folder), options.rows, options.abstracts)
        for seed in range(options.seeds):
            child = [sys.executable, __file__, "--folder", folder, "--seed", str(seed), "--epochs", str(options.epochs)]
            done = subprocess.run(child, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr[-3000:])
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(seed, found[-1], flush=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(page(found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
