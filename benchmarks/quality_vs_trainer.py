"""Quality, time and memory beside transformers' Trainer (and peft): `python benchmarks/quality_vs_trainer.py`.

SST-2, TREC, MRPC and STS-B with builtin:minilm, full and LoRA, at most 2,000 training rows, 3 seeds. Both sides get
the same rows, epochs, batch size, rate, schedule, decay, clipping and precision; and, a seed, the same start of what is
fresh, the same batches in the same order and the same dropout, so that the difference is that of the trainers and not
of luck (a seed more or less moves these scores by several points). Every run is a process of its own, the two sides in
turn. The table is written as it grows.

Data: folders sst2, trec, mrpc, stsb of JSON Lines files (`text` or `sentence1` and `sentence2`; `label` or `score`),
below --data. Options: --rows, --seeds, --tasks, --out, --device.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import resource
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
TABLE = Path(__file__).parent.parent / "docs" / "benchmarks" / "quality_vs_trainer.md"
RATES = {"full": 2e-4, "lora": 2e-3}
EPOCHS, BATCH, WARMUP, DECAY = 3, 32, 0.1, 0.01
RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class Set:
    """A data set: its columns, and its metric in points (0 to 100)."""

    name: str
    texts: tuple[str, ...]
    target: str
    metric: str


SETS = {
    one.name: one
    for one in (
        Set("sst2", ("text",), "label", "accuracy"),
        Set("trec", ("text",), "label", "accuracy"),
        Set("mrpc", ("sentence1", "sentence2"), "label", "accuracy"),
        Set("stsb", ("sentence1", "sentence2"), "score", "pearson"),
    )
}


@dataclass(frozen=True)
class Case:
    """One run of one side."""

    side: str
    task: str
    method: str
    seed: int
    train: str
    test: str
    device: str


def ours(case: Case) -> dict[str, float]:
    """tunesmith, by its own recipe."""
    from tunesmith import recipe, run

    one = SETS[case.task]
    columns = {"text": one.texts[0], **({"pair": one.texts[1]} if len(one.texts) > 1 else {}), one.target: one.target}
    values = {
        "task": {"name": "regress" if one.target == "score" else "classify", **columns},
        "data": {"train": case.train, "validation": None, "test": case.test, "leaks": "keep", "near_duplicates": False},
        "method": {"name": "lora", "rank": RANK, "alpha": float(ALPHA)} if case.method == "lora" else case.method,
        "evaluate": [],
        "schedules": [{"name": "warmup_linear", "warmup": WARMUP}],
        "train": {
            "epochs": float(EPOCHS),
            "batch_size": BATCH,
            "learning_rate": RATES[case.method],
            "weight_decay": DECAY,
            "seed": case.seed,
            "device": case.device,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        done = run.start(recipe.from_values(values), Path(folder) / "run")
        lines = [json.loads(line) for line in (done.folder / "predictions" / "test.jsonl").open(encoding="utf-8")]
        cost = done.evaluation["cost"]
    score = points(one, [line[one.target] for line in lines], [line["prediction"] for line in lines])
    return {"score": score, "seconds": cost["seconds"], "peak": cost["peak_memory_bytes"]}


def points(one: Set, truths: list[Any], answers: list[Any]) -> float:
    """The metric of a data set, times 100."""
    if one.metric == "accuracy":
        return 100 * statistics.mean(truth == answer for truth, answer in zip(truths, answers, strict=True))
    return 100 * statistics.correlation(truths, answers)


def trainer(case: Case) -> dict[str, float]:
    """transformers' Trainer, with peft for LoRA, at the same settings."""
    import torch
    import transformers
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    from tunesmith.core.seeding import seed_of
    from tunesmith.models import builtin
    from tunesmith.train.precision import choose_precision

    class Paired(transformers.Trainer):  # type: ignore[misc]
        """Trainer on rows in the order they have; dropout starts at the case's seed, as ours does."""

        def _get_train_sampler(self, *_: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            if self.state.global_step == 0:
                torch.manual_seed(case.seed)
            return super().training_step(*args, **kwargs)

    one = SETS[case.task]
    source = str(builtin.find("minilm"))
    splits = {name: read(path) for name, path in (("train", case.train), ("test", case.test))}
    names = sorted({row["label"] for row in splits["train"]}) if one.target == "label" else []
    scale = scale_of(splits["train"]) if not names else (0.0, 1.0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)

    def encoded(rows: list[dict[str, Any]]) -> Dataset:
        found = tokenizer(*[[row[text] for row in rows] for text in one.texts], truncation=True, max_length=512)
        truths = [names.index(row["label"]) if names else (row["score"] - scale[0]) / scale[1] for row in rows]
        return Dataset.from_dict({**found, "labels": truths})

    torch.manual_seed(seed_of(case.seed, "head"))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(names) or 1, dtype=torch.float32
    )
    model = adapted(model, case.seed) if case.method == "lora" else model
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=64,
            learning_rate=RATES[case.method],
            warmup_steps=WARMUP,
            weight_decay=DECAY,
            max_grad_norm=1.0,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            bf16=choose_precision("auto", case.device) == "bfloat16",
            use_cpu=case.device == "cpu",
            seed=case.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        train, test = encoded(in_our_order(splits["train"], one, case.seed)), encoded(splits["test"])
        collate = transformers.DataCollatorWithPadding(tokenizer)
        worker = Paired(model, arguments, train_dataset=train, data_collator=collate)
        began = time.perf_counter()
        worker.train()
        seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated() if case.device == "cuda" else _resident()
        logits = worker.predict(test).predictions
    answers = [names[place] for place in logits.argmax(-1)] if names else logits[:, 0].tolist()
    score = points(one, [row[one.target] for row in splits["test"]], answers)
    return {"score": score, "seconds": seconds, "peak": peak}


def read(path: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def scale_of(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Mean and standard deviation of the scores: both sides learn the standardised ones."""
    scores = [row["score"] for row in rows]
    return statistics.mean(scores), statistics.pstdev(scores)


def in_our_order(rows: list[dict[str, Any]], one: Set, seed: int) -> list[dict[str, Any]]:
    """The rows of all epochs, one after the other, in the batches of our loop (whole ones: `cut` sees to that)."""
    import numpy as np

    from tunesmith.core.seeding import seed_of
    from tunesmith.train.batches import order

    sizes = np.array([sum(len(row[text]) for text in one.texts) for row in rows])
    orders = [order(sizes, BATCH, seed_of(seed, f"order {epoch}")) for epoch in range(EPOCHS)]
    return [rows[place] for updates in orders for update in updates for place in update]


def adapted(model: Any, seed: int) -> Any:
    """The model with peft's LoRA, its matrices started as ours."""
    import copy

    import peft
    import torch

    from tunesmith.core import registry, surgery
    from tunesmith.core.seeding import generator

    twin = copy.deepcopy(model)
    registry.build("methods", {"name": "lora", "rank": RANK, "alpha": float(ALPHA)}).modify(
        twin, generator(seed, "lora")
    )
    config = peft.LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=ALPHA, target_modules=["query", "value"])
    theirs = peft.get_peft_model(model, config)
    with torch.no_grad():
        for path, wrapper in surgery.wrappers(twin).items():
            theirs.get_submodule(f"base_model.model.{path}").lora_A["default"].weight.copy_(wrapper.lora_A)
    return theirs


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_case(case: Case) -> dict[str, float]:
    """One run in a process of its own."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
    )
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr[-3000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "whole": time.perf_counter() - began}


def cut(source: Path, rows: int, out: Path) -> Path:
    """At most `rows` rows of a file, drawn once with a fixed seed: the same for both sides and every seed.

    Their number is one of whole batches: Trainer, which gets all epochs in a row, can have no short one in the middle.
    """
    lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line]
    random.Random(0).shuffle(lines)
    out.write_text("\n".join(lines[: min(rows, len(lines)) // BATCH * BATCH]) + "\n", encoding="utf-8")
    return out


def table(found: dict[tuple[str, str], dict[str, list[dict[str, float]]]], options: argparse.Namespace) -> str:
    """The results so far as a Markdown page."""
    lines = [
        "# Quality beside transformers' Trainer",
        "",
        f"Made by `python benchmarks/quality_vs_trainer.py --rows {options.rows} --seeds {options.seeds}` on "
        f"{date.today()}, {hardware(options.device)}.",
        f"builtin:minilm, {options.rows:,} training rows at most, {EPOCHS} epochs, batch {BATCH}, seeds "
        f"{', '.join(map(str, range(options.seeds)))}; scores on the whole test split: accuracy in percent, for STS-B "
        "Pearson's correlation times 100.",
        "Mean and standard deviation over seeds; seconds of training, and peak memory of the process (on a GPU: of "
        "its memory), as medians. Both sides train in bfloat16 on the same batches of like length, with the fused "
        "optimizer, from the same start and with the same dropout.",
        "",
        "| data | method | ours | Trainer | difference | seconds, ours | Trainer | ratio | peak MB, ours | Trainer "
        "| pairs |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (task, method), sides in found.items():
        pairs = min(len(sides["ours"]), len(sides["trainer"]))
        mine, theirs = sides["ours"][:pairs], sides["trainer"][:pairs]
        if not pairs:
            continue
        a, b = [r["score"] for r in mine], [r["score"] for r in theirs]
        s, t = (statistics.median(r["seconds"] for r in side) for side in (mine, theirs))
        ratio = statistics.median(y["seconds"] / x["seconds"] for x, y in zip(mine, theirs, strict=True))
        m, n = (statistics.median(r["peak"] for r in side) / 1e6 for side in (mine, theirs))
        lines.append(
            f"| {task} | {method} | {_mean(a)} | {_mean(b)} | {statistics.mean(a) - statistics.mean(b):+.2f} "
            f"| {s:.1f} | {t:.1f} | {ratio:.2f}x | {m:,.0f} | {n:,.0f} | {pairs} |"
        )
    return "\n".join(lines) + "\n"


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def hardware(device: str) -> str:
    """What it ran on, and the versions."""
    import peft
    import torch
    import transformers

    where = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()})"
    )
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    return f"{where}, {versions}"


def main() -> None:
    """Run all pairs, or the one case of a child process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = Case(**json.loads(options.case))
        print(json.dumps((ours if case.side == "ours" else trainer)(case)))
        return
    if not options.data.is_dir():
        print(f"quality_vs_trainer: no data at {options.data}; give a folder with --data.")
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Seeds outermost: the table is complete, if rough, after the first round.
        for seed in range(options.seeds):
            for task in options.tasks:
                train = cut(options.data / task / "train.jsonl", options.rows, Path(folder) / f"{task}.jsonl")
                for method in RATES:
                    sides = found.setdefault((task, method), {"ours": [], "trainer": []})
                    for side in ("ours", "trainer") if seed % 2 == 0 else ("trainer", "ours"):
                        test = str(options.data / task / "test.jsonl")
                        case = Case(side, task, method, seed, str(train), test, options.device)
                        sides[side].append(run_case(case))
                        print(
                            seed, task, method, side, {k: round(v, 2) for k, v in sides[side][-1].items()}, flush=True
                        )
                        options.out.write_text(table(found, options), encoding="utf-8")
                        gc.collect()


if __name__ == "__main__":
    main()
