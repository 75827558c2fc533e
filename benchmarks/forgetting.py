"""What does each protection against forgetting give, and what does it cost? `python benchmarks/forgetting.py`.

Four tasks one after another with builtin:minilm, each stage from the model before it: SST-2, TREC, AG News, MRPC, some
rows of each. After every stage all earlier test splits are answered again. Plain full training, LoRA and head only are
run as they are; each protection stands beside plain full training, from the second stage on. Shown: the mean over the
four tasks after the last stage, forgetting, backward transfer, the newest task's metric, seconds of training and peak
memory, each a mean over seeds with its 95 % interval (Student's t); forgetting and the newest task also as the
difference to plain full training, seed by seed. Every sequence is a process of its own. The page is written as it
grows.

Data: folders sst2, trec, ag_news, mrpc below --data. Options: --data, --rows, --seeds, --epochs, --only, --results.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairs import machine, options, tables
from pairs.tables import interval

PAGE = "forgetting.md"
QUICK = {"rows": 200, "seeds": 1, "epochs": 1.0}
RATE = 2e-4
PLAIN = "full training"
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {"text": "text", "label": "label"},
    "trec": {"text": "text", "label": "label"},
    "ag_news": {"text": "text", "label": "label"},
    "mrpc": {"text": "sentence1", "pair": "sentence2", "label": "label"},
}
Variant = Mapping[str, Any]
VARIANTS: dict[str, Variant] = {
    PLAIN: {},
    "lora": {"method": "lora", "train": {"learning_rate": 2e-3}},
    "head only": {"method": "head_only", "train": {"learning_rate": 1e-2}},
    "replay, share 0.25": {"regularizers": [{"name": "replay", "share": 0.25}]},
    "distill": {"regularizers": ["distill"]},
    "replay and distill": {"regularizers": [{"name": "replay", "share": 0.25}, "distill"]},
    "ewc, strength 1e4": {"regularizers": [{"name": "ewc", "strength": 1e4}]},
    "ewc, strength 1e6": {"regularizers": [{"name": "ewc", "strength": 1e6}]},
    "l2_sp, strength 0.1": {"regularizers": [{"name": "l2_sp", "strength": 0.1, "head": 0.0}]},
    "l2_sp, strength 1": {"regularizers": [{"name": "l2_sp", "strength": 1.0, "head": 0.0}]},
    "mixout, share 0.7": {"regularizers": [{"name": "mixout", "share": 0.7}]},
    "recadam, strength 1000": {"regularizers": [{"name": "recadam", "strength": 1000.0}]},
    "bss": {"regularizers": ["bss"]},
    "layerwise, factor 0.5": {"schedules": [{"name": "layerwise", "factor": 0.5}]},
    "unfreeze": {"schedules": [{"name": "unfreeze", "epochs": 0.4}]},
    "freeze": {"schedules": [{"name": "freeze", "first": 0.5}]},
    "average": {"schedules": ["average"]},
}
"""Each by its name in the table. What is set is chosen once for all data, by no look at these."""
HEAD = ("what", "average", "forgetting", "less plain", "backward transfer", "newest task", "less plain", "seconds",
        "peak MB", "seeds")  # fmt: skip
Found = dict[str, float]


def rows_of(path: Path, count: int | None = None) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file, gzipped or not, in an order drawn once."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    random.Random(0).shuffle(rows)
    return rows[:count]


def write(data: Path, folder: Path, count: int) -> None:
    """Every task's training, validation and test rows as files in a folder: three disjoint parts."""
    for name in TASKS:
        kind = ".jsonl.gz" if name == "ag_news" else ".jsonl"
        train, test = rows_of(data / name / f"train{kind}"), rows_of(data / name / f"test{kind}", count)
        parts = {"train": train[:count], "validation": train[count : count + max(1, count // 5)], "test": test}
        for part, rows in parts.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}-{part}.jsonl").write_text(text, encoding="utf-8")


def recipe(folder: Path, variant: Variant, seed: int, epochs: float, model: str) -> dict[str, Any]:
    """A recipe of four stages. A protection is there from the second on; a method, from the first."""
    every = {key: value for key, value in variant.items() if key in ("method", "train")}
    train = {"epochs": epochs, "batch_size": 32, "learning_rate": RATE, "seed": seed, "device": "cpu"}
    protected = {key: value for key, value in variant.items() if key not in every}
    stages = []
    for number, (name, columns) in enumerate(TASKS.items()):
        parts = {part: str(folder / f"{name}-{part}.jsonl") for part in ("train", "validation", "test")}
        data = {**parts, "leaks": "keep", "near_duplicates": False}
        stages.append({"task": {"name": "classify", **columns}, "data": data, **(protected if number else {})})
    given = {"model": model, "data": stages[0]["data"], **every, "train": {**train, **every.get("train", {})}}
    return {**given, "stages": stages}


def one(given: argparse.Namespace, name: str, seed: int) -> Found:
    """One sequence, in this process."""
    import tunesmith
    from tunesmith import continual, sequence
    from tunesmith.evaluate import stats

    stats.RESAMPLES = 4  # intervals over rows are not shown: the seeds are
    with tempfile.TemporaryDirectory() as folder:
        write(given.data, Path(folder), given.rows)
        values = recipe(Path(folder), VARIANTS[name], seed, given.epochs, given.model)
        tunesmith.train(values, out=Path(folder) / "run")
        known = json.loads((Path(folder) / "run" / continual.FILE).read_text())["stages"]
        costs = [json.loads(path.read_text())["cost"] for path in (Path(folder) / "run").glob("*/evaluation.json")]
    newest = list(known)[-1]
    return {
        **sequence.summary(known),
        "newest": known[newest]["row"][newest],
        "seconds": sum(cost["seconds"] for cost in costs),
        "peak": max(cost["peak_memory_bytes"] for cost in costs),
    }


def child(given: argparse.Namespace, name: str, seed: int) -> Found:
    """One sequence, in a process of its own."""
    command = [sys.executable, __file__, "--data", str(given.data), "--rows", str(given.rows), "--epochs",
               str(given.epochs), "--model", given.model, "--one", name, str(seed)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=machine.environment(), check=False)
    if done.returncode:
        sys.exit(f"{name}, seed {seed} failed:\n{done.stderr[-3000:]}")
    found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def line(name: str, runs: Sequence[Found], plain: Sequence[Found]) -> list[str]:
    """A row of the table."""
    count = min(len(runs), len(plain))
    less = {
        key: [a[key] - b[key] for a, b in zip(runs[:count], plain[:count], strict=True)]
        for key in ("forgetting", "newest")
    }
    own = name == PLAIN
    return [
        name, interval([run["average"] for run in runs], 100), interval([run["forgetting"] for run in runs], 100),
        "" if own else interval(less["forgetting"], 100, "+.1f"),
        interval([run["backward transfer"] for run in runs], 100, "+.1f"),
        interval([run["newest"] for run in runs], 100), "" if own else interval(less["newest"], 100, "+.1f"),
        f"{statistics.mean(run['seconds'] for run in runs):.0f}",
        f"{statistics.mean(run['peak'] for run in runs) / 1e6:,.0f}", str(len(runs)),
    ]  # fmt: skip


def lines(found: Mapping[str, list[Found]], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}; SST-2, TREC, AG News, MRPC, {given.rows:,} training rows each, {given.epochs:g} epochs a "
        "stage, batches of 32, a rate of 2e-4 (LoRA 2e-3, head only 1e-2). Accuracies in percent, mean and 95 % "
        "interval over seeds. *Average*: of the four tasks after the last stage. *Forgetting*: how far a task is below "
        "its best, mean over the first three. *Newest task*: MRPC after its own stage. *Less plain*: the difference "
        "to plain full training, seed by seed. Seconds are those of all trainings.",
        "",
        *tables.table(HEAD, [line(name, runs, found[PLAIN]) for name, runs in found.items() if runs]),
    ]


def main() -> None:
    """Run all, or one in this process."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--rows", type=int, default=1500)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--epochs", type=float, default=3.0)
    made.add_argument("--only", nargs="+", choices=list(VARIANTS), help="some of the rows of the table")
    made.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = options.parse(made, QUICK)
    if given.one:
        print(json.dumps(one(given, given.one[0], int(given.one[1]))))
        return
    known: dict[str, Found] = {}
    if given.results is not None and given.results.exists():
        known = dict(json.loads(text) for text in given.results.read_text(encoding="utf-8").splitlines())
    chosen = [PLAIN, *(name for name in given.only or VARIANTS if name != PLAIN)]
    found: dict[str, list[Found]] = {name: [] for name in chosen}
    for seed in range(given.seeds):
        for name in chosen:
            key = f"{name}, {seed}"
            if key not in known:
                known[key] = child(given, name, seed)
                if given.results is not None:
                    with given.results.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps([key, known[key]]) + "\n")
            found[name].append(known[key])
            print(key, {what: round(value, 3) for what, value in known[key].items()}, flush=True)
            if found[PLAIN]:
                tables.write(given.out, "Forgetting, and what works against it", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
