"""What was there without this training: baselines beside the trained model, with what each of them cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator
from torch import nn

from tunesmith.core import part
from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.finished import Finished
from tunesmith.core.panel import Result
from tunesmith.core.world import World
from tunesmith.evaluate import (
    baselines_features,
    baselines_language,
    baselines_prompts,
    baselines_table,
    baselines_trained,
    baselines_words,
)
from tunesmith.evaluate.baselines_ground import ROLES, Ground, Missing, Outcome, Told
from tunesmith.evaluate.baselines_language import Choice, Plan
from tunesmith.evaluate.baselines_prompts import TEMPLATES, Wording
from tunesmith.evaluate.unmeasured import unmeasured

TRAINED = ("head_only", "from_scratch")
NAMES = ("constant", "nearest_mean", "neighbours", "tf_idf", "zero_shot", "in_context", *TRAINED)


class Baselines(part.Suite):
    """What was there without this training, and the paired difference of the trained model to it.

    Baselines: the task's constant answer; the nearest class mean and the k nearest training rows in the backbone's
    features before training; TF-IDF of words under a linear model; zero-shot, by the names of the classes; a causal
    language model with examples in its prompt (in context), calibrated; and two further trainings: of the head alone,
    and of the same model from random weights.
    Formula: d = m(model) - m(baseline) on the same rows; zero-shot argmax_c cos(f, f_c), or of a causal language model
    argmax_c 1/n_c sum_t log p(y_t | x, y_<t); calibrated argmax softmax(p / p_blank).
    Symbols: m the main metric; f the mean of the last states over the tokens of a row, f_c of the words of class c; y
    the n_c tokens of these words behind the prompt x; p the softmax of the classes' scores, p_blank behind the same
    examples with the input "N/A". Shapes: answers [rows], scores [rows, classes]; figures and a table.
    Paper: Brown et al., "Language Models are Few-Shot Learners", 2020; Zhao et al., "Calibrate Before Use: Improving
    Few-Shot Performance of Language Models", 2021, whose p is the probability of a label's first token where ours is a
    mean over its tokens; Liu et al., "What Makes Good In-Context Examples for GPT-3?", 2022, for similar ones.
    """

    asks: ClassVar[str] = "Would something without this training have done as well?"
    defines: ClassVar[Mapping[str, str]] = {
        baselines_table.DIFFERENCE: "The trained model's main metric less this baseline's, on the same rows.",
        "p": "How often drawing the rows again would give a difference of 0 or of the other sign, both sides counted.",
    }

    only: list[str] = Field(default_factory=list)
    """The baselines to measure; all where not given."""
    names: dict[str, str] = Field(default_factory=dict)
    """What a class is called where its name says little: {LABEL_1: good}."""
    template: str | None = Field(None, min_length=1)
    """How a row is put to a language model, with {text}, and {pair} where rows have one; the label follows it."""
    rows: int = Field(200, ge=1)
    """Most held-out rows that a language model answers."""
    shots: list[int] = Field(default_factory=lambda: [0, 4])
    """How many examples stand in the prompt, each number a baseline of its own."""
    choose: Choice = "random"
    """Which training rows are the examples: drawn, the classes in turn, or for each row the most similar ones."""
    calibrate: bool = True
    """Whether what the prompt alone prefers is divided out, where examples stand in it or could."""
    orders: int = Field(3, ge=1)
    """In how many orders the same examples are given; the score is the mean over them."""
    trained: bool = True
    """Whether the recipe is trained twice more: its head alone, and from random weights."""
    learn_from: int = Field(10_000, ge=2)
    """Most training rows that a baseline learns from."""

    @field_validator("only")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in NAMES:
                raise ValueError(f"no baseline is called '{name}'. {nearest(name, NAMES)}")
        return value

    @field_validator("shots")
    @classmethod
    def _counts(cls, value: list[int]) -> list[int]:
        if not value or min(value) < 0 or len(set(value)) < len(value):
            raise ValueError(f"{value} must be different numbers of examples, 0 or more: [0, 4]")
        return value

    @field_validator("template")
    @classmethod
    def _fits(cls, value: str | None) -> str | None:
        named = set() if value is None else baselines_prompts.fields(value)
        if value is not None and ("text" not in named or named - set(ROLES)):
            raise ValueError(f"{value!r} must hold {{text}}, may hold {{pair}}, and nothing else in braces")
        return value

    def check(self, model: nn.Module, world: World) -> None:
        """Refuse the name of a class that the model does not have: RecipeError."""
        known = [str(label) for label in getattr(getattr(model, "config", None), "id2label", {}).values()]
        for name in self.names:
            if name not in known:
                raise RecipeError(f"baselines.names: no class is called '{name}'. {nearest(name, known)}")

    def measure(self, finished: Finished) -> Result:
        """Figures of every baseline, and the table of all."""
        split = finished.held_out()
        if split is None:
            return Result(panels=[unmeasured("Baselines", "no rows are held out to compare on")])
        ground = Ground(finished, split, self.learn_from)
        names = [name for name in self.only or NAMES if self.trained or name not in TRAINED]
        found = [_timed(ground, act) for name in names for act in self._acts(ground, name)]
        told = [one for one, _ in found if isinstance(one, Told)]
        missing = [one for one, _ in found if isinstance(one, Missing)]
        seconds = {one.name: taken for one, taken in found}
        compared = baselines_table.compared(ground, told)
        model, verdict = baselines_table.measured(ground), baselines_table.verdict(ground, compared)
        return Result(
            baselines_table.figures(ground, compared),
            [baselines_table.table(ground, compared, missing, seconds, model)],
            verdicts=[] if verdict is None else [verdict],
        )

    def _acts(self, ground: Ground, name: str) -> list[Callable[[], Outcome]]:
        """What measures a baseline: several where it is one for each number of examples."""
        plain = {
            "constant": constant,
            "nearest_mean": baselines_features.nearest_mean,
            "neighbours": baselines_features.neighbours,
            "tf_idf": baselines_words.tf_idf,
            "head_only": baselines_trained.head_only,
            "from_scratch": baselines_trained.from_scratch,
        }
        if name in plain:
            return [partial(plain[name], ground)]
        template = self.template or TEMPLATES.get(ground.roles, "{text}")
        wording = Wording(template, baselines_prompts.worded(ground.labels, self.names))
        plan = Plan(wording, self.rows, self.choose, self.calibrate, self.orders)
        if name == "zero_shot":
            return [partial(baselines_language.zero_shot, ground, plan)]
        return [partial(baselines_language.in_context, ground, plan, count) for count in self.shots]


def constant(ground: Ground) -> Outcome:
    """The task's best answer that looks at no input."""
    known = ground.finished.task.constant()
    if known is None:
        return Missing("constant", f"the task '{ground.finished.task.word()}', as it is set, has no constant answer")
    name, answer = known
    truths = ground.truths("held out")
    rows = ground.finished.train()
    return Told("constant", ground.every, [np.broadcast_to(answer, truths.shape)], 0, len(rows or ()), name)


def _timed(ground: Ground, act: Callable[[], Outcome]) -> tuple[Outcome, float]:
    """What a baseline gives, and its seconds: with those of all features that it needs, whoever computed them first,
    and without loading a model; those of a training are of its updates.
    """
    before, began = sum(ground.spent.values()), time.perf_counter()
    found = act()
    own = time.perf_counter() - began - (sum(ground.spent.values()) - before)
    if isinstance(found, Told) and found.seconds is not None:
        return found, found.seconds
    shared = sum(ground.spent[which] for which in found.uses) if isinstance(found, Told) else 0.0
    return found, own + shared
