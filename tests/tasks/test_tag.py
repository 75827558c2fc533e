"""Tagging: the loss of each word once, windows joined again, answers and entities, wrong tags told before training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import pipeline

from tests import toy
from tests.tasks.test_tag_windows import byte_level, word_piece
from tunesmith.core import tokens
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Table
from tunesmith.core.step import Batch, Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.regress import Regress
from tunesmith.tasks.tag import Tag

KINDS = {"amber": "B-colour", "cedar": "B-wood", "maple": "B-wood", "jade": "B-colour", "iris": "O", "basil": "O"}


def toy_rows(count: int) -> list[dict[str, Any]]:
    """Sentences of 2 to 9 words whose entities follow from the words; some entities have two words."""
    rows = []
    for number in range(count):
        words = [toy.WORDS[(number * 5 + place * 3) % 16] for place in range(2 + number % 8)]
        tags = [KINDS.get(word, "O") for word in words]
        for place in range(1, len(tags)):
            if tags[place - 1].startswith("B-") and words[place] in ("delta", "lotus", "olive", "heron", "pearl"):
                tags[place] = f"I-{tags[place - 1][2:]}"
        rows.append({"words": words, "tags": tags})
    return rows


def row(words: str, tags: str, line: int = 1) -> Row:
    return {"words": words.split(), "tags": tags.split(), "line": line}


def taught(rows: list[Row] | None = None, **settings: Any) -> Tag:
    """A task that has learned from rows."""
    task = Tag(**settings)
    task.learn(rows or [row("oak desk in York", "B-wood O O B-place")])
    return task


def outputs(task: Tag, examples: list[dict[str, Any]], chosen: dict[int, list[str]]) -> tuple[Any, Batch]:
    """A step whose model gives each word the tag chosen for it (by example), with probability 3/4."""
    batch = task.collate(examples, tiny_tokenizer())
    names = list(task.head()["label2id"])
    words, owners = batch.fields["words"], batch.fields["owners"]
    logits = torch.zeros(*words.shape, len(names))
    for part, owner in enumerate(owners.tolist()):
        for place, word in enumerate(words[part].tolist()):
            if word >= 0:
                # 3 (n - 1) against n - 1 ones: 3/4.
                logits[part, place, names.index(chosen[owner][word])] = math.log(3 * (len(names) - 1))
    return toy.outputs_of(logits, batch), batch


def test_the_loss_by_hand() -> None:
    task = taught([row("a b", "O B-x"), row("cd", "B-x")])
    examples = task.encode([row("a b", "O B-x"), row("cd", "B-x")], tiny_tokenizer(), 128)
    batch = task.collate(examples, tiny_tokenizer())
    # <s> a _ b </s> and <s> c d </s>: the first byte of each word alone carries its tag.
    ignored = tokens.IGNORED
    assert batch.fields["targets"].tolist() == [
        [ignored, 0, ignored, 1, ignored],
        [ignored, 1, ignored, ignored, ignored],
    ]
    assert task.targets(batch) == 3
    logits = torch.zeros(2, 5, 2)
    logits[0, 1] = torch.tensor([math.log(3), 0.0])  # O: 3/4
    logits[0, 3] = torch.tensor([0.0, math.log(4)])  # B-x: 4/5
    logits[:, 2], logits[:, 0], logits[:, 4] = 99.0, -99.0, 77.0  # carry no loss
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=logits), batch=batch)
    assert task.loss(step).item() == pytest.approx(math.log(4 / 3) + math.log(5 / 4) + math.log(2), rel=1e-6)


def test_answers_by_hand() -> None:
    task = taught([row("a b c d", "B-x I-x O B-y")])
    rows = [row("an oak desk", "O O O"), {"words": ["in ", " York "]}]
    examples = [*task.encode(rows[:1], tiny_tokenizer(), 128), *task.encode(rows[1:], tiny_tokenizer(), 128)]
    del examples[0]["parts"][0]["labels"]
    step, _ = outputs(task, examples, {0: ["B-x", "I-x", "O"], 1: ["I-x", "B-y"]})
    answers, lines = task.decode(step, tiny_tokenizer())
    assert answers.tolist() == [("B-x", "I-x", "O"), ("I-x", "B-y")]
    assert lines[0] == {
        "words": ["an", "oak", "desk"],
        "prediction": ["B-x", "I-x", "O"],
        "entities": [{"type": "x", "text": "an oak", "start": 0, "end": 2, "confidence": 0.75}],
        "confidence": 0.75,
    }
    # The second row was one text, so that places in it are told too; I-x alone is read leniently.
    assert lines[1]["words"] == ["in", "York"]
    assert lines[1]["entities"] == [
        {"type": "x", "text": "in", "start": 0, "end": 1, "start_char": 0, "end_char": 2, "confidence": 0.75},
        {"type": "y", "text": "York", "start": 1, "end": 2, "start_char": 4, "end_char": 8, "confidence": 0.75},
    ]
    json.dumps(lines)


def test_parts_of_speech_have_no_entities() -> None:
    task = taught([row("an old desk", "DET ADJ NOUN")])
    (example,) = task.encode([{"words": ["a", "desk"]}], tiny_tokenizer(), 128)
    step, _ = outputs(task, [example], {0: ["DET", "NOUN"]})
    answers, (line,) = task.decode(step, tiny_tokenizer())
    assert line == {"words": ["a", "desk"], "prediction": ["DET", "NOUN"], "confidence": 0.75}
    truths = task.truths([row("a desk", "DET ADJ")])
    assert task.metrics(truths, answers) == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.5}
    (panel,) = task.panels(truths, answers)
    assert isinstance(panel, Table) and panel.columns[0] == "tag"
    assert panel.rows[1] == ["DET", 1, 1, 1.0, 1.0, 1.0]


def test_metrics_by_hand() -> None:
    task = taught([row("a b c", "B-x I-x B-y")])
    truths = task.truths([row("a b c d", "B-x I-x O B-y"), row("e f", "O O")])
    answers = task.truths([row("a b c d", "B-x I-x O O"), row("e f", "B-y O")])
    # Right: x. Given: x and a wrong y. True: x and y. Words: 4 of 6 are right.
    assert task.metrics(truths, answers) == {
        "f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "accuracy": pytest.approx(4 / 6),
    }
    none = task.metrics(truths[1:], truths[1:])
    assert none["accuracy"] == 1.0 and math.isnan(none["f1"])
    assert task.mistakes(truths, answers, np.array([0.2, 0.9])).tolist() == [1, 0]
    assert task.mistakes(truths, truths, np.array([0.2, 0.9])).tolist() == []
    illegal = task.truths([row("a b c d", "I-x I-x O O"), row("e f", "O O")])
    (panel,) = task.panels(truths, illegal)
    assert isinstance(panel, Table)
    assert panel.rows == [["x", 1, 1, 1.0, 1.0, 1.0], ["y", 1, 0, 0.0, 0.0, 0.0]]
    assert panel.note == "Answers with tags in an illegal order, read leniently: 1 of 2."


def test_the_most_frequent_tag_is_a_baseline() -> None:
    task = taught([row("a b c", "B-x O O")])
    name, constant = task.constant()
    truths = task.truths([row("a b", "B-x O"), row("c", "O")])
    found = task.metrics(truths, np.broadcast_to(constant, truths.shape))
    assert (name, found["accuracy"], found["f1"]) == ("most frequent tag", pytest.approx(2 / 3), 0.0)


def test_windows_carry_every_loss_once_and_are_joined_again() -> None:
    words = [toy.WORDS[number % 16] for number in range(12)]
    long = {"words": words, "tags": ["O", "B-x"] * 6, "line": 1}
    task = taught([long], max_length=16, stride=6)
    (example,) = task.encode([long], tiny_tokenizer(), 128)
    assert len(example["parts"]) > 3 and example["cut"] is False
    assert all(len(part["input_ids"]) <= 16 for part in example["parts"])
    batch = task.collate([example], tiny_tokenizer())
    assert task.targets(batch) == 12
    assert task.size(example) == sum(len(part["input_ids"]) for part in example["parts"])
    step, _ = outputs(task, [example], {0: long["tags"]})
    assert task.decode(step, tiny_tokenizer())[0].tolist() == [tuple(long["tags"])]
    seen = task.seen(example, tiny_tokenizer())
    assert [one.name for one in seen][:2] == ["window 1", "window 2"]
    marked = [token for one in seen for token, loss in zip(one.tokens, one.loss, strict=True) if loss]
    assert sorted(marked) == sorted(word[0] for word in words)
    assert not any(
        any(one.loss) for one in task.seen(task.encode([{"words": words}], tiny_tokenizer(), 128)[0], tiny_tokenizer())
    )


def test_a_window_s_loss_is_that_of_the_words_in_it() -> None:
    toyed = toy.prepared({"task": {"name": "tag", "max_length": 16}}, rows=toy.rows_for(Tag()))
    task, tokenizer = toyed.recipe.task, toyed.backbone.tokenizer
    model = toyed.training.model.eval()
    rows = [dict(one) for one in toyed.batches.rows]
    examples = task.encode(rows, tokenizer, 128)
    whole = task.loss(Step(model, task, task.collate(examples, tokenizer))).item()
    apart = 0.0
    for example in examples:
        for part in example["parts"]:
            logits = model(torch.tensor([part["input_ids"]])).logits[0]
            for place, label in enumerate(part["labels"]):
                if label != tokens.IGNORED:
                    apart -= logits[place].log_softmax(dim=-1)[label].item()
    assert whole == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize("piece", ["first", "last"])
def test_one_piece_speaks_for_a_word(piece: Any) -> None:
    task = taught(piece=piece)
    (example,) = task.encode([row("oak desk", "B-wood O")], tiny_tokenizer(), 128)
    # <s> o a k _ d e s k </s>
    places = [place for place, word in enumerate(example["parts"][0]["carriers"]) if word >= 0]
    assert places == ([1, 5] if piece == "first" else [3, 8])


def test_words_of_which_nothing_is_made_are_told_and_answered() -> None:
    rows = Dataset.from_list([row("oak \u200b desk", "B-wood O O", 3), row("\u200b", "O", 7), row("oak", "B-wood", 9)])
    task = taught(list(rows))
    with listening() as said:
        kept = task.arrange(rows, word_piece(), 128)
    assert len(kept) == 2
    assert said == [
        "The tokenizer makes nothing of the word '\\u200b' (line 3): its answer is O.",
        "The tokenizer makes nothing of 2 training words: they carry no loss.",
        "1 of 3 training rows have no other words, and are left out.",
    ]
    example, silent = task.encode([{"words": ["oak", "\u200b"]}, {"words": ["\u200b"]}], word_piece(), 128)
    step, _ = outputs(task, [example, silent], {0: ["B-wood", "B-wood"]})
    answers, lines = task.decode(step, word_piece())
    assert answers.tolist() == [("B-wood", "O"), ("O",)]
    assert [line["confidence"] for line in lines] == [0.75, 0.0]
    with pytest.raises(DataError, match="makes nothing of any word in the 1 training rows"):
        task.arrange(rows.select([1]), word_piece(), 128)
    unchanged = rows.select([2])
    assert task.arrange(unchanged, word_piece(), 128) is unchanged


def test_long_rows_are_told() -> None:
    rows = Dataset.from_list([row("oak " * 10, "B-wood " * 10), row("oak", "O")])
    task = taught(list(rows), max_length=16)
    with listening() as said:
        task.arrange(rows, tiny_tokenizer(), 128)
    assert said == [
        "1 of 2 training rows are longer than a window: they are read in overlapping windows (5 for all rows), and "
        "nothing is cut."
    ]


def test_of_many_unread_words_the_first_are_named() -> None:
    task = taught()
    rows = [{"words": ["oak", chr(0x200B) * number]} for number in range(1, 31)]
    with listening() as said:
        task.encode(rows, word_piece(), 128)
    assert len(said) == 21 and said[-1] == "Of further such words nothing is said."


def test_a_stride_that_never_gets_on_is_refused() -> None:
    with pytest.raises(RecipeError, match="windows of 14 tokens that share 14"):
        taught(max_length=16, stride=14).encode([row("oak", "O")], tiny_tokenizer(), 128)


def test_a_tokenizer_without_places_is_refused() -> None:
    slow: Any = SimpleNamespace(is_fast=False)
    with pytest.raises(ModelError, match="can't tell which word a token belongs to"):
        taught().encode([row("oak", "O")], slow, 128)


def test_illegal_tags_are_repaired() -> None:
    rows = [row("a b c", "O I-x I-x", 4), row("d", "I-y", 8), row("e f", "B-x O", 9)]
    task = taught(rows, repair=True)
    assert list(task.head()["label2id"]) == ["O", "B-x", "I-x", "B-y"]
    assert task.truths(rows).tolist() == [("O", "B-x", "I-x"), ("B-y",), ("B-x", "O")]
    (example, *_) = task.encode(rows, tiny_tokenizer(), 128)
    assert [label for label in example["parts"][0]["labels"] if label >= 0] == [0, 1, 2]


def test_tags_that_training_never_saw_count_as_mistakes_and_are_told() -> None:
    task = taught()
    held_out = [row("teak in Hull", "B-tree O B-place")]
    with listening() as said:
        truths = task.truths(held_out)
    assert "1 words of held-out rows have tags that training never saw: B-tree (1)" in said[0]
    assert task.metrics(truths, task.truths([row("a b c", "O O B-place")]))["recall"] == 0.5
    batch = task.collate(task.encode(held_out, tiny_tokenizer(), 128), tiny_tokenizer())
    assert task.targets(batch) == 2


def test_the_head_has_an_output_a_tag() -> None:
    task = taught([row("a b c d", "S-a O B-b E-b")])
    assert task.head() == {
        "num_labels": 4,
        "id2label": {0: "O", 1: "S-a", 2: "B-b", 3: "E-b"},
        "label2id": {"O": 0, "S-a": 1, "B-b": 2, "E-b": 3},
    }


def test_illegal_tags_are_not_learned() -> None:
    with pytest.raises(DataError, match="illegal in the scheme bio"):
        taught([row("a b", "O I-x", 4)])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"Tokens": ["a", "b"], "ner_tags": ["O", "B-x"]}], {"words": "Tokens", "tags": "ner_tags"}),
        ([{"tokens": ["a", "b"], "tags": [0, 1]}], {"words": "tokens", "tags": "tags"}),
        ([{"words": "a b", "labels": "O B-x", "id": 3}], {"words": "words", "tags": "labels"}),
        ([{"tokens": ["a", "b"], "tags": ["O"]}], None),
        (
            [{"tokens": ["a", "b"], "tags": ["O", tag]} for tag in ("O", None, "B-x")],
            {"words": "tokens", "tags": "tags"},
        ),  # the faults of single rows are told when the file is read
        ([{"tokens": ["a"], "tags": ["O"]}], None),
        ([{"words": "a b", "labels": "one"}], None),
        ([{"tokens": ["a", "b"], "tags": None}], None),
        ([{"text": "a b", "tags": ["O", "O"]}], None),
        ([{"tokens": ["a", "b"], "topic": ["O", "O"]}], None),
    ],
)
def test_columns_that_suit(rows: list[Row], expected: dict[str, Any] | None) -> None:
    assert Tag.suits(list(rows[0]), rows) == expected
    if expected:
        assert Classify.suits(list(rows[0]), rows) is None and Regress.suits(list(rows[0]), rows) is None


def test_rows_without_tags_have_no_targets() -> None:
    batch = taught().collate(taught().encode([{"words": ["oak"]}], tiny_tokenizer(), 128), tiny_tokenizer())
    assert "targets" not in batch.fields


@pytest.mark.parametrize("backbone", ["builtin:tiny-bert", "builtin:tiny-gpt2"])
def test_a_saved_model_answers_the_same_in_a_plain_pipeline(backbone: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"model": backbone, "task": "tag", "train": {"steps": 20, "learning_rate": 3e-3}})
    toy.train(toyed, tmp_path / "run")
    tag = pipeline("token-classification", model=str(toy.save(toyed, tmp_path / "model")), ignore_labels=[])
    task, backbone_ = toyed.recipe.task, toyed.backbone
    text = "amber delta, the cedar (jade) caf\u00e9"
    row_ = {"words": [f"{word} " for word in text.split()]}
    lines: list[dict[str, Any]] = []
    Predictor(backbone_.model, backbone_.tokenizer, task, backbone_.limit).predict(
        Dataset.from_list([row_]), each=lines.append
    )
    by_start = {piece["start"]: piece for piece in reversed(tag(text))}  # of several pieces the first
    (example,) = task.encode([row_], backbone_.tokenizer, 128)
    found = [by_start[start] for start in example["starts"]]
    assert lines[0]["prediction"] == [piece["entity"] for piece in found]
    assert lines[0]["confidence"] == pytest.approx(min(float(piece["score"]) for piece in found), abs=1e-5)


def test_a_byte_level_backbone_s_words_are_learned_with_their_blanks() -> None:
    task = taught([row("The oak desk", "O B-wood O")])
    (example,) = task.encode([row("The oak desk", "O B-wood O")], byte_level(), 128)
    (seen,) = task.seen(example, byte_level())
    assert [token for token, loss in zip(seen.tokens, seen.loss, strict=True) if loss][1:] == [
        "\u0120oak",
        "\u0120desk",
    ]
