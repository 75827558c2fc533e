"""What does each protection against forgetting give, and what does it cost? `python benchmarks/forgetting.py`.

Four tasks one after another with builtin:minilm, each stage from the model before it: SST-2, TREC, AG News, MRPC, some
rows of each. After every stage all earlier test splits are answered again. Plain full training, LoRA and head only are
run as they are; each protection stands beside plain full training, from the second stage on. Shown: the mean over the
four tasks after the last stage, forgetting, backward transfer, the newest task's metric, seconds of training and peak
memory, each a mean over seeds with its 95 % interval (Student's t); forgetting and the newest task also as the
difference to plain full training, seed by seed. Every sequence is a process of its own. The page is written as it
grows.

Strengths were chosen on other tasks: `--tasks nicta_piboso clinc150 sms_spam`.

Data: a folder a task below --data. Options: --data, --tasks, --rows, --held-out, --seeds, --epochs, --only, --results.
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
QUICK = {"rows": 200, "held_out": 100, "seeds": 1, "epochs": 1.0}
RATE = 2e-4
PLAIN = "full training"
SHARE = 0.13
"""Of a stage's epochs, after which `unfreeze` opens the next place: the last opens before the end."""
SEQUENCE = ("sst2", "trec", "ag_news", "mrpc")
TASKS: dict[str, dict[str, Any]] = {
    "sst2": {"text": "text", "label": "label"},
    "trec": {"text": "text", "label": "label"},
    "ag_news": {"text": "text", "label": "label"},
    "mrpc": {"text": "sentence1", "pair": "sentence2", "label": "label"},
    "nicta_piboso": {"text": "text", "label": "label"},
    "clinc150": {"text": "text", "label": "domain"},
    "sms_spam": {"text": "text", "label": "label"},
}
Variant = Mapping[str, Any]


def _grid(name: str, setting: str, values: Sequence[float], **more: Any) -> dict[str, Variant]:
    """A regularizer at several settings, each by its name in the table."""
    return {
        f"{name}, {setting} {value:g}": {"regularizers": [{"name": name, setting: value, **more}]} for value in values
    }


VARIANTS: dict[str, Variant] = {
    PLAIN: {},
    "lora": {"method": "lora", "train": {"learning_rate": 2e-3}},
    "head only": {"method": "head_only", "train": {"learning_rate": 1e-2}},
    **_grid("replay", "share", [0.1, 0.25, 0.5]),
    **_grid("distill", "strength", [1, 3, 10, 30]),
    "replay, share 0.25, and distill, strength 1": {"regularizers": [{"name": "replay", "share": 0.25}, "distill"]},
    **_grid("ewc", "strength", [1e2, 1e4, 3e4, 1e5, 1e6]),
    **_grid("l2_sp", "strength", [0.1, 1, 10], head=0.0),
    **_grid("mixout", "share", [0.7, 0.9]),
    **_grid("recadam", "strength", [100, 1000]),
    "bss": {"regularizers": ["bss"]},
    "layerwise, factor 0.5": {"schedules": [{"name": "layerwise", "factor": 0.5}]},
    "unfreeze": {"schedules": [{"name": "unfreeze", "epochs": SHARE}]},
    "freeze": {"schedules": [{"name": "freeze", "first": 0.5}]},
    "average": {"schedules": ["average"]},
}
"""Each by its name in the table."""
SHOWN = (
    PLAIN, "lora", "head only", "replay, share 0.25", "distill, strength 1", "ewc, strength 10000",
    "ewc, strength 30000", "ewc, strength 100000", "l2_sp, strength 0.1", "l2_sp, strength 1",
    "mixout, share 0.9", "recadam, strength 1000", "bss", "layerwise, factor 0.5", "unfreeze", "freeze", "average",
)  # fmt: skip
"""What is run where nothing else is said."""
HEAD = ("what", "average", "forgetting", "less plain", "backward transfer", "newest task", "less plain", "seconds",
        "peak MB", "seeds")  # fmt: skip
Found = dict[str, float]


def rows_of(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the first of these JSON Lines files, gzipped or not, in an order drawn once."""
    path = next(path for name in names for path in sorted(folder.glob(f"{name}.jsonl*")))
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    random.Random(0).shuffle(rows)
    return rows


def write(data: Path, folder: Path, given: argparse.Namespace) -> None:
    """Every task's training, validation and test rows as files in a folder: three disjoint parts."""
    for name in given.tasks:
        train, test = rows_of(data / name, ["train", "all"]), rows_of(data / name, ["test", "dev", "all"])
        if not list((data / name).glob("train.*")):
            train = train[given.held_out :]
        validation = train[given.rows : given.rows + max(1, given.rows // 5)]
        parts = {"train": train[: given.rows], "validation": validation, "test": test[: given.held_out]}
        for part, rows in parts.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}-{part}.jsonl").write_text(text, encoding="utf-8")


def recipe(folder: Path, variant: Variant, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """A recipe of a stage for each task. A protection is there from the second on; a method, from the first."""
    every = {key: value for key, value in variant.items() if key in ("method", "train")}
    train = {"epochs": given.epochs, "batch_size": 32, "learning_rate": RATE, "seed": seed, "device": "cpu"}
    protected = {key: value for key, value in variant.items() if key not in every}
    stages = []
    for number, name in enumerate(given.tasks):
        parts = {part: str(folder / f"{name}-{part}.jsonl") for part in ("train", "validation", "test")}
        data = {**parts, "leaks": "keep", "near_duplicates": False}
        stages.append({"task": {"name": "classify", **TASKS[name]}, "data": data, **(protected if number else {})})
    for stage in stages:
        for schedule in stage.get("schedules", ()):
            if isinstance(schedule, Mapping) and schedule["name"] == "unfreeze":
                stage["schedules"] = [{**schedule, "epochs": SHARE * given.epochs}]
    suite = {"name": "task", "train_rows": 0}  # figures of training rows are not shown
    first = {"model": given.model, "data": stages[0]["data"], **every, "train": {**train, **every.get("train", {})},
             "evaluate": [suite]}  # fmt: skip
    return {**first, "stages": stages}


def one(given: argparse.Namespace, name: str, seed: int) -> Found:
    """One sequence, in this process."""
    import tunesmith
    from tunesmith import continual, sequence
    from tunesmith.evaluate import stats

    stats.RESAMPLES = 4  # intervals over rows are not shown: the seeds are
    with tempfile.TemporaryDirectory() as folder:
        write(given.data, Path(folder), given)
        values = recipe(Path(folder), VARIANTS[name], seed, given)
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
    command = [sys.executable, __file__, "--data", str(given.data), "--tasks", *given.tasks, "--rows", str(given.rows),
               "--held-out", str(given.held_out), "--epochs", str(given.epochs), "--model", given.model,
               "--one", name, str(seed)]  # fmt: skip
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
        f"{given.model}; {', '.join(given.tasks)}: {given.rows:,} training and {given.held_out:,} test rows each where "
        f"there are as many, {given.epochs:g} epochs a stage, batches of 32, rates 2e-4 (LoRA 2e-3, head only 1e-2).",
        "Accuracies in percent, mean and 95 % interval over seeds. *Average*: of all tasks after the last stage. "
        "*Forgetting*: how far a task is below its best, mean over all but the last. *Newest task*: the last one after "
        "its stage. *Less plain*: the difference to plain full training, seed by seed. *Seconds*: of all trainings.",
        "",
        *tables.table(HEAD, [line(name, runs, found[PLAIN]) for name, runs in found.items() if runs]),
    ]


def main() -> None:
    """Run all, or one in this process."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(SEQUENCE))
    made.add_argument("--rows", type=int, default=1500)
    made.add_argument("--held-out", type=int, default=600)
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
    chosen = [PLAIN, *(name for name in given.only or SHOWN if name != PLAIN)]
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
