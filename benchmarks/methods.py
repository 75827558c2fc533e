"""Every method on the same budget: `python benchmarks/methods.py`.

SST-2 and TREC with builtin:minilm, every registered method with its default settings and its default learning rate, 3
seeds, the same rows and epochs for all. Measured: accuracy on the test split with an interval, the share of parameters
that train (head included), the size of the saved delta, peak memory and speed of the training, and how much longer a
prediction takes while the delta is attached (against the bare backbone, in turn, in the same process). Every run is a
process of its own; methods take turns, so that a busy moment of the machine hits all alike. The table is written as it
grows.

Data: folders sst2 and trec of JSON Lines files (`text`, `label`), below --data. Options: --rows, --epochs, --seeds,
--tasks, --methods, --out, --results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
TABLE = Path(__file__).parent.parent / "docs" / "benchmarks" / "methods.md"
BATCH, PROBED, TURNS = 16, 128, 5


@dataclass(frozen=True)
class Case:
    """One training."""

    task: str
    method: dict[str, Any]
    seed: int
    train: str
    test: str
    epochs: float


def measure(case: Case) -> dict[str, Any]:
    """Train, and measure what was trained."""
    from tunesmith import recipe, run

    values = {
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {"train": case.train, "validation": None, "test": case.test, "leaks": "keep", "near_duplicates": False},
        "method": case.method,
        "evaluate": [],
        "train": {"epochs": case.epochs, "batch_size": BATCH, "seed": case.seed, "device": "cpu"},
    }
    with tempfile.TemporaryDirectory() as folder:
        done = run.start(recipe.from_values(values), Path(folder) / "run")
        lines = [json.loads(line) for line in (done.folder / "predictions" / "test.jsonl").open(encoding="utf-8")]
        cost = done.evaluation["cost"]
        model = done.folder / "model"
        weights = sum(path.stat().st_size for path in model.iterdir() if path.suffix == ".safetensors")
        slower = added_time(done.folder, [line["text"] for line in lines[:PROBED]])
    return {
        "right": [line["label"] == line["prediction"] for line in lines],
        "share": cost["trained_parameters"] / cost["total_parameters"],
        "bytes": weights,
        "peak": cost["peak_memory_bytes"],
        "speed": cost["examples_per_second"],
        "slower": slower,
    }


def added_time(folder: Path, texts: list[str]) -> float:
    """How many times the bare backbone's time the run's model takes for the same texts: medians of turns."""
    from tunesmith import prepare
    from tunesmith.serve import session

    attached = session.load(folder, "cpu")
    bare = prepare.load_backbone(attached.recipe)
    bare.model.eval()
    seconds: dict[str, list[float]] = {"attached": [], "bare": []}
    for turn in range(TURNS + 1):
        for name, backbone in (("attached", attached.backbone), ("bare", bare)):
            began = time.perf_counter()
            answer(backbone, attached.recipe.task, texts)
            if turn:  # The first only warms up.
                seconds[name].append(time.perf_counter() - began)
    return statistics.median(a / b for a, b in zip(seconds["attached"], seconds["bare"], strict=True))


def answer(backbone: Any, task: Any, texts: list[str]) -> None:
    """One pass over the texts, in batches."""
    import torch

    with torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            rows = [{"text": text} for text in texts[start : start + BATCH]]
            examples = task.encode(rows, backbone.tokenizer, backbone.limit)
            backbone.model(**task.collate(examples, backbone.tokenizer).inputs)


def interval(runs: list[list[bool]]) -> tuple[float, float, float]:
    """Mean accuracy in percent over seeds, and the 95 % bootstrap interval over test rows of that mean."""
    import numpy as np

    rows = np.array(runs).mean(axis=0)  # [rows]
    draws = np.random.default_rng(0).integers(len(rows), size=(2000, len(rows)))
    low, high = np.percentile(rows[draws].mean(axis=1), [2.5, 97.5])
    return 100 * float(rows.mean()), 100 * float(low), 100 * float(high)


def run_case(case: Case) -> dict[str, Any]:
    """One training in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        print(f"{case} failed:\n{done.stderr[-2000:]}", flush=True)
        return {}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def cut(source: Path, rows: int, out: Path) -> str:
    """At most `rows` rows of a file, drawn once with a fixed seed: the same for every method and seed."""
    lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line]
    random.Random(0).shuffle(lines)
    out.write_text("\n".join(lines[:rows]) + "\n", encoding="utf-8")
    return str(out)


Done = dict[tuple[str, str, int], dict[str, Any]]


def keep(results: Path | None, key: tuple[str, str, int], result: dict[str, Any]) -> None:
    """Tell a result, and add it to the file of results where there is one."""
    told = {name: round(value, 4) for name, value in result.items() if name != "right"}
    print(*key, statistics.mean(result["right"]) if result else "failed", told, flush=True)
    if results is not None and result:
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, result]) + "\n")


def kept(results: Path | None) -> Done:
    """The results of an earlier call with the same options, which need not be measured again."""
    if results is None or not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {(task, name, seed): result for (task, name, seed), result in lines}


def page(done: Done, options: argparse.Namespace) -> str:
    """The results so far as a Markdown page."""
    import torch
    import transformers

    machine = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()})"
    lines = [
        "# Methods on the same budget",
        "",
        f"Made by `python benchmarks/methods.py --rows {options.rows} --epochs {options.epochs:g} --seeds "
        f"{options.seeds} --test-rows {options.test_rows}` on {date.today()}, {machine}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}.",
        f"builtin:minilm (22.7 million weights), {options.rows:,} training rows, {options.epochs:g} epochs, batch "
        f"{BATCH}, {options.test_rows:,} test rows at most. Every method has its default settings and its default "
        "learning rate, chosen on examples/messages.csv. Accuracy in percent: the mean over seeds, the 95 % bootstrap "
        "interval over test rows, and the lowest and highest seed. Share: parameters that train, head included. Delta: "
        "the safetensors that ship. Examples/s: of training. Prediction: how many times the bare backbone's time it "
        "takes while attached; a delta that merges costs nothing once merged. Medians over seeds; the machine may do "
        "other work beside, so that speeds tell orders of size and no more.",
    ]
    for task in sorted({task for task, _, _ in done}):
        lines += [
            "",
            f"## {task}",
            "",
            "| method | accuracy | interval | seeds | share | delta MB | peak MB | examples/s | prediction | runs |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        whole: dict[str, list[dict[str, Any]]] = {}
        for (other, name, _), result in done.items():
            if other == task and result:
                whole.setdefault(name, []).append(result)
        means = {name: interval([run["right"] for run in runs]) for name, runs in whole.items()}
        for name in sorted(means, key=lambda name: -means[name][0]):
            runs, (mean, low, high) = whole[name], means[name]
            each = [100 * statistics.mean(run["right"]) for run in runs]
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "right"}
            lines.append(
                f"| {name} | {mean:.1f} | {low:.1f} to {high:.1f} | {min(each):.1f} to {max(each):.1f} "
                f"| {100 * middle['share']:.2f} % | {middle['bytes'] / 1e6:.2f} | {middle['peak'] / 1e6:,.0f} "
                f"| {middle['speed']:.0f} | {middle['slower']:.2f}x | {len(runs)} |"
            )
    return "\n".join(lines) + "\n"


def methods_to_run(names: list[str] | None) -> dict[str, dict[str, Any]]:
    """Every registered method with its defaults, or those that were named."""
    from tunesmith.core import registry

    return {name: {"name": name} for name in registry.names("methods") if not names or name in names}


def main() -> None:
    """Run all, or the one case of a child process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=["sst2", "trec"])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--results", type=Path, help="file of results: kept, and gone on with by a later call")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    if not options.data.is_dir():
        print(f"methods: no data at {options.data}; give a folder with --data.")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = kept(options.results)
    with tempfile.TemporaryDirectory() as folder:
        # Seeds outermost: the table is complete, if rough, after the first round.
        for seed in range(options.seeds):
            for task in options.tasks:
                train = cut(options.data / task / "train.jsonl", options.rows, Path(folder) / f"{task}.jsonl")
                test = cut(options.data / task / "test.jsonl", options.test_rows, Path(folder) / f"{task}-test.jsonl")
                for name, method in methods_to_run(options.methods).items():
                    if (task, name, seed) not in done:
                        done[task, name, seed] = run_case(Case(task, method, seed, train, test, options.epochs))
                        keep(options.results, (task, name, seed), done[task, name, seed])
                    options.out.write_text(page(done, options), encoding="utf-8")


if __name__ == "__main__":
    main()
