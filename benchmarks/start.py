"""Seconds from the command to the first optimizer step, beside transformers' Trainer: `python benchmarks/start.py`.

Ours is `tunesmith train FILE` with what it does by default, whole: it infers the task, checks the rows, splits them by
content, looks for repetitions. The Trainer's is benchmarks/peers/start_trainer.py, written as a careful user would.
Both fine-tune builtin:minilm on the same file with batches of 32. Cold: the first run over these rows, with empty
caches of rows and tokens. Second: the same command again, with what the first one kept. The disk is warm for both.
Every start is a process of its own, the two sides in turn, stopped after its first update. The table is written as it
grows.

Data: sst2/train.jsonl (`text`, `label`) below --data. Options: --data, --rows, --pairs, --out.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
TABLE = Path(__file__).parent.parent / "docs" / "benchmarks" / "start.md"
PEER = Path(__file__).parent / "peers" / "start_trainer.py"
RUNS = ("cold", "second")
LOOK = 0.005
"""Seconds between two looks for the first step."""


@dataclass(frozen=True)
class Start:
    """One start: seconds by the clock, and seconds of computing on all cores."""

    seconds: float
    computed: float


def ours(rows: Path, folder: Path, cache: Path) -> Start:
    """`tunesmith train`, until its record has the line of the first update."""
    options = ["--model", "builtin:minilm", "--set", "train.log_every=1", "--out", str(folder)]
    command = [sys.executable, "-m", "tunesmith", "train", str(rows), *options]
    record = folder / "metrics.jsonl"

    def stepped() -> bool:
        return record.is_file() and '"event": "step"' in record.read_text(encoding="utf-8")

    return start(command, {"TUNESMITH_CACHE": str(cache)}, stepped)


def trainer(rows: Path, folder: Path, cache: Path) -> Start:
    """The Trainer's script, which ends with its first update."""
    from tunesmith.models import builtin

    command = [sys.executable, str(PEER), str(rows), str(builtin.find("minilm")), str(folder)]
    return start(command, {"HF_HOME": str(cache)}, lambda: False)


def start(command: list[str], environment: dict[str, str], stepped: Callable[[], bool]) -> Start:
    """Run a command until `stepped` says so or it ends by itself."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as told:
        own = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL, stderr=told)
        killed = False
        while True:
            number, status, usage = os.wait4(process.pid, os.WNOHANG)
            if number:
                break
            if not killed and stepped():
                seconds = time.perf_counter() - began
                process.kill()
                killed = True
            time.sleep(LOOK)
        process.returncode = status
        if not killed and status:
            told.seek(0)
            sys.exit(f"{command} failed:\n{told.read().decode()[-2000:]}")
    ended = seconds if killed else time.perf_counter() - began
    return Start(ended, usage.ru_utime + usage.ru_stime)


def table(found: dict[str, list[tuple[Start, Start]]], options: argparse.Namespace) -> str:
    """The page so far."""
    import torch
    import transformers

    lines = [
        "# The start, beside transformers' Trainer",
        "",
        f"Made by `python benchmarks/start.py --rows {options.rows} --pairs {options.pairs}` on {date.today()}, "
        f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}, "
        f"transformers {transformers.__version__}.",
        "From the command to the end of the first optimizer step: `tunesmith train FILE --model builtin:minilm`, and "
        "the Trainer's script in benchmarks/peers/start_trainer.py (bfloat16, batches of like length, fused AdamW); "
        "SST-2, batches of 32.",
        "*Cold*: the first run over these rows, caches empty. *Second*: again, with what the first run kept. Medians; "
        "the ratio is ours by theirs, pair by pair, with the smallest and the largest. *Computed*: seconds on all "
        "cores together.",
        "",
        "| run | seconds, ours | Trainer | ratio | smallest to largest | computed, ours | Trainer | ratio | pairs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in RUNS:
        if not found[run]:
            continue
        mine, theirs = zip(*found[run], strict=True)
        ratios = [a.seconds / b.seconds for a, b in found[run]]
        computed = [a.computed / b.computed for a, b in found[run]]
        middle = [
            statistics.median(getattr(one, name) for one in side)
            for name in ("seconds", "computed")
            for side in (mine, theirs)
        ]
        lines.append(
            f"| {run} | {middle[0]:.2f} | {middle[1]:.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {middle[2]:.2f} | {middle[3]:.2f} "
            f"| {statistics.median(computed):.2f} | {len(ratios)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=6920)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    source = options.data / "sst2" / "train.jsonl"
    if not source.is_file():
        print(f"start: no data at {source}; give a folder with --data.")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[Start, Start]]] = {run: [] for run in RUNS}
    sides = {"ours": ours, "trainer": trainer}
    for pair in range(options.pairs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows = folder / "rows.jsonl"
            with source.open(encoding="utf-8") as stream:
                rows.write_text("".join(islice(stream, options.rows)), encoding="utf-8")
            for run in RUNS:
                order = list(sides) if pair % 2 == 0 else list(sides)[::-1]
                started = {
                    side: sides[side](rows, folder / f"{side}-{run}", folder / f"{side}-cache") for side in order
                }
                found[run].append((started["ours"], started["trainer"]))
                print(pair, run, {side: round(one.seconds, 2) for side, one in started.items()}, flush=True)
                options.out.write_text(table(found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
