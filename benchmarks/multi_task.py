"""Do tasks that train together lose against each alone, and what do they save? `python benchmarks/multi_task.py`.

SST-2, STS-B and TREC with builtin:minilm: each alone, and all three in one run, over the same rows, epochs, batch and
rate. Shown: each task's metric on its test rows, alone and together, and the difference seed by seed; the seconds of
the whole commands, those of the three runs added up, and of their trainings. Every run is a process of its own, all in
turn. The page is written as it grows.

Data: folders sst2, stsb, trec below --data. Options: --data, --rows, --seeds, --epochs, --sampling, --results.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pairs import machine, options, tables
from pairs.tables import interval

PAGE = "multi_task.md"
QUICK = {"rows": 200, "seeds": 1, "epochs": 1.0}
RATE = 2e-4
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {"name": "classify", "text": "text", "label": "label"},
    "stsb": {"name": "regress", "text": "sentence1", "pair": "sentence2", "score": "score"},
    "trec": {"name": "classify", "text": "text", "label": "label"},
}
METRICS = {"sst2": "accuracy", "stsb": "spearman", "trec": "accuracy"}
GOAL = 1.5
"""Points that a task may lose against its own run."""
HEAD = ("task", "metric", "alone", "together", "together less alone", "rows", "seeds")
COSTS = ("what", "alone, added up", "together", "together by alone")
Found = dict[str, float]


def write(data: Path, folder: Path, count: int) -> None:
    """Every task's training and test rows as files in a folder."""
    for name in TASKS:
        for part in ("train", "test"):
            lines = [line for line in (data / name / f"{part}.jsonl").read_text(encoding="utf-8").split("\n") if line]
            random.Random(0).shuffle(lines)
            kept = lines[:count] if part == "train" else lines
            (folder / f"{name}-{part}.jsonl").write_text("\n".join([*kept, ""]), encoding="utf-8")


def recipe(folder: Path, names: Sequence[str], seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """One task alone, or several together."""
    own = {}
    for name in names:
        files = {part: str(folder / f"{name}-{part}.jsonl") for part in ("train", "test")}
        data = {**files, "validation": None, "leaks": "keep", "near_duplicates": False}
        own[name] = {"task": TASKS[name], "data": data}
    train = {"epochs": given.epochs, "batch_size": 32, "learning_rate": RATE, "seed": seed, "device": "cpu"}
    shared = {"model": given.model, "train": train}
    if len(names) == 1:
        return {**shared, **own[names[0]]}
    return {**shared, "tasks": own, "objective": {"name": "multi_task", "sampling": given.sampling}}


def run(given: argparse.Namespace, names: Sequence[str], seed: int) -> Found:
    """One run as a user calls it, with a cache of its own."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write(given.data, folder, given.rows)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(folder, names, seed, given)), encoding="utf-8")
        command = [sys.executable, "-m", "tunesmith", "train", str(folder / "recipe.yaml"), "--out",
                   str(folder / "run"), "--json"]  # fmt: skip
        environment = {**machine.environment(), "TUNESMITH_CACHE": f"{folder}/cache"}
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{', '.join(names)}, seed {seed} failed:\n{done.stderr[-3000:]}")
        found = {"whole": seconds}
        for name in names:
            place = folder / "run" / name if len(names) > 1 else folder / "run"
            measured = json.loads((place / "evaluation.json").read_text())
            found[name] = next(
                figure["value"]
                for figure in measured["suites"]["task"]["figures"]
                if (figure["name"], figure["split"], figure["subject"]) == (METRICS[name], "test", "model")
            )
            found["training"] = measured["cost"]["seconds"]
            found["peak"] = max(found.get("peak", 0.0), measured["cost"]["peak_memory_bytes"])
    return found


def lines(found: Mapping[str, list[Found]], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    count = min(len(runs) for runs in found.values())
    together = found["together"][:count]
    rows, alone = [], {name: found[name][:count] for name in TASKS}
    for name, runs in alone.items():
        mine, theirs = [one[name] for one in together], [one[name] for one in runs]
        less = [a - b for a, b in zip(mine, theirs, strict=True)]
        rows.append([name, METRICS[name], interval(theirs, 100), interval(mine, 100), interval(less, 100, "+.1f"),
                     f"{given.rows:,}", str(count)])  # fmt: skip
    costs = []
    for key, name in (("whole", "seconds, whole commands"), ("training", "seconds, trainings")):
        sums = [sum(runs[seed][key] for runs in alone.values()) for seed in range(count)]
        mine = [one[key] for one in together]
        ratio = tables.Spread.of(a / b for a, b in zip(mine, sums, strict=True))
        costs.append([name, f"{statistics.median(sums):.1f}", f"{statistics.median(mine):.1f}", ratio.told(".2f")])
    peaks = [max(runs[seed]["peak"] for runs in alone.values()) / 1e6 for seed in range(count)]
    mine = [one["peak"] / 1e6 for one in together]
    ratio = tables.Spread.of(a / b for a, b in zip(mine, peaks, strict=True))
    costs.append(["peak MB (alone: the largest)", f"{statistics.median(peaks):,.0f}", f"{statistics.median(mine):,.0f}",
                  ratio.told(".2f")])  # fmt: skip
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}, {given.rows:,} training rows of each task at most, {given.epochs:g} epochs, batches of 32, a "
        f"rate of {RATE:g}, {given.sampling} sampling: together as many examples as alone. Metrics times 100 on all "
        "test rows, mean and 95 % interval over seeds; the difference seed by seed. The goal is to lose at most "
        f"{GOAL} points. Seconds and memory are medians; ratios with the lowest and the highest in brackets.",
        "",
        *tables.table(HEAD, rows),
        "",
        *tables.table(COSTS, costs),
    ]


def main() -> None:
    """Run all."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--rows", type=int, default=3000)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--epochs", type=float, default=3.0)
    made.add_argument("--sampling", default="proportional", choices=["proportional", "uniform", "annealed"])
    given = options.parse(made, QUICK)
    known: dict[str, Found] = {}
    if given.results is not None and given.results.exists():
        known = dict(json.loads(text) for text in given.results.read_text(encoding="utf-8").splitlines())
    sides = {**{name: [name] for name in TASKS}, "together": list(TASKS)}
    found: dict[str, list[Found]] = {side: [] for side in sides}
    for seed in range(given.seeds):
        for side, names in sides.items():
            key = f"{side}, {seed}"
            if key not in known:
                known[key] = run(given, names, seed)
                if given.results is not None:
                    with given.results.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps([key, known[key]]) + "\n")
            found[side].append(known[key])
            print(key, {what: round(value, 3) for what, value in known[key].items()}, flush=True)
        tables.write(given.out, "Several tasks together", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
