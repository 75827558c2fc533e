"""Robustness: what becomes of the answers when texts are written otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator
from torch import nn

from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.finished import Finished
from tunesmith.core.notes import note
from tunesmith.core.panel import Result
from tunesmith.core.part import Suite
from tunesmith.core.world import World
from tunesmith.evaluate import (
    robustness_attack,
    robustness_checked,
    robustness_checks,
    robustness_contrast,
    robustness_measure,
    robustness_negation,
    robustness_rows,
)
from tunesmith.evaluate.robustness_changes import CHANGES


class Robustness(Suite):
    """The task's metric on held-out texts that are written otherwise and mean the same, at several strengths.

    Formula: d = M(y, f(c_s(x))) - M(y, f(x)), with a bootstrap interval over rows that are drawn alike for both; the
    mean of a change is the area under M over s from 0 to the greatest strength, divided by it; the mean of all changes
    is the mean of theirs.
    Symbols: x texts, y their labels, f the model, M the task's metric, c_s a change of the share s of the places where
    it can be made. Shapes: figures and panels.
    Changes: typing errors, letters that look alike, small and capital letters, blanks, closing marks, short forms,
    names, numbers, a further sentence. Labels stay, or move with the text. Besides: negated texts, a user's own checks,
    contrast pairs, an attack.
    Paper: Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList", 2020, for the checks;
    Gardner et al., "Evaluating Models' Local Decision Boundaries via Contrast Sets", 2020; Jin et al., "Is BERT Really
    Robust?", 2020, for the attack, of which ours is a simplified form. The changes are those of many others.
    """

    asks: ClassVar[str] = "Do the answers stay when texts are written otherwise and mean the same?"
    defines: ClassVar[Mapping[str, str]] = {
        "difference": "The task's main metric on the changed texts less the same on the texts as they were.",
        "answers changed": "The share of rows that are answered otherwise after the change.",
        "mean *": "The task's main metric on changed texts: the mean over strengths from 0 on, and over all changes.",
        "share lost": "How much worse the mean over all changes is than on the texts as they were, as a share of that.",
        "score fell": "The share of negated texts in which the model's score of its answer fell.",
        "failed": "The share of the cases of a check that failed.",
        "both right": "The share of contrast pairs with both answers right.",
        "right": "The share of rows of contrast pairs that are answered rightly.",
        "words exchanged": "The share of a text's words that the attack exchanged before the answer turned.",
        "texts asked": "How many texts the attack asked the model about, for each row.",
    }

    changes: list[str] | None = Field(None, min_length=1)
    """Which changes are tried; all that keep the labels of the task where not given."""
    strengths: list[float] = Field([0.1, 0.3, 0.5], min_length=1)
    """Shares of the places (mostly words) that are changed, each above 0 and at most 1."""
    rows: int = Field(500, ge=1)
    """Most held-out rows that are changed, drawn by the run's seed."""
    tolerance: float = Field(0.1, ge=0)
    """How far numbers may be apart and count as the same answer, in standard deviations of the right ones."""
    examples: int = Field(2, ge=0)
    """How many changed texts are shown for each change."""
    negation: bool = True
    """Whether negated texts are tried too, for classes of a single text."""
    checks: str | None = None
    """A YAML file of checks: texts with their answers, texts that must be answered alike, scores that must move."""
    contrast: str | None = None
    """A labelled file whose consecutive rows are pairs that differ in little."""
    attack: bool = False
    """Whether words are exchanged until the answer turns, for classes of a single text."""
    attacked: int = Field(100, ge=1)
    """Most rows that are attacked, of those that are answered rightly."""
    cosine: float = Field(0.5, ge=-1, le=1)
    """How near the input embedding of a word must be to that of the word for which it stands in."""
    substitutes: int = Field(20, ge=1)
    """Most words that are tried in the place of one."""

    @field_validator("changes")
    @classmethod
    def _known(cls, value: list[str] | None) -> list[str] | None:
        strange = [name for name in value or [] if name not in CHANGES]
        if strange:
            raise ValueError(f"'{strange[0]}' is no change. {nearest(strange[0], CHANGES)}")
        return value

    @field_validator("strengths")
    @classmethod
    def _shares(cls, value: list[float]) -> list[float]:
        wrong = [strength for strength in value if not 0 < strength <= 1]
        if wrong or len(set(value)) < len(value):
            raise ValueError(f"{value} is not a list of different shares above 0 and at most 1")
        return value

    def check(self, model: nn.Module, world: World) -> None:
        """Refuse files that are not there, and checks that are wrong in themselves, before a training begins."""
        if self.checks is not None:
            robustness_checks.read(Path(self.checks))
        if self.contrast is not None and not Path(self.contrast).exists():
            raise RecipeError(f"The file of contrast pairs {self.contrast} does not exist.", hint="Give its path.")

    def measure(self, finished: Finished) -> Result:
        """Figures of the test split (of the validation split where there is none), and panels. A task whose texts can't
        be changed raises RecipeError with the reason.
        """
        laid = robustness_rows.layout(finished.task)
        split = finished.held_out()
        if split is None:
            raise RecipeError("Robustness needs held-out rows.", hint="Set data.test or data.validation.")
        ground = robustness_measure.ground(finished, laid, split, self.rows, self.tolerance)
        if len(ground.places) < len(ground.rows):
            note(f"Robustness: {len(ground.places):,} of {len(ground.rows):,} {split} rows are changed.")
        found = [self._changed(ground)]
        if self.negation:
            found.append(robustness_negation.measured(ground, self.examples))
        if self.checks is not None:
            checks = robustness_checks.read(Path(self.checks))
            found.append(robustness_checked.measured(ground, checks, self.examples))
        if self.contrast is not None:
            found.append(robustness_contrast.measured(ground, Path(self.contrast), self.examples))
        if self.attack:
            near = robustness_attack.neighbours(finished.now, self.substitutes, self.cosine)
            found.append(robustness_attack.measured(ground, self.attacked, near, self.examples))
        return Result(
            [figure for one in found for figure in one.figures],
            [panel for one in found for panel in one.panels],
            verdicts=[verdict for one in found for verdict in one.verdicts],
        )

    def _changed(self, ground: robustness_measure.Ground) -> Result:
        suited = ground.laid.known()
        names = [name for name in CHANGES if name in (self.changes or suited)]
        unsuited = [name for name in names if name not in suited]
        if unsuited:
            note(f"Robustness: not tried, as labels may change with them or can't follow: {', '.join(unsuited)}.")
        tried = robustness_measure.trials(ground, [name for name in names if name in suited], self.strengths)
        return robustness_measure.measured(ground, tried, self.examples)
