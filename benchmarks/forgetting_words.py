"""Does a language model forget its language? `python benchmarks/forgetting_words.py`.

A causal model of 260,000 weights, pre-trained on simple stories, is tuned on Shakespeare, plainly and with each
protection. What it knew is measured on stories that the untouched model wrote (sampled with fixed seeds: some for
`replay` and `ewc` to look back at, others for the test). Shown: the loss (nats a token) on story text before and after,
and on held-out Shakespeare before and after; each a mean over seeds. The page is written as it grows.

Data: tiny_shakespeare/all.txt below --data. Options: --data, --words (of Shakespeare), --stories, --epochs, --seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pairs import data, machine, options, tables

PAGE = "forgetting_words.md"
MODEL = data.SHARED.parent / "models" / "stories260k"
QUICK = {"words": 8000, "stories": 40, "epochs": 1.0, "seeds": 1}
LENGTH = 256
RATE = 1e-3
PLAIN = "full training"
Found = dict[str, float]
VARIANTS: dict[str, list[Mapping[str, Any]]] = {
    PLAIN: [],
    "replay, share 0.25": [{"name": "replay", "share": 0.25, "data": "stories"}],
    "replay, share 0.1": [{"name": "replay", "share": 0.1, "data": "stories"}],
    "distill, strength 1": [{"name": "distill", "strength": 1.0}],
    "distill, strength 0.1": [{"name": "distill", "strength": 0.1}],
    "ewc, strength 1": [{"name": "ewc", "strength": 1.0, "data": "stories"}],
    "ewc, strength 10": [{"name": "ewc", "strength": 10.0, "data": "stories"}],
    "l2_sp, strength 1": [{"name": "l2_sp", "strength": 1.0, "head": 0.0}],
    "l2_sp, strength 10": [{"name": "l2_sp", "strength": 10.0, "head": 0.0}],
}
"""Each by its name in the table; `stories` stands for the file of old texts."""
HEAD = ("what", "stories, after", "lost", "Shakespeare, after", "gained", "seconds", "seeds")


def stories(model: Any, tokenizer: Any, count: int, seed: int) -> list[str]:
    """What the untouched model writes by itself."""
    import torch

    told: list[str] = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        start = torch.full((count, 1), tokenizer.bos_token_id)
        made = model.generate(start, do_sample=True, top_k=0, max_new_tokens=LENGTH - 2, pad_token_id=0)
        told = tokenizer.batch_decode(made, skip_special_tokens=True)
    plain = ("".join(sign if sign.isprintable() else " " for sign in text) for text in told)
    return [" ".join(text.split()) for text in plain if text.strip()]


def write(given: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Shakespeare to train on and to test on, and stories to look back at and to test on: paths by name."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lines = [line for line in (given.data / "tiny_shakespeare" / "all.txt").read_text().split("\n\n") if line.strip()]
    texts = [" ".join(line.split()) for line in lines]
    words = [len(text.split()) for text in texts]
    end = next((place for place in range(len(texts)) if sum(words[:place]) >= given.words), len(texts))
    held_out = max(1, end // 10)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(given.stories_model),
        AutoTokenizer.from_pretrained(given.stories_model),
    )
    parts = {
        "train": texts[held_out:end],
        "test": texts[:held_out],
        "stories": stories(model, tokenizer, given.stories, 1),
        "stories-test": stories(model, tokenizer, max(8, given.stories // 4), 2),
    }
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    return {name: str(folder / f"{name}.txt") for name in parts}


def recipe(
    given: argparse.Namespace, files: Mapping[str, str], parts: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """The recipe of a run."""
    regularizers = [{**part, **({"data": files["stories"]} if part.get("data") else {})} for part in parts]
    return {
        "model": str(given.stories_model),
        "task": {"name": "generate", "format": "text", "max_length": LENGTH},
        "data": {"train": files["train"], "validation": None, "test": files["test"], "near_duplicates": False},
        "regularizers": regularizers,
        "train": {"epochs": given.epochs, "batch_size": 16, "learning_rate": RATE, "seed": seed, "device": "cpu"},
    }


def measure(given: argparse.Namespace, files: Mapping[str, str], name: str, seed: int) -> Found:
    """One run: losses before and after on both texts."""
    import tunesmith
    from tunesmith import prepare
    from tunesmith.data.read import read
    from tunesmith.evaluate import stats
    from tunesmith.evaluate.predict import Predictor

    stats.RESAMPLES = 1  # intervals over rows are not shown
    with tempfile.TemporaryDirectory() as folder:
        run = tunesmith.train(recipe(given, files, VARIANTS[name], seed), out=Path(folder) / "run")
        session = run.session()
        task, after = session.recipe.task, session.backbone
        before = prepare.load_backbone(session.recipe)
        found = {"seconds": float(run.evaluation["cost"]["seconds"])}
        for text, path in (("stories", files["stories-test"]), ("shakespeare", files["test"])):
            rows = read(Path(path), task.columns()).rows
            for when, one in (("before", before), ("after", after)):
                found[f"{text} {when}"] = Predictor(one.model, one.tokenizer, task, one.limit).predict(rows).loss
    return found


def line(name: str, runs: Sequence[Found]) -> list[str]:
    """A row of the table: means, with the lowest and the highest in brackets."""

    def told(values: Sequence[float], form: str = ".3f") -> str:
        return f"{statistics.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    lost = [run["stories after"] - run["stories before"] for run in runs]
    gained = [run["shakespeare before"] - run["shakespeare after"] for run in runs]
    return [
        name, told([run["stories after"] for run in runs]), told(lost, "+.3f"),
        told([run["shakespeare after"] for run in runs]), told(gained, "+.3f"),
        f"{statistics.mean(run['seconds'] for run in runs):.0f}", str(len(runs)),
    ]  # fmt: skip


def lines(found: Mapping[str, list[Found]], given: argparse.Namespace) -> list[str]:
    """The page below its title."""
    first = next(iter(found.values()))[0]
    return [
        f"Made by `{options.called()}` on {machine.facts('cpu')}.",
        f"A causal model of 260,000 weights; {given.words:,} words of Shakespeare, a tenth held out, {given.epochs:g} "
        f"epochs, batches of 16, a rate of {RATE:g}; {given.stories:,} stories to look back at. Loss in nats a token, "
        "means over seeds with the lowest and the highest. Before: "
        f"{first['stories before']:.3f} on stories, {first['shakespeare before']:.3f} on Shakespeare.",
        "",
        *tables.table(HEAD, [line(name, runs) for name, runs in found.items()]),
    ]


def main() -> None:
    """Run all."""
    made = options.parser(__doc__, PAGE)
    made.add_argument("--stories-model", type=Path, default=MODEL, help="folder of the pre-trained model of stories")
    made.add_argument("--words", type=int, default=60_000)
    made.add_argument("--stories", type=int, default=400)
    made.add_argument("--epochs", type=float, default=3.0)
    made.add_argument("--seeds", type=int, default=3)
    given = options.parse(made, QUICK)
    if not given.stories_model.is_dir():
        print(f"forgetting_words: no model at {given.stories_model}; give a folder with --stories-model.")
        return
    found: dict[str, list[Found]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = write(given, Path(folder))
        for seed in range(given.seeds):
            for name in VARIANTS:
                found.setdefault(name, []).append(measure(given, files, name, seed))
                print(name, seed, {key: round(value, 3) for key, value in found[name][-1].items()}, flush=True)
                tables.write(given.out, "Forgetting in a language model", lines(found, given))
    print("\n" + "\n".join(lines(found, given)))


if __name__ == "__main__":
    main()
