"""What the backbone knows of the classes by their names, and from a few examples, before any training.

zero-shot   an encoder: the class whose words have the features most like the row's (cosine of means over tokens). A
            causal language model: the class whose words are likeliest behind the row, by their mean a token
in context  a causal language model, with labelled training rows before the row, and what the prompt alone prefers
            divided out (`baselines_prompts.calibrated`)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from tunesmith.core.column import Row
from tunesmith.core.rows import take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import baselines_features, features
from tunesmith.evaluate.baselines_ground import Ground, Missing, Outcome, Told, Which
from tunesmith.evaluate.baselines_prompts import Encoder, Wording, calibrated, likelihoods

ROWS = 32
"""Rows whose prompts are held at once."""
Choice = Literal["random", "similar"]


@dataclass(frozen=True)
class Plan:
    """How a language model is asked. rows: most held-out rows. orders: in how many the same examples are given."""

    wording: Wording
    rows: int
    choose: Choice
    calibrate: bool
    orders: int


@dataclass(frozen=True)
class Asked:
    """Scores of the classes, and of those behind the same prompt without content, each [rows, classes]; how many
    examples were dropped, and how many rows lost their beginning.
    """

    scores: np.ndarray
    blank: np.ndarray
    dropped: int
    cut: int


def zero_shot(ground: Ground, plan: Plan) -> Outcome:
    """The class whose words fit the row best."""
    if why := ground.lacks("class", "texts"):
        return Missing("zero_shot", why)
    if not ground.causal:
        return _similar_names(ground, plan.wording.words)
    if isinstance(ground.language, str):
        return Missing("zero_shot", _lowered(ground.language))
    places = ground.some(plan.rows)
    asked = _asked(ground, ground.language, plan, places, [[] for _ in places], False)
    remark = f"likelihood of worded classes{_losses(asked)}"
    return Told("zero_shot", places, [asked.scores.argmax(axis=1)], remark=remark)


def in_context(ground: Ground, plan: Plan, count: int) -> Outcome:
    """The likeliest class behind so many examples."""
    name = f"in_context ({count} example{'' if count == 1 else 's'})"
    if why := ground.lacks("class", "texts"):
        return Missing(name, why)
    if not ground.causal:
        return Missing(name, "the backbone is no causal language model")
    if isinstance(ground.language, str):
        return Missing(name, _lowered(ground.language))
    if why := ground.lacks("rows") if count else "":
        return Missing(name, why)
    return _with_examples(ground, ground.language, plan, count, name)


def orders(count: int, most: int, seed: int) -> list[list[int]]:
    """At most `most` different orders of `count` things: as they are, and then as the seed says."""
    draw = np.random.default_rng(seed)
    found = [list(range(count))]
    while len(found) < min(most, math.factorial(count)):
        order = draw.permutation(count).tolist()
        if order not in found:
            found.append(order)
    return found


def by_turns(truths: np.ndarray, count: int, seed: int) -> list[int]:
    """Places of `count` rows, drawn so that every class has its turn: one row of each, then a second of each, …"""
    drawn = np.random.default_rng(seed).permutation(len(truths))
    seen: dict[int, int] = {}
    turns = []
    for truth in truths[drawn].tolist():
        seen[truth] = turns_before = seen.get(truth, -1) + 1
        turns.append(turns_before)
    found: list[int] = drawn[np.argsort(turns, kind="stable")[:count]].tolist()
    return found


def _with_examples(ground: Ground, model: nn.Module, plan: Plan, count: int, name: str) -> Told:
    places = ground.some(plan.rows)
    examples = _examples(ground, plan, places, count)
    seed = seed_of(ground.finished.seed, f"orders of {count}")
    asked = []
    for order in orders(count, plan.orders, seed):
        turned = [[one[place] for place in order if place < len(one)] for one in examples]
        asked.append(_asked(ground, model, plan, places, turned, plan.calibrate))
    scores = [calibrated(one.scores, one.blank) if plan.calibrate else one.scores for one in asked]
    how = {0: "no examples"}.get(count, f"{count} in a prompt, {_CHOSEN[plan.choose]}")
    remark = f"{how}, {'calibrated' if plan.calibrate else 'not calibrated'}{_losses(*asked)}"
    uses: tuple[Which, ...] = ("train", "held out") if count and plan.choose == "similar" else ()
    used = len({place for one in examples for place in one})
    return Told(name, places, [one.argmax(axis=1) for one in scores], 0, used, remark, uses)


_CHOSEN = {"random": "drawn at random, the classes in turn", "similar": "the most similar, the nearest last"}


def _examples(ground: Ground, plan: Plan, places: np.ndarray, count: int) -> list[list[int]]:
    """For every row the places of its examples among the training rows."""
    if not count:
        return [[] for _ in places]
    if plan.choose == "random":
        drawn = by_turns(ground.truths("train"), count, seed_of(ground.finished.seed, f"{count} examples"))
        return [drawn for _ in places]
    mean = ground.features("train").mean(axis=0, dtype=np.float64)
    train, rows = (baselines_features.units(ground.features(which), mean) for which in ("train", "held out"))
    near = baselines_features.nearest(rows[places], train, min(count, len(train)))
    found: list[list[int]] = near[:, ::-1].tolist()
    return found


def _asked(
    ground: Ground, model: nn.Module, plan: Plan, places: np.ndarray, examples: Sequence[Sequence[int]], blank: bool
) -> Asked:
    """What the model finds of the classes of rows, behind the training rows at `examples` of each."""
    asked, wording = ground.before, plan.wording
    encoder = Encoder(asked.tokenizer, asked.limit, wording.words)
    shown = _shown(ground, wording, examples)
    rows: list[Row] = take(ground.rows("held out"), places.tolist())
    scores, plain, dropped, cut = [], [], 0, 0
    for start in range(0, len(rows), ROWS):
        some = range(start, min(start + ROWS, len(rows)))
        given = [[shown[place] for place in examples[number]] for number in some]
        prompts = [encoder.prompt(one, wording.asked(rows[number])) for number, one in zip(some, given, strict=True)]
        dropped += sum(len(one) - len(prompt.kept) for one, prompt in zip(given, prompts, strict=True))
        cut += sum(prompt.cut for prompt in prompts)
        scores.append(_scored(model, encoder, [prompt.pairs for prompt in prompts]))
        if blank:
            # Of rows with the same examples there is one such prompt.
            kept = list(dict.fromkeys(prompt.kept for prompt in prompts))
            told = _scored(model, encoder, [encoder.prompt(one, wording.blank()).pairs for one in kept])
            plain.append(told[[kept.index(prompt.kept) for prompt in prompts]])
    return Asked(np.concatenate(scores), np.concatenate(plain) if blank else np.zeros(0), dropped, cut)


def _scored(model: nn.Module, encoder: Encoder, pairs: Sequence[Sequence[tuple[list[int], list[int]]]]) -> np.ndarray:
    flat = likelihoods(model, encoder.tokenizer, [pair for one in pairs for pair in one])
    return flat.reshape(len(pairs), len(encoder.words))


def _shown(ground: Ground, wording: Wording, examples: Sequence[Sequence[int]]) -> dict[int, str]:
    """The training rows that are needed, as examples with their labels."""
    needed = sorted({place for one in examples for place in one})
    if not needed:
        return {}
    rows = take(ground.rows("train"), needed)
    truths = ground.finished.task.truths(rows).tolist()
    return {place: wording.shown(row, truth) for place, row, truth in zip(needed, rows, truths, strict=True)}


def _similar_names(ground: Ground, words: Sequence[str]) -> Told:
    asked = ground.before
    names = features.of_texts(asked, words).astype(np.float64)  # [classes, hidden]
    rows, classes = (baselines_features.units(one, np.zeros(1)) for one in (ground.features("held out"), names))
    remark = "similarity of features before training to those of the classes' names"
    return Told("zero_shot", ground.every, [(rows @ classes.T).argmax(axis=1)], remark=remark, uses=("held out",))


def _losses(*asked: Asked) -> str:
    dropped, cut = sum(one.dropped for one in asked), sum(one.cut for one in asked)
    told = f"; {dropped:,} examples dropped, as prompts were too long" if dropped else ""
    return told + (f"; {cut:,} prompts lost their beginning" if cut else "")


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:].rstrip(".")
