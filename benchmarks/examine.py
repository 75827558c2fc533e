"""What do the suites say of good, bad and over-trained models, and how long do they take? `benchmarks/examine.py`.

Cases, each a run in a process of its own: SST-2 with builtin:minilm, full and LoRA, with every suite; full training
over-trained (20 epochs at ten times the rate) and with shuffled labels, with those that judge; book reviews, measured
on kitchen reviews; CLINC150, with rows of no class; SST-2 with a tiny causal model, beside zero-shot and in-context
learning. Shown: the verdict of each report, the figures that a case is about, seconds of training and of all the rest
(start, data, suites, report), the size of the page. The page is written as it grows; --reports keeps the reports.

Data: folders sst2, amazon_books_kitchen, clinc150 below --data; --causal, a folder with a causal model.
Options: --data, --rows, --only, --causal, --reports, --results.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairs import data, machine, options, tables

PAGE = "examine.md"
QUICK = {"rows": 200}
RATE = 5e-5
JUDGED = ["task", "calibration", "retention", "drift"]
EVERY = ["task", "baselines", "ood", "robustness", "calibration", "retention", "drift", "cost",
         {"name": "stability", "seeds": 3}]  # fmt: skip
HEAD = ("case", "suite", "figure", "of", "value", "interval")
VERDICT = ("case", "aspect", "grade", "verdict", "by", "value", "interval")
TIMES = ("case", "training, s", "all the rest, s", "page, MB")
Values = dict[str, Any]


def rows_of(path: Path) -> list[Values]:
    """Rows of a JSON Lines file, gzipped or not, in an order drawn once."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    random.Random(0).shuffle(rows)
    return rows


def write(path: Path, rows: Sequence[Values]) -> str:
    """Rows as a JSON Lines file; its name."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def sst2(given: argparse.Namespace, folder: Path, **changed: Any) -> Values:
    """A recipe on some rows of SST-2, with every suite."""
    train, test = (rows_of(given.data / "sst2" / f"{part}.jsonl") for part in ("train", "test"))
    rows = train[: given.rows]
    if changed.pop("shuffled", False):
        labels = [row["label"] for row in rows]
        random.Random(1).shuffle(labels)
        rows = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
    files = {
        "train": write(folder / "train.jsonl", rows),
        "validation": write(folder / "validation.jsonl", train[given.rows : given.rows + given.rows // 4]),
        "test": write(folder / "test.jsonl", test[: given.rows]),
        "leaks": "keep",
    }
    task = {"name": "classify", "text": "text", "label": "label"}
    return recipe(given, task, files, **{"evaluate": EVERY, **changed})


def books(given: argparse.Namespace, folder: Path) -> Values:
    """Trained on book reviews, measured on kitchen reviews."""
    own = rows_of(given.data / "amazon_books_kitchen" / "books.jsonl.gz")
    other = rows_of(given.data / "amazon_books_kitchen" / "kitchen.jsonl")
    place = write(folder / "books.jsonl", own), write(folder / "kitchen.jsonl", other[: given.rows])
    files = {"train": place[0], "validation": 0.1, "test": 0.25}
    suites = ["task", {"name": "ood", "data": {"kitchen": place[1]}}]
    return recipe(given, {"name": "classify", "text": "text", "label": "label"}, files, evaluate=suites)


def intents(given: argparse.Namespace, folder: Path) -> Values:
    """Trained on intents, asked which messages have none."""
    parts = {part: rows_of(given.data / "clinc150" / f"{part}.jsonl{end}")
             for part, end in (("train", ".gz"), ("dev", ""), ("test", ""))}  # fmt: skip
    scoped = {part: [row for row in rows if row["label"] != "oos"] for part, rows in parts.items()}
    files = {
        "train": write(folder / "train.jsonl", scoped["train"][: 10 * given.rows]),
        "validation": write(folder / "dev.jsonl", scoped["dev"][: given.rows]),
        "test": write(folder / "test.jsonl", scoped["test"][: given.rows]),
    }
    outside = write(folder / "outside.jsonl", [row for row in parts["test"] if row["label"] == "oos"])
    task = {"name": "classify", "text": "text", "label": "label"}
    changed = {"train": {"learning_rate": 5e-4}, "evaluate": ["task", {"name": "ood", "outside": outside}]}
    return recipe(given, task, files, **changed)


def recipe(given: argparse.Namespace, task: Values, files: Values, **changed: Any) -> Values:
    """A recipe of three epochs, with something changed."""
    train = {"epochs": 3, "batch_size": 32, "learning_rate": RATE, "device": "cpu", **changed.pop("train", {})}
    return {"model": given.model, "task": task, "data": files, "train": train, **changed}


CASES: dict[str, Any] = {
    "full training": lambda given, folder: sst2(given, folder),
    "LoRA": lambda given, folder: sst2(given, folder, method="lora", train={"learning_rate": None}),
    "over-trained": lambda given, folder: sst2(
        given, folder, train={"learning_rate": 10 * RATE, "epochs": 20}, evaluate=JUDGED
    ),
    "shuffled labels": lambda given, folder: sst2(given, folder, shuffled=True, evaluate=JUDGED),
    "books, then kitchen": books,
    "intents, and none": intents,
    "a tiny causal model": lambda given, folder: sst2(
        given, folder, model=str(given.causal), evaluate=["task", "baselines"], train={"learning_rate": 20 * RATE}
    ),
}

GOOD = {"task": ("accuracy",), "baselines": ("accuracy",), "retention": ("retention",), "stability": ("mean_accuracy",)}
ABOUT = {
    "full training": GOOD,
    "LoRA": GOOD,
    "books, then kitchen": {"task": ("accuracy",), "ood": ("accuracy",)},
    "intents, and none": {"task": ("accuracy",), "ood": ("auroc", "fpr_at_95")},
    "a tiny causal model": {"task": ("accuracy",), "baselines": ("accuracy",)},
}
"""Which figures of which suites are shown of a case."""


def one(given: argparse.Namespace, name: str) -> Values:
    """One case, in this process: verdicts, figures, seconds."""
    import tunesmith

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        began = time.perf_counter()
        run = tunesmith.train(CASES[name](given, folder), out=folder / "run")
        seconds = time.perf_counter() - began
        page = (run.folder / "report.html").read_bytes()
        if given.reports is not None:
            given.reports.mkdir(parents=True, exist_ok=True)
            (given.reports / f"{name.replace(',', '').replace(' ', '-')}.html").write_bytes(page)
        found = run.evaluation
    suites = found["suites"].values()
    return {
        "failed": {word: suite["failed"] for word, suite in found["suites"].items() if "failed" in suite},
        "verdicts": [verdict for suite in suites for verdict in suite.get("verdicts", ())],
        "figures": [
            {"suite": word, **figure} for word, suite in found["suites"].items() for figure in suite["figures"]
        ],
        "training": found["cost"]["seconds"],
        "rest": seconds - found["cost"]["seconds"],
        "page": len(page) / 1e6,
    }


def child(given: argparse.Namespace, name: str) -> Values:
    """One case, in a process of its own."""
    command = [sys.executable, __file__, "--data", str(given.data), "--rows", str(given.rows), "--model", given.model,
               "--causal", str(given.causal), "--one", name]  # fmt: skip
    if given.reports is not None:
        command += ["--reports", str(given.reports)]
    done = subprocess.run(command, capture_output=True, text=True, env=machine.environment(), check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: Values = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def told(one: Values) -> list[str]:
    """The cells of a figure or a verdict from its name on."""
    bounds = "" if one.get("low") is None else f"{one['low']:.3g} to {one['high']:.3g}"
    return ["" if one["value"] is None else f"{one['value']:.3g}", bounds]


def verdicts(found: Mapping[str, Values]) -> list[list[str]]:
    """A row a verdict."""
    return [
        [name, one["aspect"], one["grade"], one["word"], one["figure"], *told(one)]
        for name, case in found.items()
        for one in case["verdicts"]
    ]


def figures(found: Mapping[str, Values]) -> list[list[str]]:
    """The figures that a case is about, a row each."""
    rows = []
    for name, shown in ABOUT.items():
        for one in found[name]["figures"] if name in found else ():
            if one["split"] != "validation" and one["name"] in shown.get(one["suite"], ()):
                of = f"{one['subject']}, {one['split']}"
                rows.append([name, one["suite"], one["name"].replace("_", " "), of, *told(one)])
    return rows


def lines(found: Mapping[str, Values], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    failed = [f"{name}: {word}: {why}" for name, case in found.items() for word, why in case["failed"].items()]
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"{given.model}; {given.rows:,} training rows of SST-2 at most, three epochs, a rate of {RATE:g} for full "
        f"training, {20 * RATE:g} for the tiny causal model, and LoRA's usual one; *over-trained*: 20 epochs at "
        f"{10 * RATE:g}. One seed, but for `stability`.",
        "",
        "## What the reports say",
        "",
        *tables.table(VERDICT, verdicts(found)),
        "",
        "## Figures",
        "",
        *tables.table(HEAD, figures(found)),
        "",
        "## Seconds",
        "",
        "*All the rest* is start, data, every suite of the case, and the report.",
        "",
        *tables.table(TIMES, [
            [name, f"{one['training']:.0f}", f"{one['rest']:.0f}", f"{one['page']:.1f}"] for name, one in found.items()
        ]),
        "",
        *(["Suites that failed: " + "; ".join(failed)] if failed else ["No suite failed."]),
    ]  # fmt: skip


def main() -> None:
    """Run all, or one in this process."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--rows", type=int, default=1500)
    made.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="some of the cases")
    made.add_argument("--causal", type=Path, default=data.SHARED.parent / "models" / "stories260k")
    made.add_argument("--reports", type=Path, help="folder for the reports")
    made.add_argument("--one", help=argparse.SUPPRESS)
    given = options.parse(made, QUICK)
    if given.one:
        print(json.dumps(one(given, given.one)))
        return
    found: dict[str, Values] = {}
    if given.results is not None and given.results.exists():
        found = dict(json.loads(text) for text in given.results.read_text(encoding="utf-8").splitlines())
    for name in given.only:
        if name not in found:
            found[name] = child(given, name)
            if given.results is not None:
                with given.results.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps([name, found[name]]) + "\n")
        print(name, [f"{one['aspect']}: {one['word']}" for one in found[name]["verdicts"]], flush=True)
        tables.write(given.out, "What the suites say", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
