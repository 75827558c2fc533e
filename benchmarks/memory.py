"""Peak training memory of LoRA against full training: `python benchmarks/memory.py`.

Two encoders: builtin:minilm (22.7 million weights), and a random one of the shape of BERT-base (110 million weights,
made here, saved to a temporary folder). The same batch, precision and number of updates for both methods, with and
without activation checkpointing; each in a process of its own, in turn. Two figures a run: the peak memory of the whole
process, libraries included; and what training added on top of the loaded model. Options: --tokens, --steps,
--repeats, --out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "docs" / "benchmarks" / "memory.md"
ENCODERS = {"builtin:minilm": 32, "random, BERT-base": 8}
"""Examples of a batch for each."""
KEYS = ("peak", "added")
CASES = [("full", False), ("lora", False), ("full", True), ("lora", True)]


class Watch(threading.Thread):
    """The most memory that the process held while this watched, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.ended = False

    def run(self) -> None:
        """Look a hundred times a second."""
        import psutil

        process = psutil.Process()
        while not self.ended:
            self.peak = max(self.peak, process.memory_info().rss)
            time.sleep(0.01)


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Train some updates on rows of equal length, and watch."""
    import psutil
    from datasets import Dataset

    from tunesmith import prepare, recipe
    from tunesmith.data.load import Splits
    from tunesmith.train import loop
    from tunesmith.train.log import Log

    made = recipe.from_values(
        {
            "model": case["model"],
            "task": {"name": "classify", "text": "text", "label": "label", "max_length": case["tokens"]},
            "data": "rows.csv",
            "method": case["method"],
            "train": {
                "steps": case["steps"],
                "batch_size": case["batch"],
                "activation_checkpointing": case["checkpointing"],
                "precision": "float32",
                "device": "cpu",
            },
        }
    )
    texts = ["good plot " * case["tokens"] + str(number) for number in range(2 * case["batch"])]
    labels = [("no", "yes")[number % 2] for number in range(len(texts))]
    rows = Dataset.from_dict({"text": texts, "label": labels, "line": list(range(len(texts)))})
    splits = Splits(rows, None, None, {}, {})
    prepare.learn(made, splits)
    prepared = prepare.prepare(made, splits)
    gc.collect()
    before = psutil.Process().memory_info().rss
    watch = Watch()
    watch.start()
    seen: list[int] = []

    def note_peak() -> bool:
        """Called after every update, before anything is saved: saving is no part of what is measured."""
        seen.append(watch.peak)
        return False

    with tempfile.TemporaryDirectory() as folder:
        quiet = made.train.model_copy(update={"checkpoint_every": 10**9, "evaluate_every": 10**9})
        outside = loop.Outside(Path(folder), Log(Path(folder) / "metrics.jsonl"), dict, note_peak)
        loop.train(prepared.training, made.parts, prepared.batches, quiet, prepared.accelerator, outside)
    watch.ended = True
    watch.join()
    return {"peak": seen[-1], "added": seen[-1] - before}


def encoder(folder: str) -> str:
    """A random encoder of BERT-base's shape, with the byte tokenizer of the tiny ones."""
    from transformers import BertConfig, BertModel

    from tunesmith.models import builtin

    BertModel(BertConfig()).save_pretrained(folder)
    builtin.tiny_tokenizer(512).save_pretrained(folder)
    return folder


def run_case(case: dict[str, Any]) -> dict[str, float]:
    """One training in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def page(found: dict[tuple[str, str, bool], list[dict[str, float]]], options: argparse.Namespace) -> str:
    """The results so far as a Markdown page."""
    import torch
    import transformers

    lines = [
        "# Memory of training: LoRA against full",
        "",
        f"Made by `python benchmarks/memory.py --tokens {options.tokens} --steps {options.steps} --repeats "
        f"{options.repeats}` on "
        f"{date.today()}, {torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()}), torch "
        f"{torch.__version__}, transformers {transformers.__version__}.",
        f"Float32, AdamW, {options.tokens} tokens an example, {options.steps} updates; medians. *Whole*: peak of the "
        "process, libraries and model included. *Added*: the peak less what was held when the model was loaded and "
        "modified. The ratio is LoRA's part of full training's.",
        "",
        "| encoder | batch | checkpointing | whole MB, full | LoRA | ratio | added MB, full | LoRA | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for encoder_name, batch in ENCODERS.items():
        for checkpointing in (False, True):
            sides = [found.get((encoder_name, method, checkpointing), []) for method in ("full", "lora")]
            if not all(sides):
                continue
            (w, x), (a, b) = ([statistics.median(run[key] for run in side) / 1e6 for side in sides] for key in KEYS)
            lines.append(
                f"| {encoder_name} | {batch} | {'on' if checkpointing else 'off'} | {w:,.0f} | {x:,.0f} | {x / w:.2f} "
                f"| {a:,.0f} | {b:,.0f} | {b / a:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all, or the one case of a child process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(json.loads(options.case))))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str, bool], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {"builtin:minilm": "builtin:minilm", "random, BERT-base": encoder(folder)}
        for _ in range(options.repeats):
            for name, batch in ENCODERS.items():
                for method, checkpointing in CASES:
                    case = {"model": models[name], "method": method, "checkpointing": checkpointing, "batch": batch}
                    result = run_case({**case, "tokens": options.tokens, "steps": options.steps})
                    found.setdefault((name, method, checkpointing), []).append(result)
                    print(name, method, checkpointing, {k: round(v / 1e6) for k, v in result.items()}, flush=True)
                    options.out.write_text(page(found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
