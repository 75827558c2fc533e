"""What the model could do before its training, and still can."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import spearmanr
from torch import nn

from tunesmith.core import column, part
from tunesmith.core.column import Column
from tunesmith.core.errors import RecipeError
from tunesmith.core.finished import Asked, Finished
from tunesmith.core.panel import Bars, Cell, Figure, Panel, Result, Table
from tunesmith.core.rows import Rows, take
from tunesmith.core.seeding import seed_of
from tunesmith.core.world import World
from tunesmith.data.read import read
from tunesmith.evaluate import continuations, features, harness, kept, language, perplexity, probes, stats, verdicts
from tunesmith.evaluate.kept import Measurement
from tunesmith.evaluate.language import LanguageModel
from tunesmith.evaluate.verdicts import Estimate

GENERAL = Path(__file__).parent / "general"
"""Sentences on everyday topics and three sets with classes, written for this project."""
BUILT_IN = ("topic", "question", "number")
BEFORE = "backbone before training"
LABEL_NAMES = ("label", "class", "category", "target")
SCORE_NAMES = ("score", "similarity", "label")


class Retention(part.Suite):
    """What the model could do before its training, and still can: one score, with its parts.

    Formula: score = mean over the parts that apply; each part is the mean over its measurements of what was kept:
    language min(1, P0 / P); similarity max(0, rho), and for scored pairs rho / rho0; probes (a - c) / (a0 - c);
    continuations min(1, Q0 / Q); lm-eval's tasks m / m0 (m0 / m where less is better); all between 0 and 1, where 1
    means that nothing was lost.
    Symbols: 0 before training. P the (pseudo-)perplexity of general text with the head that the backbone was
    pre-trained with; rho a Spearman correlation: of the cosines of all pairs of texts before with those after, or of
    cosines with the user's scores; a the accuracy of a linear probe, c the share of its most frequent class; Q the
    perplexity, under the model before training, of the answers of the model after (Q0: of its own). Shapes: features
    [texts, hidden], the mean over a text's tokens.
    Paper: Salazar et al., "Masked LanguageModel Model Scoring", 2020; Kriegeskorte et al., "Representational Similarity
    Analysis", 2008; Alain and Bengio, "Understanding Intermediate Layers Using Linear Classifier Probes", 2016.
    A probe that was hardly better than chance before (less than 0.05) does not count: it had nothing to lose.
    """

    asks: ClassVar[str] = "Can the model still do what it could before its training?"
    defines: ClassVar[Mapping[str, str]] = {
        "retention": "Share of what the model could do before its training that it still can: the mean over the parts "
        "that apply. 1: nothing was lost.",
        "perplexity": "How surprised the model is by general text, with the head that its backbone was pre-trained "
        "with: exp of the mean loss of a token. Lower is better.",
        "pseudo_perplexity": "As perplexity, for an encoder: each token is hidden alone and told from the others.",
        "similarity": "Spearman's correlation of the cosines of all pairs of general texts before with those after: 1 "
        "where the same texts are alike.",
        "spearman_of_pairs": "Spearman's correlation of the cosines of your pairs of texts with their scores.",
        "probe_*": "Accuracy of a linear classifier on the model's features, on rows that it was not fitted on: what "
        "can still be read from them.",
        "perplexity_of_continuations": "How surprised the model before training is by how the model goes on with plain "
        "beginnings. Lower is better.",
        "changed_continuations": "The share of plain beginnings that are continued otherwise than before. That is no "
        "loss in itself.",
    }

    text: str | None = None
    """A file of general text; sixty plain sentences that come along where not given."""
    texts: int = Field(500, ge=4)
    """Most rows of `text` that are read, the first ones."""
    pairs: str | None = None
    """A file of two texts and their similarity a row, which the cosines of features are compared with."""
    probes: dict[str, str] = Field(default_factory=dict)
    """Files of texts with a class each, by the name of what they probe, beside the three that come along."""
    lm_eval: list[str] = Field(default_factory=list)
    """Tasks of EleutherAI's lm-eval (extra `lm-eval`), asked before and after, of language models that go on."""
    limit: int | None = Field(None, ge=1)
    """Most documents of each of these tasks, the first ones."""

    def check(self, model: nn.Module, world: World) -> None:
        """Refuse tasks that lm-eval does not know, and what can't be asked: RecipeError, MissingExtraError."""
        if not self.lm_eval:
            return
        config: Any = model.config
        if language.kind_of(config) != "causal":
            raise RecipeError(
                f"retention.lm_eval asks models that go on with a text, and a {config.model_type} model does not.",
                hint="Leave it out: what the model was pre-trained for is measured without it.",
            )
        harness.check(self.lm_eval)

    def measure(self, finished: Finished) -> Result:
        """The score, its parts before and after, and a sentence for each part that does not apply."""
        if finished.task.reads != "text":
            return Result([], [Table("What the model kept", ["not measured"], [["The model reads images, no text."]])])
        texts = self._texts()
        found = [*self._language(finished, texts), *self._similarity(finished, texts), *self._probes(finished)]
        found += self._tasks(finished) if self.lm_eval else []
        score = kept.score(found)
        low, high = kept.interval(found) or (None, None)
        figures = [] if score is None else [Figure("retention", score, "general", "model", low, high)]
        for one in found:
            if one.after is not None and math.isfinite(one.after):
                figures.append(Figure(one.name, one.after, "general", "model", one.low, one.high))
            if one.before is not None and math.isfinite(one.before):
                figures.append(Figure(one.name, one.before, "general", BEFORE))
        told = [] if score is None else [verdicts.kept(Estimate(score, *(kept.interval(found) or ())))]
        return Result(figures, _panels(found, score), verdicts=told)

    def _texts(self) -> list[str]:
        path = GENERAL / "sentences.txt" if self.text is None else Path(self.text)
        rows = read(path, [Column("text", None, column.TEXT_NAMES, column.text)]).rows
        return [row["text"] for row in take(rows, slice(0, self.texts))]

    def _language(self, finished: Finished, texts: Sequence[str]) -> list[Measurement]:
        found = language.of(finished)
        if isinstance(found, str):
            return [Measurement("language", "perplexity", None, None, None, why=found)]
        return [_text(finished, found, texts), *(_continued(finished, found) if found.kind == "causal" else [])]

    def _similarity(self, finished: Finished, texts: Sequence[str]) -> list[Measurement]:
        both = [_cosines(features.of_texts(asked, texts)) for asked in (finished.before(), finished.now)]
        places = np.triu_indices(len(texts), 1)
        rho = _spearman(*(one[places] for one in both))
        why = f"Which of {len(texts)} texts are alike, before and after."
        share = None if math.isnan(rho) else max(0.0, rho)
        found = [Measurement("similarity", "similarity", None, rho, share, why=why)]
        if self.pairs is not None:
            columns = [
                Column("text", None, column.TEXT_NAMES, column.text),
                Column("pair", None, column.PAIR_NAMES, column.text),
                Column("score", None, SCORE_NAMES, column.number, "number"),
            ]
            rows = read(Path(self.pairs), columns).rows
            found.append(_pairs(finished, rows))
        return found

    def _tasks(self, finished: Finished) -> list[Measurement]:
        model = language.of(finished)
        if isinstance(model, str):
            return [Measurement("lm-eval", "lm_eval", None, None, None, why=model)]
        before, after = (
            harness.scores(model.over(asked), asked.tokenizer, self.lm_eval, self.limit)
            for asked in (finished.before(), finished.now)
        )
        many = "all documents" if self.limit is None else f"at most {self.limit} documents"
        found = []
        for name, new in after.items():
            old = before[name]
            ratio = kept.of_correlation if new.higher else kept.of_perplexity
            why = f"By lm-eval, on {many}; chance is not taken away."
            share = ratio(old.value, new.value)
            found.append(
                Measurement("lm-eval", name.replace(" ", "_"), old.value, new.value, share, *new.interval, why)
            )
        return found

    def _probes(self, finished: Finished) -> list[Measurement]:
        files = {name: GENERAL / f"{name}.csv" for name in BUILT_IN} | {n: Path(p) for n, p in self.probes.items()}
        return [_probe(finished, name, path) for name, path in files.items()]


def _text(finished: Finished, model: LanguageModel, texts: Sequence[str]) -> Measurement:
    tokenizer, limit = finished.now.tokenizer, min(finished.now.limit, finished.before().limit)
    name = "perplexity" if model.kind == "causal" else "pseudo_perplexity"
    if model.kind == "masked" and tokenizer.mask_token_id is None:
        return Measurement("language", name, None, None, None, why="The tokenizer has no mask token.")
    examples = perplexity.encoded(texts, tokenizer, limit)
    seed = seed_of(finished.seed, "retention")

    def sums(asked: Asked) -> np.ndarray:
        made = model.over(asked)
        if model.kind == "causal":
            return perplexity.causal(made, tokenizer, examples)
        return perplexity.masked(made, tokenizer, examples, seed)

    before, after = perplexity.perplexity(sums(finished.before())), sums(finished.now)
    value = perplexity.perplexity(after)
    low, high = stats.bootstrap(lambda _, drawn: {name: perplexity.perplexity(drawn)}, after, after, seed)[name]
    cut = sum(bool(one["cut"]) for one in examples)
    tokens = int(after[:, 1].sum())
    drawn = " drawn from all" if model.kind == "masked" and tokens == perplexity.HIDDEN else ""
    why = f"{len(texts)} general texts, {tokens:,} tokens{drawn}" + (f", {cut} texts cut." if cut else ".")
    bounds = kept.of_perplexity(before, high), kept.of_perplexity(before, low)
    return Measurement(
        "language", name, before, value, kept.of_perplexity(before, value), _known(low), _known(high), why, *bounds
    )


def _continued(finished: Finished, model: LanguageModel) -> list[Measurement]:
    tokenizer = finished.now.tokenizer
    given = continuations.prompts(tokenizer)
    answers = [continuations.greedy(model.over(asked), tokenizer, given) for asked in (finished.before(), finished.now)]
    old = model.over(finished.before())
    before, after = (perplexity.perplexity(continuations.losses(old, tokenizer, given, one)) for one in answers)
    changed = sum(one != other for one, other in zip(*answers, strict=True)) / len(given)
    name = "perplexity_of_continuations"
    why = f"What the model before training finds of the answers to {len(given)} beginnings."
    return [
        Measurement("continuations", name, before, after, kept.of_perplexity(before, after), why=why),
        Measurement(
            "continuations", "changed_continuations", None, changed, None, why="Share of answers that are others now."
        ),
    ]


def _pairs(finished: Finished, rows: Rows) -> Measurement:
    columns = rows[:]

    def rho(asked: Asked) -> float:
        left, right = (_unit(features.of_texts(asked, list(columns[role]))) for role in ("text", "pair"))
        return _spearman((left * right).sum(axis=1), np.array(columns["score"]))

    before, after = rho(finished.before()), rho(finished.now)
    why = f"Cosines of {len(rows)} pairs beside their scores."
    return Measurement("similarity", "spearman_of_pairs", before, after, kept.of_correlation(before, after), why=why)


def _probe(finished: Finished, name: str, path: Path) -> Measurement:
    columns = [
        Column("text", None, column.TEXT_NAMES, column.text),
        Column("label", None, LABEL_NAMES, column.label),
    ]
    table = read(path, columns).rows[:]
    texts, labels = list(table["text"]), list(table["label"])
    probes.check(name, labels)
    before, after = (
        probes.right(features.of_texts(asked, texts), labels) for asked in (finished.before(), finished.now)
    )
    seed, chance = seed_of(finished.seed, "retention"), probes.chance(labels)
    low, high = stats.bootstrap(lambda _, drawn: {name: float(drawn.mean())}, after, after, seed)[name]
    old, new = float(before.mean()), float(after.mean())
    share = kept.of_accuracy(old, new, chance)
    why = f"Accuracy of a linear probe on {len(texts)} texts; {chance:.3g} by chance."
    why += " Hardly better than that before training: it does not count." if share is None else ""
    bounds = kept.of_accuracy(old, low, chance), kept.of_accuracy(old, high, chance)
    return Measurement("probes", f"probe_{name}", old, new, share, low, high, why, *bounds)


def _panels(found: Sequence[Measurement], score: float | None) -> list[Panel]:
    rows: list[list[Cell]] = [
        [one.part, one.name.replace("_", " "), one.before, one.after, one.share, one.why] for one in found
    ]
    told = "Nothing of it applies to this model." if score is None else f"Kept of everything: {score:.3g}."
    note = f"{told} 1 means that nothing was lost; an empty cell does not count. The score is the mean over parts."
    table = Table("What the model kept", ["part", "measured", "before", "after", "kept", "about"], rows, note)
    counted = [(one.name.replace("_", " "), one.share) for one in found if one.share is not None]
    if not counted:
        return [table]
    names, shares = zip(*counted, strict=True)
    return [table, Bars("Kept, by measurement", names, {"kept": shares}, "", "share kept")]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


def _cosines(vectors: np.ndarray) -> np.ndarray:
    """[texts, hidden] -> [texts, texts]."""
    unit = _unit(vectors)
    found: np.ndarray = unit @ unit.T
    return found


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    # Where all are equal there is no order, about which SciPy would warn.
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(spearmanr(one, other).statistic)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
