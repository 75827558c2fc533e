"""What a model's folder holds, and the few lines with which others load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from tunesmith.core import delta, difference
from tunesmith.core.errors import UserError
from tunesmith.core.part import Task
from tunesmith.models import load as loading
from tunesmith.models import stack

TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForSeq2SeqLM": "text-generation",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForTextEncoding": "feature-extraction",
    "AutoModel": "feature-extraction",
}
"""What the hub calls the work of a model that one of transformers' classes loads."""
PIPELINES = {
    "text-classification": '"a text"',
    "token-classification": '"a text"',
    "fill-mask": 'f"a {ask.tokenizer.mask_token} text"',
    "image-classification": '"picture.jpg"',
}
"""The work for which transformers has a pipeline that answers as the task does, with what to ask."""
PIPELINE = """from transformers import pipeline

ask = pipeline("{tag}", model="path/of/this/folder")
print(ask({row}))"""
CLASS = """from transformers import {kind}, {reader}

model = {kind}.from_pretrained("path/of/this/folder")
reader = {reader}.from_pretrained("path/of/this/folder")"""
VECTORS_OF = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/of/this/folder")
vectors = model.encode(["a text"])"""
PEFT = """from peft import PeftModel
from transformers import AutoConfig, {kind}

config = AutoConfig.from_pretrained("path/of/this/folder")
backbone = {kind}.from_pretrained("{base}", config=config)
model = PeftModel.from_pretrained(backbone, "path/of/this/folder")"""
TUNESMITH = """import tunesmith

session = tunesmith.load("path/of/the/run")
answers = session.predict([{row}])"""
VECTORS = "modules.json"
"""The file by which sentence-transformers knows a model."""


@dataclass(frozen=True)
class Held:
    """What a folder holds. kind: `model` (all of it), `peft` (a delta that peft reads), `delta` or `difference` (that
    tunesmith alone reads). auto_class: the transformers class of the model. vectors: whether sentence-transformers
    reads it. single: whether a row is one text or one image. reads: which.
    """

    kind: str
    auto_class: str
    vectors: bool = False
    single: bool = True
    reads: str = "text"

    @property
    def library(self) -> str:
        """The library that loads it."""
        return {"model": "transformers", "peft": "peft"}.get(self.kind, "tunesmith")

    @property
    def tag(self) -> str | None:
        """What the hub calls its work."""
        return "sentence-similarity" if self.vectors else TAGS.get(self.auto_class)


def held(folder: Path, task: Task) -> Held:
    """What the folder of a model of this task holds."""
    kind = "model"
    if difference.there(folder):
        kind = "difference"
    elif (folder / delta.OWN).is_file() or (folder / stack.EARLIER).is_dir():
        kind = "delta"
    elif (folder / delta.CONFIG).is_file():
        kind = "peft"
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        found = loading.class_for(config, task.auto_classes, str(folder)).__name__
    except (UserError, OSError, ValueError):
        found = task.auto_classes[0]
    inputs = [column for column in task.columns() if not column.target and not column.optional]
    return Held(kind, found, (folder / VECTORS).is_file(), len(inputs) == 1, task.reads)


def ways(held: Held, base: str | None, *, run: bool) -> list[tuple[str, str]]:
    """Ways to load it: a sentence and code each. base: the backbone's name on the hub. run: whether the folder is a
    run's `model/`.
    """
    found = []
    if held.kind == "model":
        found.append(("With transformers alone:" if not held.vectors else "With sentence-transformers:", _whole(held)))
    if held.kind == "peft":
        found.append(("With peft:", PEFT.format(kind=held.auto_class, base=base or "path/of/the/backbone")))
    if run:
        told = "With tunesmith, which answers as was measured (the run's folder holds this one as `model/`):"
        row = ('"picture.jpg"' if held.reads == "images" else '"a text"') if held.single else '{"column": "value"}'
        found.append((told, TUNESMITH.format(row=row)))
    return found


def caution(settings: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """What a library that knows nothing of the task leaves out; empty where that is nothing. settings: the recipe's
    section `task`. state: what the task learned.
    """
    told = []
    if {"mean", "scale"} <= state.keys():
        mean, scale = (f"{float(state[key]):.6g}" for key in ("mean", "scale"))
        told.append(f"The model gives a number z; in the unit of the training rows it is {mean} + {scale} z.")
    if settings.get("both_orders"):
        told.append("The outputs for both orders of the two texts are added.")
    if state.get("no_answer"):
        told.append(f"No answer is given where it scores above the best span by {float(state['threshold']):.6g}.")
    return " ".join(told)


def _whole(held: Held) -> str:
    if held.vectors:
        return VECTORS_OF
    if held.tag in PIPELINES and held.single:
        return PIPELINE.format(tag=held.tag, row=PIPELINES[held.tag])
    reader = "AutoImageProcessor" if held.reads == "images" else "AutoTokenizer"
    return CLASS.format(kind=held.auto_class, reader=reader)
