"""Does `tunesmith check` tell beforehand what a run takes? `python benchmarks/estimates.py`.

Eight recipes of several tasks and methods: `check --json` first, then the run itself, each a process of its own and as
a user calls it. Shown: the seconds from the command to the report and the peak memory of the process that were
estimated and that were measured, and how far the one is from the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from pairs import machine, models, options, ours, tables
from pairs.case import Case
from pairs.data import Row, Source
from pairs.turns import Found

QUICK = {"pairs": 1, "rows": 640}
GOAL = 20
"""Percent by which an estimate may be wrong."""
KEYS = {"whole": "estimated_seconds", "peak": "estimated_peak_memory_bytes"}
"""What is measured, and what `check` calls its estimate."""
HEAD = ("recipe", "seconds, estimated", "measured", "off by", "peak MB, estimated", "measured", "off by",
        "seconds of check", "runs")  # fmt: skip
SPLITS = {"validation": 0.1, "test": 0.2}


def recipes(source: Source, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Eight recipes by name."""
    tiny, rows = options.tiny(given), given.rows
    folder, called = models.builtin(given.model, source.folder / "backbone")
    sst2 = source.file("classify", rows)
    words = models.trained_reader(
        (text for row in source.rows("instruct", rows) for text in row.values()), 400 if tiny else models.VOCABULARY
    )
    llama = models.random("llama", source.folder / "llama", words, tiny)
    length = 32 if tiny else 128
    text, lessons = source.text(rows // 8 * length), source.file("instruct", rows // 2)
    classify, heads = Case("classify", folder, called, sst2), {"method": "head", "epochs": 8}
    tags = {"name": "tag", "scheme": "none"}
    made: dict[str, tuple[Case, dict[str, Any]]] = {
        "classify, full": (classify, {}),
        "classify, LoRA on every linear": (Case("classify", folder, called, sst2, "lora_all"), {}),
        "classify, head only, 8 epochs": (Case("classify", folder, called, sst2, **heads), {}),
        "classify, top two blocks, 4 epochs": (Case("classify", folder, called, sst2, "top", epochs=4), {}),
        "tag words, full": (Case("classify", folder, called, written(source, rows, tagged)), {"task": tags}),
        "a number, full": (Case("classify", folder, called, written(source, rows, scored)), {"task": "regress"}),
        "masked words, full": (Case("fill", folder, called, text, epochs=3, batch=16, length=length), {}),
        "answers, full, small Llama": (
            Case("instruct", *llama, lessons, epochs=2, batch=16, length=2 * length),
            {"task": {**ours.TASKS["instruct"], "answered": 16, "max_length": 2 * length}},
        ),
    }
    return {name: told(case, more) for name, (case, more) in made.items()}


def told(case: Case, more: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a case, with validation, measuring and checkpoints as every run has them."""
    values = {**ours.values(json.loads(case.told())), **more}
    train = {name: value for name, value in values["train"].items() if name not in ("log_every", "checkpoint_every")}
    data = {"train": values["data"]["train"], "near_duplicates": False, **SPLITS}
    return {**{name: value for name, value in values.items() if name != "evaluate"}, "train": train, "data": data}


def tagged(row: Row) -> Row:
    """The words of a text, of which the long ones have a tag."""
    words = row["text"].split() or ["none"]
    return {"tokens": words, "tags": ["long" if len(word) > 6 else "O" for word in words]}


def scored(row: Row) -> Row:
    """A text and the mean length of its words."""
    words = row["text"].split() or ["none"]
    return {"text": row["text"], "score": sum(map(len, words)) / len(words)}


def written(source: Source, count: int, change: Any) -> str:
    """A file of changed rows."""
    path = source.folder / f"{change.__name__}.jsonl"
    rows = [change(row) for row in source.rows("classify", count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def child(command: list[str], cache: str) -> tuple[str, float, int]:
    """What a process says, its seconds, and the most bytes that it held; one that fails ends the program."""
    environment = {**machine.environment(), "TUNESMITH_CACHE": cache}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=errors, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)[:400]} failed:\n{errors.read()[-3000:]}")
        said.seek(0)
        return said.read(), seconds, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compare(recipe: dict[str, Any]) -> Found:
    """Estimate, run, measure; the cache is the same, as it is for a user."""
    with tempfile.TemporaryDirectory() as folder:
        path, out, cache = Path(folder) / "recipe.yaml", Path(folder) / "run", f"{folder}/cache"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        start = [sys.executable, "-m", "tunesmith"]
        said, check, _ = child([*start, "check", str(path), "--json"], cache)
        estimate = json.loads(said)
        _, whole, peak = child([*start, "train", str(path), "--out", str(out), "--json"], cache)
    before = {f"{name} before": estimate[key] for name, key in KEYS.items()}
    return {"whole": whole, "peak": peak, "check": check, **before}


def line(name: str, runs: list[Found]) -> list[str]:
    """A row of the table."""
    cells = [name]
    for key, scale, form in (("whole", 1.0, ".1f"), ("peak", 1e-6, ",.0f")):
        before, after = tables.spread(runs, f"{key} before", scale), tables.spread(runs, key, scale)
        each = tables.Spread.of(100 * (run[f"{key} before"] / run[key] - 1) for run in runs)
        cells += [f"{before.median:{form}}", f"{after.median:{form}}", each.told("+.0f", " %")]
    return [*cells, f"{statistics.median(run['check'] for run in runs):.1f}", str(len(runs))]


def lines(found: dict[str, list[Found]], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model} unless said, {given.rows:,} rows at most, a tenth of them for validation and a fifth for the "
        "test. Seconds are those of the whole command, from start to report; peak memory is that of its process. "
        f"Medians, with the lowest and the highest in brackets. The goal is to be off by at most {GOAL} %.",
        "",
        *tables.table(HEAD, [line(name, runs) for name, runs in found.items()]),
    ]


def main() -> None:
    """Run all."""
    made = options.parser(__doc__, "estimates.md")
    made.set_defaults(pairs=3)
    made.add_argument("--rows", type=int, default=3200)
    made.add_argument("--recipes", type=int, nargs="+", default=range(8), help="which of the recipes, from 0")
    given = options.parse(made, QUICK)
    found: dict[str, list[Found]] = {}
    with tempfile.TemporaryDirectory() as folder:
        every = list(recipes(Source(Path(folder), None if given.made else given.data), given).items())
        for _ in range(given.pairs):
            for name, recipe in (every[place] for place in given.recipes):
                found.setdefault(name, []).append(compare(recipe))
                print(name, {key: round(value, 2) for key, value in found[name][-1].items()}, flush=True)
                tables.write(given.out, "What `check` says beforehand", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
