"""Every kind of task beside transformers' Trainer: `python benchmarks/tasks.py`.

WNUT-17 (entities), SQuAD (answers in a text), STS-B by `regress` and by `embed`, RTE, CLINC150, AG News, MNIST images
with a small ViT from random weights, and E2E (text from facts) with a small causal model and a tiny encoder-decoder.
Both sides get the same rows, epochs, batch size, rate, schedule, decay, clipping and precision, and, a seed, the same
starting weights, the same rows in the same order and the same dropout: the difference is that of encodings, losses and
decodings, and not of luck. The peer's side is written in `peers/` as transformers' own examples do it. Every run is
a process of its own, the two sides in turn. The table is written as it grows.

Data: folders of JSON Lines files below --data. Options: --rows (a factor on each set's own number of rows, which keeps
the whole to an hour or so on two cores), --seeds, --sets, --out, --results (a file to which results are added, and from
which an interrupted benchmark goes on).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
MODEL = Path(__file__).parent.parent.parent / "shared" / "models" / "stories260k"
TABLE = Path(__file__).parent.parent / "docs" / "benchmarks" / "tasks.md"
BATCH, WARMUP, DECAY = 16, 0.1, 0.01


@dataclass(frozen=True)
class Set:
    """A data set: what both sides are told, and the metrics in points (0 to 100)."""

    name: str
    folder: str
    kind: str
    task: Mapping[str, Any]
    metrics: tuple[str, ...]
    train_rows: int
    test_rows: int
    test: str = "test"
    model: Any = "builtin:minilm"
    epochs: int = 3
    rate: float = 2e-4


def sets() -> dict[str, Set]:
    """Every set by name."""
    pair = {"text": "sentence1", "pair": "sentence2"}
    facts = {"name": "generate", "format": "prompt_completion", "template": "plain", "max_length": 320}
    facts |= {"roles": {"prompt": "mr", "completion": "ref"}, "sampling": {"max_new_tokens": 120}}
    vit = {"family": "vit", "hidden": 64, "blocks": 3, "config": {"image_size": 28, "patch_size": 7, "num_channels": 1}}
    t5 = {"family": "t5", "hidden": 64, "blocks": 2, "vocabulary": 1000}
    label, score = {"label": "label"}, {"score": "score"}
    single = {"name": "classify", "text": "text", **label}
    spans = {"name": "answer_span", "max_length": 256, "stride": 64}
    both = ("bleu", "rougeL")
    found = [
        Set("wnut17", "wnut17", "tag", {"name": "tag"}, ("f1",), 480, 600, rate=6e-4),
        Set("squad", "squad", "answer_span", spans, ("exact_match", "f1"), 64, 120, test="dev", epochs=2, rate=5e-4),
        Set("stsb regress", "stsb", "regress", {"name": "regress", **pair, **score}, ("spearman",), 144, 600),
        Set("stsb embed", "stsb", "embed", {"name": "embed", **pair, **score}, ("spearman",), 192, 600, rate=5e-5),
        Set("rte", "rte", "classify", {"name": "classify", **pair, **label}, ("accuracy",), 160, 277, test="dev"),
        Set("clinc150", "clinc150", "classify", single, ("accuracy",), 1600, 500, rate=5e-4),
        Set("ag_news", "ag_news", "classify", single, ("accuracy",), 144, 300, epochs=2),
        Set("mnist", "mnist_t10k", "classify_image", {"name": "classify_image"}, ("accuracy",), 4000, 1000, model=vit,
            epochs=6, rate=1e-3),
        Set("e2e causal", "e2e_nlg", "generate", facts, both, 480, 80, model=str(MODEL), rate=2e-3),
        Set("e2e seq2seq", "e2e_nlg", "generate", facts, both, 320, 80, model=t5, rate=2e-3),
    ]  # fmt: skip
    return {one.name: one for one in found}


@dataclass(frozen=True)
class Case:
    """One run of one side."""

    side: str
    name: str
    seed: int
    train: str
    test: str


def values(case: Case) -> dict[str, Any]:
    """The recipe of a run."""
    one = sets()[case.name]
    return {
        "model": one.model,
        "task": dict(one.task),
        "data": {"train": case.train, "validation": None, "test": case.test, "leaks": "keep", "near_duplicates": False},
        "schedules": [{"name": "warmup_linear", "warmup": WARMUP}],
        "evaluate": ["task"],
        "train": {
            "epochs": float(one.epochs),
            "batch_size": BATCH,
            "learning_rate": one.rate,
            "weight_decay": DECAY,
            "seed": case.seed,
            "device": "cpu",
            # In bfloat16 a difference in the last bit grows, over some hundred updates, to several points either way.
            "precision": "float32",
        },
    }


def ours(case: Case) -> dict[str, float]:
    """tunesmith, by its own recipe and its own figures."""
    from tunesmith import recipe, run
    from tunesmith.evaluate import stats

    stats.RESAMPLES = 1  # intervals are not what is measured here
    with tempfile.TemporaryDirectory() as folder:
        done = run.start(recipe.from_values(values(case)), Path(folder) / "run")
        figures = done.evaluation["suites"]["task"]["figures"]
        found = {one["name"]: one["value"] for one in figures if one["subject"] == "model"}
        seconds = done.evaluation["cost"]["seconds"]
    return {**{name: _points(name, found[name]) for name in sets()[case.name].metrics}, "seconds": seconds}


def _points(name: str, value: float) -> float:
    return value if name == "bleu" else 100 * value


def trainer(case: Case) -> dict[str, float]:
    """transformers' Trainer, as its examples do it."""
    from peers import trainer as peer

    one = sets()[case.name]
    return peer.run(one.kind, values(case))


def rows_of(one: Set, folder: Path, data: Path, factor: float) -> tuple[Path, Path]:
    """The training and the test file: rows drawn once with a fixed seed, the same for both sides and every seed.

    The number of training rows is one of whole batches: Trainer gets all epochs in a row.
    """
    most = max(BATCH, int(one.train_rows * factor)) // BATCH * BATCH
    if one.kind == "classify_image":
        return digits(data / one.folder, folder, most, one.test_rows)
    train, test = _drawn(data / one.folder, "train"), _drawn(data / one.folder, one.test)
    if one.name == "clinc150":
        train, test = ([row for row in rows if row["label"] != "oos"] for rows in (train, test))
    paths = folder / "train.jsonl", folder / "test.jsonl"
    for path, rows in zip(paths, (train[: min(most, len(train)) // BATCH * BATCH], test[: one.test_rows]), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return paths


def _drawn(folder: Path, split: str) -> list[dict[str, Any]]:
    plain, packed = folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz"
    text = plain.read_text(encoding="utf-8") if plain.exists() else gzip.decompress(packed.read_bytes()).decode()
    rows = [json.loads(line) for line in text.split("\n") if line]
    random.Random(0).shuffle(rows)
    return rows


def digits(source: Path, folder: Path, train: int, test: int) -> tuple[Path, Path]:
    """The IDX files as PNG files, and two lists of them."""
    from PIL import Image

    images, labels = (
        gzip.decompress((source / f"t10k-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
    )
    labels = labels[8:]
    _, count, height, width = struct.unpack(">4I", images[:16])
    order = list(range(count))
    random.Random(0).shuffle(order)
    paths = folder / "train.jsonl", folder / "test.jsonl"
    for path, numbers in zip(paths, (order[:train], order[train : train + test]), strict=True):
        lines = []
        for number in numbers:
            start = 16 + number * height * width
            name = f"{number}.png"
            Image.frombytes("L", (width, height), images[start : start + height * width]).save(folder / name)
            lines.append(json.dumps({"image": name, "label": str(labels[number])}) + "\n")
        path.write_text("".join(lines), encoding="utf-8")
    return paths


def run_case(case: Case) -> dict[str, float]:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{case} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(found: dict[tuple[str, str, int], dict[str, float]], options: argparse.Namespace) -> str:
    """The results so far as a Markdown page."""
    import torch
    import transformers

    where = f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()})"
    lines = [
        "# Every kind of task beside transformers' Trainer",
        "",
        f"Made by `python benchmarks/tasks.py --rows {options.rows:g} --seeds {options.seeds}` on {date.today()}, "
        f"{where}, torch {torch.__version__}, transformers {transformers.__version__}.",
        "builtin:minilm unless said; a small ViT from random weights for MNIST, a causal model of 260,000 weights and",
        f"a small T5 from random weights for E2E. Batch {BATCH}, seeds {', '.join(map(str, range(options.seeds)))}. "
        "Both sides train in float32, start from the same weights and see the same rows in the same order; what "
        "differs is how they encode, weigh and decode. Points of the metric (0 to 100), means over seeds on the test "
        "rows; seconds of training are medians, the ratio is Trainer's to ours in the same seed. Rows are few: the "
        "table shows whether both sides agree, and not how good a model becomes.",
        "",
        "| data | rows, epochs, seeds | metric | ours | Trainer | difference | seconds, ours | Trainer | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in sets().values():
        seeds = [seed for seed in range(options.seeds) if all((one.name, side, seed) in found for side in SIDES)]
        pairs = [tuple(found[one.name, side, seed] for side in SIDES) for seed in seeds]
        if not pairs:
            continue
        a, b = (statistics.median(pair[side]["seconds"] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(theirs["seconds"] / mine["seconds"] for mine, theirs in pairs)
        for metric in one.metrics:
            mine, theirs = (statistics.mean(pair[side][metric] for pair in pairs) for side in (0, 1))
            lines.append(
                f"| {one.name} | {pairs[0][0]['rows']:,}, {one.epochs}, {len(pairs)} | {metric} | {mine:.2f} "
                f"| {theirs:.2f} | {mine - theirs:+.2f} | {a:.1f} | {b:.1f} | {ratio:.2f}x |"
            )
    return "\n".join(lines) + "\n"


SIDES = ("ours", "trainer")


def main() -> None:
    """Run all pairs, or the one case of a child process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rows", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", default=list(sets()), choices=list(sets()))
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case = Case(**json.loads(options.case))
        print(json.dumps((ours if case.side == "ours" else trainer)(case)))
        return
    if not options.data.is_dir():
        print(f"tasks: no data at {options.data}; give a folder with --data.")
        return
    found: dict[tuple[str, str, int], dict[str, float]] = {}
    if options.results and options.results.exists():
        for line in options.results.read_text(encoding="utf-8").splitlines():
            name, side, seed, result = json.loads(line)
            found[name, side, seed] = result
    # Seeds outermost: the table is complete, if rough, after the first round.
    for seed in range(options.seeds):
        for name in options.sets:
            with tempfile.TemporaryDirectory() as folder:
                train, test = rows_of(sets()[name], Path(folder), options.data, options.rows)
                for side in SIDES if seed % 2 == 0 else SIDES[::-1]:
                    if (name, side, seed) in found:
                        continue
                    result = run_case(Case(side, name, seed, str(train), str(test)))
                    found[name, side, seed] = {**result, "rows": len(train.read_text(encoding="utf-8").splitlines())}
                    print(seed, name, side, found[name, side, seed], flush=True)
                    if options.results:
                        with options.results.open("a", encoding="utf-8") as stream:
                            stream.write(json.dumps([name, side, seed, found[name, side, seed]]) + "\n")
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(table(found, options), encoding="utf-8")


if __name__ == "__main__":
    main()
