"""Tuning to instructions: `python benchmarks/instructions.py`.

A causal model of 260,000 weights, pre-trained on simple stories, tuned with `generate` on two sets of instructions, by
LoRA and in full. Shown: the loss of answers (nats a token) on held-out rows before and after, BLEU, chrF and ROUGE-L of
answers that are really generated, packed and unpacked training side by side, and ten prompts of our own answered before
and after. The page is written as it grows.

Data: short_instructions/train.jsonl and alpaca_sample/train.jsonl.gz (`instruction`, `input`, `output`) below --data.
Options: --rows, --epochs, --out, --model.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parent.parent.parent / "shared"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks" / "instructions.md"
SETS = {"short_instructions": "train.jsonl", "alpaca_sample": "train.jsonl.gz"}
RATES = {"full": 1e-3, "lora": 5e-3}
PROMPTS = (
    "Name a big animal.",
    "What colour is grass?",
    "Write one sentence about a cat.",
    "Rewrite the sentence in the past tense: She walks to the park.",
    "Give a word that means the same as happy.",
    "What is the opposite of cold?",
    "Finish the story: The boy opened the old door and",
    "Make a question of it: The sun is hot.",
    "Name two things that one finds in a kitchen.",
    "Say thank you to a friend who helped you.",
)


def values(train: str, test: str, method: str, options: argparse.Namespace, pack: bool) -> dict[str, Any]:
    """The recipe of a run."""
    return {
        "model": str(options.model),
        "task": {"name": "generate", "template": "plain", "pack": pack, "sampling": {"max_new_tokens": 60}},
        "method": {"name": "lora", "rank": 16, "targets": "all-linear"} if method == "lora" else method,
        "data": {"train": train, "validation": None, "test": test, "leaks": "keep", "near_duplicates": False},
        "train": {"epochs": float(options.epochs), "batch_size": 16, "learning_rate": RATES[method], "device": "cpu"},
    }


def measure(case: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """One run, and the ten prompts before and after."""
    from datasets import Dataset

    import tunesmith
    from tunesmith import prepare
    from tunesmith.evaluate import stats
    from tunesmith.evaluate.predict import Predictor

    stats.RESAMPLES = 1  # intervals are not what is measured here
    with tempfile.TemporaryDirectory() as folder:
        run = tunesmith.train(values(options=options, **case), out=Path(folder) / "run")
        figures = run.evaluation["suites"]["task"]["figures"]
        found: dict[str, Any] = {
            ("after " if one["subject"] == "model" else "before ") + one["name"]: one["value"] for one in figures
        }
        found["seconds"] = run.evaluation["cost"]["seconds"]
        session = run.session()
        rows = [{"instruction": prompt} for prompt in PROMPTS]
        after = [line["prediction"] for line in session.predict(rows)]
        backbone = prepare.load_backbone(session.recipe)
        before: list[str] = []
        untrained = Predictor(backbone.model, backbone.tokenizer, session.recipe.task, backbone.limit)
        untrained.predict(Dataset.from_list(rows), each=lambda line: before.append(line["prediction"]))
        found["answers"] = list(zip(PROMPTS, before, after, strict=True))
    return found


def rows_of(name: str, data: Path, folder: Path, most: int) -> tuple[str, str]:
    """Rows drawn once with a fixed seed: a tenth is held out."""
    raw = (data / name / SETS[name]).read_bytes()
    text = (gzip.decompress(raw) if SETS[name].endswith(".gz") else raw).decode()
    lines = [line for line in text.split("\n") if line]
    random.Random(0).shuffle(lines)
    lines = lines[:most]
    held_out = len(lines) // 10
    paths = folder / f"{name}-train.jsonl", folder / f"{name}-test.jsonl"
    for path, some in zip(paths, (lines[held_out:], lines[:held_out]), strict=True):
        path.write_text("\n".join(some) + "\n", encoding="utf-8")
    return str(paths[0]), str(paths[1])


def page(found: dict[tuple[str, str, bool], dict[str, Any]], options: argparse.Namespace) -> str:
    """What was found so far, as a Markdown page."""
    import torch
    import transformers

    lines = [
        "# Tuning a small causal model to instructions",
        "",
        f"Made by `python benchmarks/instructions.py --rows {options.rows} --epochs {options.epochs:g}` on "
        f"{date.today()}, {torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()}), torch "
        f"{torch.__version__}, transformers {transformers.__version__}.",
        f"A causal model of 260,000 weights, pre-trained on simple stories; at most {options.rows:,} rows a set, a "
        f"tenth of them held out, {options.epochs:g} epochs, batch 16, seed 0. Loss: nats a token of the "
        "answers, stop token included, on held-out rows. The scores are those of answers that were generated greedily. "
        "A packed batch of 16 holds more examples, and the run so has fewer updates.",
        "",
        "| data | method | packed | loss before | after | BLEU before | after | chrF before | after | ROUGE-L before "
        "| after | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, method, pack), one in found.items():
        cells = [f"{math.log(one[f'{when} perplexity']):.3f}" for when in ("before", "after")]
        for metric, factor in (("bleu", 1), ("chrf", 1), ("rougeL", 100)):
            cells += [f"{factor * one.get(f'{when} {metric}', math.nan):.1f}" for when in ("before", "after")]
        lines.append(f"| {name} | {method} | {'yes' if pack else 'no'} | {' | '.join(cells)} | {one['seconds']:.0f} |")
    for (name, method, pack), one in found.items():
        if name == "short_instructions" and not pack:
            lines += ["", f"## Ten prompts, before and after {method} on {name}", "", "| prompt | before | after |"]
            lines += ["|---|---|---|"]
            lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in one["answers"]]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") or "(nothing)"


def main() -> None:
    """Run all, or the one case of a child process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--model", type=Path, default=SHARED / "models" / "stories260k")
    parser.add_argument("--rows", type=int, default=1100)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(json.loads(options.case), options)))
        return
    if not options.data.is_dir() or not options.model.is_dir():
        print(
            f"instructions: no data at {options.data} or no model at {options.model}; give them with --data, --model."
        )
        return
    found: dict[tuple[str, str, bool], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            train, test = rows_of(name, options.data, Path(folder), options.rows)
            for method in RATES:
                for pack in (False, True):
                    case = {"train": train, "test": test, "method": method, "pack": pack}
                    child = [sys.executable, __file__, *sys.argv[1:], "--case", json.dumps(case)]
                    done = subprocess.run(child, capture_output=True, text=True, check=False)
                    if done.returncode:
                        sys.exit(done.stderr[-3000:])
                    found[name, method, pack] = json.loads(done.stdout.splitlines()[-1])
                    print(name, method, pack, math.log(found[name, method, pack]["after perplexity"]), flush=True)
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text(page(found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
