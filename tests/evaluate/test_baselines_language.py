"""Zero-shot and in-context answers of tiny models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests import toy
from tests.evaluate import suites
from tunesmith.core.rows import each
from tunesmith.evaluate import baselines_language as told
from tunesmith.evaluate import features
from tunesmith.evaluate.baselines_ground import Ground, Missing, Told
from tunesmith.evaluate.baselines_language import Plan
from tunesmith.evaluate.baselines_prompts import TEMPLATES, Wording, calibrated

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
PLAN = Plan(Wording(TEMPLATES[("text",)], ["maybe so", "no", "yes"]), 6, "random", True, 2)


def ground(model: str = "builtin:tiny-gpt2", count: int = 9, **more: Any) -> Ground:
    return Ground(suites.finished(toy.prepared({"model": model}, count=count), **more), "test", 100)


def test_an_encoder_takes_the_most_similar_name() -> None:
    made = ground("builtin:tiny-bert")
    found = told.zero_shot(made, PLAN)
    texts = features.of_texts(made.before, [row["text"] for row in each(made.rows("held out"))])
    names = features.of_texts(made.before, PLAN.wording.words)
    cosines = torch.nn.functional.cosine_similarity(torch.tensor(texts)[:, None], torch.tensor(names)[None], dim=-1)
    assert isinstance(found, Told) and len(found.places) == 9
    np.testing.assert_array_equal(found.answers[0], cosines.argmax(dim=1).numpy())
    lacking = told.in_context(made, PLAN, 4)
    assert lacking == Missing("in_context (4 examples)", "the backbone is no causal language model")


@pytest.mark.skipif(not STORIES.is_dir(), reason=f"no {STORIES}")
def test_a_real_causal_model_takes_the_likeliest_words() -> None:
    made = ground(str(STORIES))
    found = told.zero_shot(made, PLAN)
    theirs, reader = AutoModelForCausalLM.from_pretrained(STORIES).eval(), AutoTokenizer.from_pretrained(STORIES)
    assert isinstance(found, Told) and len(found.places) == 6
    rows = list(each(made.rows("held out")))
    expected = []
    for place in found.places:
        prompt = PLAN.wording.asked(rows[place])
        before = len(reader(prompt)["input_ids"])
        losses = []
        for word in PLAN.wording.words:
            ids = torch.tensor([reader(f"{prompt} {word}")["input_ids"]])
            labels = ids.clone()
            labels[:, :before] = -100
            losses.append(theirs(input_ids=ids, labels=labels).loss.item())
        expected.append(int(np.argmin(losses)))
    np.testing.assert_array_equal(found.answers[0], expected)


def test_examples_stand_in_the_prompt_in_several_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = ground(), []
    plain = told._asked

    def asked(*args: Any) -> Any:
        found = plain(*args)
        seen.append((args[4], found))
        return found

    monkeypatch.setattr(told, "_asked", asked)
    found = told.in_context(made, PLAN, 2)
    assert isinstance(found, Told) and found.used == 2 and len(found.answers) == 2
    (first, one), (second, other) = seen
    assert first == [first[0]] * 6 and second == [first[0][::-1]] * 6
    assert len(set(made.truths("train")[first[0]])) == 2  # each class has its turn
    assert not np.allclose(one.scores, other.scores)
    np.testing.assert_array_equal(found.answers[1], calibrated(other.scores, other.blank).argmax(axis=1))
    # Without content the prompts of rows differ by how many of the two examples fitted alone.
    assert 1 <= len({tuple(scores) for scores in one.blank.round(6).tolist()}) <= 3


def test_no_examples_have_one_order_and_may_stay_uncalibrated() -> None:
    made = ground()
    plain = told.in_context(made, replace(PLAN, calibrate=False), 0)
    zero = told.zero_shot(made, PLAN)
    assert isinstance(plain, Told) and isinstance(zero, Told) and len(plain.answers) == 1 and plain.used == 0
    np.testing.assert_array_equal(plain.answers[0], zero.answers[0])
    assert "not calibrated" in plain.remark


def test_similar_examples_are_each_rows_own_and_the_nearest_is_last() -> None:
    made = ground()
    found = told._examples(made, replace(PLAN, choose="similar"), np.arange(9), 2)
    assert [one[-1] for one in found] == list(range(9))  # a row that is learned from is most like itself
    answered = told.in_context(made, replace(PLAN, choose="similar"), 2)
    assert isinstance(answered, Told) and set(answered.uses) == {"train", "held out"}


def test_examples_that_do_not_fit_are_counted() -> None:
    made = ground()
    short = replace(made.before, predictor=replace(made.before.predictor, limit=30))  # type: ignore[type-var]
    small = Ground(replace(made.finished, before=lambda: short), "test", 100)
    found = told.in_context(small, PLAN, 2)
    assert isinstance(found, Told)
    assert "24 examples dropped, as prompts were too long; " in found.remark and "lost their beginning" in found.remark


def test_what_is_not_at_hand() -> None:
    made = ground(train=lambda: None)
    assert told.in_context(made, PLAN, 1) == Missing("in_context (1 example)", "the training rows are not at hand")
    assert isinstance(told.in_context(made, PLAN, 0), Told)
    headless = ground(headed=None)
    found = told.zero_shot(headless, PLAN)
    assert isinstance(found, Missing) and found.why.startswith("the backbone can't be asked") and found.why[-1] != "."


def test_orders_differ_and_classes_have_their_turn() -> None:
    assert told.orders(0, 3, 0) == [[]] and told.orders(2, 5, 1) == [[0, 1], [1, 0]]
    four = told.orders(4, 3, 2)
    assert four[0] == [0, 1, 2, 3] and len({tuple(one) for one in four}) == 3 and four == told.orders(4, 3, 2)
    truths = np.array([0] * 20 + [1] * 3 + [2])
    assert sorted(truths[told.by_turns(truths, 3, 0)]) == [0, 1, 2]
    assert sorted(truths[told.by_turns(truths, 7, 0)]) == [0, 0, 0, 1, 1, 1, 2]
