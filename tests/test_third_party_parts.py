"""A package of somebody else's adds a method, a task and a regularizer: three files, and nothing shared is edited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import toy
from tests.architecture.source import ROOT

METHOD = '''
"""The last block and the head train."""

import torch
from torch import nn

from tunesmith.core import anatomy, surgery
from tunesmith.core.part import Method


class LastBlock(Method):
    """Train the last block of every stack, and the head.

    Formula: w <- w - rate * AdamW(gradient), for w of the last blocks and the head.
    Shapes: unchanged. Paper: none.
    """

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        surgery.freeze(model)
        for module in self._chosen(model):
            surgery.thaw(module)

    def expected(self, model: nn.Module) -> int:
        return sum(p.numel() for module in self._chosen(model) for p in module.parameters())

    def _chosen(self, model: nn.Module) -> list[nn.Module]:
        return [blocks[-1] for blocks in anatomy.stacks(model).values()] + list(anatomy.head(model).values())
'''

TASK = '''
"""How many letters a text has."""

from typing import Any, ClassVar

import numpy as np
import torch

from tunesmith.core import column, tokens
from tunesmith.core.column import Column
from tunesmith.core.part import Task


class Length(Task):
    """Give the length of a text, in tens of letters.

    Formula: loss (z - length / 10)^2. Shapes: z [batch]. Paper: none.
    """

    metric: ClassVar[str] = "mean_error"
    higher_is_better: ClassVar[bool] = False
    defines: ClassVar[dict[str, str]] = {"mean_error": "How far off a length is on average."}
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForSequenceClassification",)

    text: str | None = None
    """Column of the text."""
    length: str | None = None
    """Column of the length."""

    def columns(self):
        return [
            Column("text", self.text, ("text",), column.text),
            Column("length", self.length, ("length",), column.number, storage="number", target=True),
        ]

    def head(self) -> dict[str, Any]:
        return {"num_labels": 1}

    def encode(self, rows, tokenizer, limit):
        examples = tokens.encode_texts(rows, tokenizer, limit)
        for example, row in zip(examples, rows, strict=True):
            if "length" in row:
                example["target"] = row["length"] / 10
        return examples

    def collate(self, examples, tokenizer):
        known = "target" in examples[0]
        fields = {"targets": torch.tensor([one["target"] for one in examples])} if known else {}
        return tokens.batch_of(examples, tokenizer, fields)

    def targets(self, batch):
        return float(len(batch.fields["targets"]))

    def loss(self, step):
        return ((step.outputs.logits.squeeze(-1).float() - step.batch.fields["targets"].float()) ** 2).sum()

    def decode(self, step, tokenizer):
        answers = step.outputs.logits.squeeze(-1).double().cpu().numpy() * 10
        return answers, [{"prediction": float(answer)} for answer in answers]

    def truths(self, rows):
        return np.array([row["length"] for row in rows], dtype=float)

    def metrics(self, truths, answers):
        return {"mean_error": float(np.abs(truths - answers).mean())}

    def constant(self):
        return "zero", 0.0

    def mistakes(self, truths, answers, confidences):
        return np.argsort(-np.abs(truths - answers))
'''

REGULARIZER = '''
"""Small biases."""

from pydantic import Field

from tunesmith.core.part import Part


class SmallBiases(Part):
    """Penalise the size of the biases that train.

    Formula: strength * sum b^2. Shapes: a scalar. Paper: none.
    """

    strength: float = Field(0.1, ge=0)
    """Pull towards zero."""

    def loss(self, step):
        if self.strength == 0:
            return None
        biases = [p for name, p in step.model.named_parameters() if name.endswith("bias")]
        return step.share * self.strength * sum((p.float() ** 2).sum() for p in biases)
'''

PARTS = {"methods": "last_block", "tasks": "length", "regularizers": "small_biases"}

RECIPE = """
model: builtin:tiny-bert
task: {{name: length}}
data: {{train: {rows}, validation: 0.2, test: 0.2}}
method: last_block
regularizers: [{{name: small_biases, strength: 0.01}}]
train: {{epochs: 1, batch_size: 8, device: cpu, precision: float32}}
"""

Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Run Python in a process for which the package of parts is installed."""
    folder = tmp_path_factory.mktemp("site")
    for (kind, name), text in zip(PARTS.items(), (METHOD, TASK, REGULARIZER), strict=True):
        (folder / "toy_parts" / kind).mkdir(parents=True)
        (folder / "toy_parts" / kind / f"{name}.py").write_text(text.lstrip())
    (folder / "toy_parts" / "__init__.py").touch()
    installed = folder / "toy_parts-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-parts\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[tunesmith.parts]\ntoy = toy_parts\n")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    return run


def command(*arguments: str) -> tuple[str, ...]:
    return ("-c", "import sys; from tunesmith.cli import main; sys.exit(main())", *arguments)


def test_they_are_listed(shell: Shell) -> None:
    done = shell(*command("list", "--json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["methods"]["last_block"] == "Train the last block of every stack, and the head."
    assert all(name in found[kind] for kind, name in PARTS.items())


def test_a_recipe_names_them(shell: Shell, tmp_path: Path) -> None:
    texts = [f"{' '.join(toy.WORDS[: n % 9 + 1])} {n}" for n in range(40)]
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(["text,length", *[f"{text},{len(text)}" for text in texts], ""]))
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(rows=rows))
    done = shell(*command("train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--json"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["title"] == "length with last_block on builtin:tiny-bert"
    assert {one["name"] for one in found["suites"]["task"]["figures"]} == {"mean_error"}
    step = next(line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if '"step"' in line[:18])
    assert set(json.loads(step)["losses"]) == {"supervised", "small_biases"}


def test_the_contract_tests_find_them(shell: Shell) -> None:
    # All but the slowest one, which trains until eight examples are known.
    chosen = f"({' or '.join(PARTS.values())}) and not by_heart"
    done = shell("-m", "pytest", "tests/contracts", "-k", chosen, "-p", "no:cacheprovider", "-rA", "--tb=short", "-q")
    assert done.returncode == 0, done.stdout[-3000:]
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    for name, contract in zip(PARTS.values(), ("test_methods", "test_tasks", "test_regularizers"), strict=True):
        for file in ("test_parts", contract):
            assert any(f"{file}.py" in line and name in line for line in passed), f"no test of {file} ran for {name}"
