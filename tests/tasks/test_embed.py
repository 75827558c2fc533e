"""Vectors of texts: losses by hand, both goals, what is measured, and sentence-transformers' equal vectors."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer

from tests import toy
from tunesmith import api
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.panel import Bars, Points
from tunesmith.core.step import Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import embed_ranking
from tunesmith.tasks.embed import Embed


def toy_rows(count: int) -> list[dict[str, Any]]:
    """Pairs of many lengths with scores in no order, and a negative for every other."""
    rows = []
    for number in range(count):
        texts = [
            " ".join(toy.WORDS[(number * step + i * 3 + step) % 16] for i in range(1 + number * step % 7))
            for step in (5, 3)
        ]
        rows.append({"text": f"{texts[0]} {number}", "pair": f"{number} {texts[1]}", "score": number * 7 % count / 2})
    return rows


def matches(count: int) -> Dataset:
    """Rows of the goal `in_batch`, with a negative for every other."""
    rows = toy_rows(count)
    return Dataset.from_list(
        [
            {"line": n, "text": row["text"], "pair": row["pair"], "negative": row["text"][::-1] if n % 2 else None}
            for n, row in enumerate(rows, 2)
        ]
    )


def taught(*scores: float, **settings: Any) -> Embed:
    task = Embed(**settings)
    task.learn({"text": "a", "pair": f"b {n}", "score": score} for n, score in enumerate(scores or (0.0, 5.0)))
    return task


def stepped(task: Embed, rows: list[Row], vectors: list[list[float]]) -> Any:
    """A step whose texts, all of one token's states, have these vectors."""
    batch = task.collate(task.encode(rows, tiny_tokenizer(), 128), tiny_tokenizer())
    time = batch.inputs["input_ids"].shape[1]
    states = torch.tensor(vectors)[:, None].expand(-1, time, -1)
    return SimpleNamespace(outputs=SimpleNamespace(last_hidden_state=states), batch=batch)


def test_the_cosine_loss_by_hand() -> None:
    # Scores 1 and 4 on the scale from 0 to 5 are 0.2 and 0.8; the cosines are 0.96 and 0.
    rows = [{"text": "a", "pair": "b", "score": 1.0}, {"text": "c", "pair": "d", "score": 4.0}]
    task = taught()
    step = stepped(task, rows, [[3.0, 4.0], [4.0, 3.0], [2.0, 0.0], [0.0, 1.0]])
    assert task.targets(step.batch) == 2
    assert task.loss(step).item() == pytest.approx(0.76**2 + 0.8**2)
    answers, lines = task.decode(step, None)
    assert answers == pytest.approx([0.96, 0.0])
    assert [line["prediction"] for line in lines] == [0.96, 0.0]


def test_the_in_batch_loss_by_hand() -> None:
    # Temperature 1 / log 2, cosines 0 and 1: weights 1 and 2. The second row's negative is like its own first text.
    rows = [{"text": "a", "pair": "b", "negative": None}, {"text": "c", "pair": "d", "negative": "e"}]
    task = Embed(goal="in_batch", temperature=1 / math.log(2))
    vectors = [[1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 2.0]]
    step = stepped(task, rows, vectors)
    assert step.batch.fields["owners"].tolist() == [0, 0, 1, 1, 1]
    assert task.loss(step).item() == pytest.approx(math.log(4 / 2) + math.log(5 / 2))
    # Where the first row's second text stands in the second row too, or is its first, it is no wrong answer there.
    for twin in ({**rows[1], "negative": "b"}, {**rows[1], "negative": "a"}):
        alike = task.loss(stepped(task, [rows[0], twin], vectors)).item()
        assert alike == pytest.approx(math.log(3 / 2) + math.log(5 / 2))


def test_one_text_alone_gives_its_vector() -> None:
    for goal in ("cosine", "in_batch"):
        task = Embed(goal=goal)
        rows: list[Row] = [{"text": "a", "pair": None}, {"text": "b", "pair": "c"}]
        step = stepped(task, rows, [[3.0, 4.0], [1.0, 0.0], [3.0, 4.0]])
        assert "targets" not in step.batch.fields
        answers, lines = task.decode(step, None)
        assert [line["prediction"] for line in lines] == [[0.6, 0.8], 0.6]
        assert np.isnan(answers[0] if goal == "cosine" else answers[0, 1]).all()
    bare = Embed(normalise=False)
    assert bare.decode(stepped(bare, [{"text": "a"}], [[3.0, 4.0]]), None)[1] == [{"prediction": [3.0, 4.0]}]


def test_every_text_of_a_row_is_seen_and_cut_at_the_limit() -> None:
    task = Embed(goal="in_batch", max_length=6)
    (example,) = task.encode([{"text": "abcd", "pair": "abcdef", "negative": "x"}], tiny_tokenizer(), 128)
    seen = task.seen(example, tiny_tokenizer())
    assert [one.name for one in seen] == ["text", "pair", "negative"]
    assert seen[1].tokens == ["<s>", "a", "b", "c", "d", "</s>"]
    assert example["cut"] is True and task.size(example) == 6 + 6 + 3
    (whole,) = task.encode([{"text": "abcd", "pair": "ab", "negative": None}], tiny_tokenizer(), 128)
    assert whole["cut"] is False and len(whole["parts"]) == 2


def test_the_scale_is_learned_or_set_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tunesmith"):
        task = taught(2.0, 4.0)
    assert "Scores from 2 to 4 stand for cosines from 0 to 1." in caplog.text
    (example,) = task.encode([{"text": "a", "pair": "b", "score": 3.5}], tiny_tokenizer(), 128)
    assert example["target"] == 0.75
    (example,) = taught(2.0, 4.0, lowest=0.0, highest=7.0).encode(
        [{"text": "a", "pair": "b", "score": 3.5}], tiny_tokenizer(), 128
    )
    assert example["target"] == 0.5
    again = Embed()
    again.restore(json.loads(json.dumps(task.state())))
    assert again.state() == task.state()


@pytest.mark.parametrize(
    ("settings", "rows", "told"),
    [
        ({"lowest": 3.0}, [1.0, 5.0], "go from 1 to 5, which the scale from 3 to 5 can't hold"),
        ({"highest": 4.0}, [1.0, 5.0], "the scale from 1 to 4 can't hold"),
        ({}, [2.0, 2.0], "the scale from 2 to 2 can't hold"),
    ],
)
def test_scores_beyond_the_scale_are_refused(settings: dict[str, Any], rows: list[float], told: str) -> None:
    with pytest.raises(DataError, match=told):
        taught(*rows, **settings)


def test_rows_that_teach_nothing_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match="line 3: has no second text"):
        Embed().learn([{"line": 2, "text": "a", "pair": "b", "score": 1.0}, {"line": 3, "text": "a", "pair": None}])
    with pytest.raises(DataError, match="the same in all 2 training rows"):
        Embed(goal="in_batch").learn([{"text": "a", "pair": "b"}, {"text": "c", "pair": "b"}])
    with pytest.raises(DataError, match="has no second text"):
        Embed().truths([{"text": "a", "pair": None, "score": 1.0}])
    with caplog.at_level(logging.INFO, logger="tunesmith"):
        Embed(goal="in_batch").learn([{"text": "a", "pair": text} for text in "bbc"])
    assert "2 training rows share their second text" in caplog.text
    with pytest.raises(RecipeError, match="with one row at a time there are none"):
        toy.prepared({"task": {"name": "embed", "goal": "in_batch"}, "train": {"batch_size": 1}}, rows=matches(4))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"negative": "third"}, "goal 'cosine' knows no negative"),
        ({"goal": "in_batch", "score": "score", "lowest": 1.0}, "knows no score and no lowest"),
        ({"lowest": 3.0, "highest": 3.0}, "lowest 3 is not below highest 3"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Embed(**settings)


def test_metrics_of_scores() -> None:
    task = taught()
    truths = task.truths([{"pair": "b", "score": score} for score in (0.0, 1.0, 5.0)])
    found = task.metrics(truths, np.array([0.1, 0.3, 0.35]))
    # Ranks agree; Pearson: deviations (-2, -1, 3) and (-0.15, 0.05, 0.1): 0.55 / sqrt(14 * 0.035).
    assert found == pytest.approx({"spearman": 1.0, "pearson": 0.55 / math.sqrt(14 * 0.035)})
    assert task.metric == "spearman" and not task.couples and task.constant() is None
    # Wanted are the cosines 0, 0.2 and 1.
    assert task.mistakes(truths, np.array([0.1, 0.9, 0.8]), truths).tolist() == [1, 2, 0]
    (panel,) = task.panels(truths, np.array([0.1, 0.3, 0.35]))
    assert isinstance(panel, Points) and panel.xs == [0.0, 1.0, 5.0]


def test_metrics_of_matches() -> None:
    task = Embed(goal="in_batch")
    truths = task.truths([{"pair": text} for text in ("b", "d", "b")])
    assert truths.shape == (3, 2, 9) and (truths[0] == truths[2]).all()
    assert task.metrics(truths, truths) == {"mrr": 1.0, "recall_at_1": 1.0, "recall_at_10": 1.0}
    key = [float(embed_ranking.key_of(text)) for text in "bdb"]
    # The second row's text is behind the first's; the third's is a copy of the first's.
    answers = np.array(
        [[[1, 0, key[0]], [1, 0, key[0]]], [[1, 0, key[1]], [0, 1, key[1]]], [[1, 0, key[2]], [1, 0, key[2]]]]
    )
    assert task.metrics(truths, answers)["mrr"] == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert task.mistakes(truths, answers, np.ones(3)).tolist() == [1]
    (panel,) = task.panels(truths, answers)
    assert isinstance(panel, Bars) and list(panel.series["rows"]) == [2, 1, 0, 0, 0]
    assert task.metric == "mrr" and task.couples


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Anchor", "positive"], {"goal": "in_batch", "text": "Anchor", "pair": "positive"}),
        (["anchor", "positive", "negative"],
         {"goal": "in_batch", "text": "anchor", "pair": "positive", "negative": "negative"}),
        (["text", "pair", "score"], None),
        (["anchor", "text"], None),
    ],
)  # fmt: skip
def test_columns_that_suit(names: list[str], expected: dict[str, Any] | None) -> None:
    assert Embed.suits(names, []) == expected
    if expected is not None:
        roles = ["text", "pair", "negative"]
        assert [column.role for column in Embed(**expected).columns()] == roles
    assert [column.role for column in Embed().columns()] == ["text", "pair", "score"]


@pytest.mark.parametrize(("name", "pooling"), [("builtin:tiny-bert", "mean"), ("builtin:tiny-gpt2", "last")])
def test_every_second_text_is_found_once_learned_by_heart(name: str, pooling: str, tmp_path: Path) -> None:
    values = {"steps": 50, "batch_size": 8, "learning_rate": 3e-3}
    task = {"name": "embed", "goal": "in_batch", "pooling": pooling}
    toyed = toy.prepared({"task": task, "model": name, "train": values}, rows=matches(8))
    toy.train(toyed, tmp_path)
    part, backbone = toyed.recipe.task, toyed.backbone
    predictor = Predictor(backbone.model, backbone.tokenizer, part, backbone.limit)
    found = predictor.predict(toyed.batches.rows)
    metrics = part.metrics(part.truths(list(toyed.batches.rows)), found.answers)
    assert metrics["mrr"] > 0.9 and metrics["recall_at_10"] == 1.0


def test_padding_changes_no_loss() -> None:
    for pooling in ("mean", "first", "last"):
        task = {"name": "embed", "pooling": pooling}
        toyed = toy.prepared({"task": task}, rows=Dataset.from_list([{"line": 2, **row} for row in toy_rows(6)]))
        part, model = toyed.recipe.task, toyed.training.model.eval()
        examples = part.encode(list(toyed.batches.rows), tiny_tokenizer(), 128)
        with torch.no_grad():
            one, *several = [
                sum(part.loss(Step(model, part, part.collate(some, tiny_tokenizer()))).item() for some in parts)
                for parts in ([examples], [[example] for example in examples])
            ]
        assert several == pytest.approx([one], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("builtin:tiny-bert", "mean"),
        ("builtin:tiny-gpt2", "last"),
        ("builtin:tiny-llama", "last"),
        ("builtin:tiny-t5", "first"),
    ],
)
def test_sentence_transformers_makes_the_same_vectors(name: str, pooling: str, tmp_path: Path) -> None:
    task = {"name": "embed", "pooling": pooling, "normalise": pooling != "first", "max_length": 20}
    toyed = toy.prepared({"task": task, "model": name})
    texts = ["oak", "a text that is longer than twenty tokens", "a lamp"]
    assert same_vectors(toyed.backbone, toyed.recipe.task, texts, toy.save(toyed, tmp_path / "model")) < 1e-5


def test_a_merged_run_makes_the_same_vectors(tmp_path: Path) -> None:
    cells = [f'"{row["text"]}","{row["pair"]}",{row["score"]}' for row in toy_rows(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,pair,score", *cells]), encoding="utf-8")
    data = {"train": str(tmp_path / "rows.csv"), "validation": 0.2, "test": 0.2}
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 3e-2, "device": "cpu", "precision": "float32"}
    values = {"model": "builtin:tiny-bert", "task": "embed", "method": "lora", "data": data, "train": train}
    session = api.train(values, out=tmp_path / "run").session()
    session.merge(tmp_path / "merged")
    current = session.current.backbone
    assert same_vectors(current, session.recipe.task, ["oak", "the red lamp"], tmp_path / "merged") < 1e-5
    (answer,) = session.predict(["oak"])
    assert len(answer["prediction"]) == 32
    (answer,) = session.predict([{"text": "oak", "pair": "oak"}])
    assert answer["prediction"] == pytest.approx(1.0, abs=1e-5)


def same_vectors(backbone: Any, task: Any, texts: list[str], folder: Path) -> float:
    """The largest difference between our vectors of texts and those of sentence-transformers from a folder."""
    lines: list[Row] = []
    rows = Dataset.from_list([{"text": text} for text in texts])
    Predictor(backbone.model, backbone.tokenizer, task, backbone.limit).predict(rows, each=lines.append)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts)
    return float(np.abs(np.array([line["prediction"] for line in lines]) - theirs).max())
