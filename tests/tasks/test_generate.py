"""Text generation: loss and metrics by hand, which rows are answered, what is refused, equal text in transformers."""

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
from pydantic import ValidationError
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, pipeline

import tunesmith
from tests import toy
from tests.toy import WORDS
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Table
from tunesmith.core.rows import Bins, take
from tunesmith.core.step import Batch, Update
from tunesmith.core.tokens import IGNORED
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.tasks import generate_sequences as sequences
from tunesmith.tasks.generate import Generate

SHORT = {"max_new_tokens": 6}


def toy_rows(count: int) -> list[Row]:
    """Prompts and completions of many lengths."""
    return [
        {
            "prompt": f"{number} {' '.join(WORDS[(number * 3 + i) % 16] for i in range(1 + number * 5 % 4))}?",
            "completion": [f"{WORDS[number % 16]} {number}"[: 4 + number]],
        }
        for number in range(count)
    ]


def built(backbone: str = "builtin:tiny-llama", rows: list[Row] | None = None, **task: Any) -> Any:
    values = {"model": backbone, "task": {"name": "generate", "sampling": SHORT, **task}}
    given = None if rows is None else Dataset.from_list([{"line": at, **row} for at, row in enumerate(rows, 2)])
    return toy.prepared(values, rows=given)


def answered(toyed: Any, rows: list[Row], **predictor: Any) -> tuple[np.ndarray, list[dict[str, Any]]]:
    backbone, lines = toyed.backbone, []  # type: ignore[var-annotated]
    made = Predictor(backbone.model, backbone.tokenizer, toyed.recipe.task, backbone.limit, **predictor)
    found = made.predict(Dataset.from_list(rows), each=lines.append)
    return found.answers, lines


def test_the_loss_by_hand() -> None:
    # Two positions carry loss: one where the right token has 3/4 of the probability, one where it has 1/2.
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0], [9.0, 0.0]]])
    batch = Batch({}, {"targets": torch.tensor([[0, 1, IGNORED]])})
    step: Any = SimpleNamespace(outputs=SimpleNamespace(logits=logits), batch=batch)
    assert Generate().loss(step).item() == pytest.approx(-math.log(3 / 4) - math.log(1 / 2), rel=1e-6)
    assert Generate().targets(batch) == 2.0


def test_the_loss_at_the_start_is_that_of_guessing() -> None:
    toyed = built()
    answers, _ = answered(toyed, toy_rows(8))
    vocabulary = toyed.backbone.model.config.vocab_size
    assert toyed.recipe.task.metrics(answers, answers)["perplexity"] == pytest.approx(vocabulary, rel=0.1)


def test_the_loss_is_that_of_transformers() -> None:
    # The reference: the mean that the model itself gives for labels.
    toyed = built("builtin:tiny-gpt2")
    task, tokenizer, model = toyed.recipe.task, toyed.backbone.tokenizer, toyed.backbone.model.eval()
    batch = task.collate(task.encode(take(toyed.batches.rows, [0, 3, 5]), tokenizer, 128), tokenizer)
    labels = torch.full_like(batch.inputs["input_ids"], IGNORED)
    labels[:, 1:] = batch.fields["targets"][:, :-1]  # it moves them by one place itself
    outputs = model(**batch.inputs, labels=labels)
    step: Any = SimpleNamespace(outputs=outputs, batch=batch)
    assert (task.loss(step) / task.targets(batch)).item() == pytest.approx(outputs.loss.item(), rel=1e-5)


def filled(*rows: list[Any]) -> np.ndarray:
    found = np.empty((len(rows), 5), dtype=object)
    for place, row in enumerate(rows):
        for at, value in enumerate(row):
            found[place, at] = value
    return found


def test_metrics_by_hand() -> None:
    task = Generate()
    truths = task.truths(
        [
            {"completion": ["an oak table with four legs"]},
            {"completion": ["yes", "yes of course we do"]},
            {"completion": ["no"]},
        ]
    )
    answers = filled(
        ["an oak table with four legs", 4.0, 3, 0, 0], ["yes of course we do", 1.0, 2, 0, 0], [None, 3.0, 3, 0, 0]
    )
    found = task.metrics(truths, answers)
    # exp((4 + 1 + 3) / (3 + 2 + 3)); the row that was not answered has no part in the rest.
    assert found["perplexity"] == pytest.approx(math.exp(8 / 8))
    assert found["exact_match"] == found["rouge1"] == 1.0
    worse = task.metrics(truths, filled(["a pine chair with four legs", 4.0, 3, 0, 0], *answers[1:]))
    assert worse["exact_match"] == 0.5 and worse["bleu"] < found["bleu"]
    best = task.metrics(truths, truths)
    assert best["perplexity"] == best["exact_match"] == best["rouge1"] == 1.0
    assert set(Generate(answered=0).metrics(truths, answers)) == {"perplexity"}


def test_metrics_of_raw_text_by_hand() -> None:
    # log 2 a token, 4 tokens, 2 words, 8 bytes.
    nats = 4 * math.log(2)
    task = Generate(format="text")
    truths = task.truths([{"text": "a b"}])
    assert task.metrics(truths, filled([None, nats, 4, 2, 8])) == pytest.approx(
        {"perplexity": 2.0, "word_perplexity": 4.0, "bits_per_byte": 0.5, "byte_perplexity": math.sqrt(2)}
    )
    assert task.metrics(truths, truths)["perplexity"] == 1.0 and truths[0, 0] is None


def test_the_perplexity_of_a_text_does_not_depend_on_its_neighbours() -> None:
    rows = [{"text": "oak " * 70}, {"text": "pine"}]  # the first takes several parts
    toyed = built(format="text", rows=rows)
    whole, lines = answered(toyed, rows)
    for place, row in enumerate(rows):
        alone, _ = answered(toyed, [row])
        assert alone[0, 1] == pytest.approx(whole[place, 1], rel=1e-5)
        assert alone[0, 2] == len(row["text"]) + 1  # every byte, and the end
        assert alone[0, 3:].tolist() == [len(row["text"].split()), len(row["text"])]
    assert [line["prediction"] for line in lines] == [None, None]


def test_a_long_text_is_measured_a_few_parts_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "oak " * 150}]
    toyed = built("builtin:tiny-gpt2", format="text", rows=rows)
    together, _ = answered(toyed, rows)
    seen: list[int] = []
    toyed.backbone.model.register_forward_pre_hook(
        lambda _, __, given: seen.append(len(given["input_ids"])), with_kwargs=True
    )
    monkeypatch.setattr(sequences, "PARTS", 2)
    apart, _ = answered(toyed, rows)
    assert seen == [2, 2, 1] * 2  # for the answers, and for the loss
    assert apart[0, 1] == pytest.approx(together[0, 1], rel=1e-6) and apart[0, 2] == together[0, 2]


def test_which_rows_are_answered() -> None:
    toyed, rows = built(answered=3), toy_rows(8)
    _, first = answered(toyed, rows)
    _, again = answered(toyed, rows[::-1])
    said = {line["prompt"] for line in first if line["prediction"] is not None}
    assert len(said) == 3 and said == {line["prompt"] for line in again if line["prediction"] is not None}
    for lines in (
        answered(toyed, rows, asked=True)[1],
        answered(toyed, [{"prompt": row["prompt"]} for row in rows])[1],
    ):
        assert all(isinstance(line["prediction"], str) for line in lines)
    assert [line["prediction"] for line in answered(built(answered=0), rows)[1]] == [None] * 8


def test_raw_text_is_gone_on_with_where_somebody_asks() -> None:
    rows = [{"text": "oak and pine"}, {"text": "a" * 300}]
    toyed = built(format="text", rows=rows)
    _, lines = answered(toyed, rows, asked=True)
    model, tokenizer = toyed.backbone.model.eval(), toyed.backbone.tokenizer
    ids = tokenizer("<s>oak and pine", add_special_tokens=False, return_tensors="pt")
    found = model.generate(**ids, generation_config=GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0))
    assert lines[0]["prediction"] == tokenizer.decode(found[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    # Of the long text the end is what is gone on with, and that is said.
    assert [line["cut"] for line in lines] == [False, True]


def test_packed_rows_hold_every_example_once() -> None:
    toyed = built(pack=True, max_length=128)
    rows = toyed.batches.rows
    assert isinstance(rows, Bins)
    members = [member for row in take(rows, list(range(len(rows)))) for member in row["members"]]
    assert sorted(member["line"] for member in members) == list(range(2, 10))
    assert toyed.batches.where(Update([Batch({}, {}, [0])], 1.0)).startswith("line ")
    with listening() as notes:
        built(pack=True)
    assert any(text.startswith("Packed: 8 examples in ") and text.endswith("% full.") for text in notes)


def test_what_is_cut_is_flagged() -> None:
    rows = [*toy_rows(4), {"prompt": "q", "completion": ["a" * 200]}]
    with listening() as notes:
        toyed = built(rows=rows)
    assert "1 of 5 training examples are longer than 128 tokens and cut at the end: line 6." in notes
    assert [line["cut"] for line in answered(toyed, rows)[1]] == [False] * 4 + [True]
    assert len(built(rows=rows, long="drop").batches.rows) == 4


def test_a_split_with_nothing_to_learn_never_starts() -> None:
    rows = [{"prompt": "q" * 200, "completion": ["a"]}] * 3
    with pytest.raises(DataError, match=r"nothing to learn: 3 of 3 training examples .* \(lines 2, 3, 4\)"):
        built(rows=rows)


def test_talks_without_an_answer_are_refused() -> None:
    rows = [{"messages": [{"role": "user", "content": "Hi"}]}]
    with pytest.raises(DataError, match=r"must end with an answer: 1 of 1 .* \(line 2\)"):
        built(format="messages", rows=rows)


@pytest.mark.parametrize(
    ("backbone", "task", "told"),
    [
        ("builtin:tiny-bert", {}, "builtin:tiny-bert is an encoder"),
        ("builtin:tiny-t5", {"pack": True}, "only examples of decoders are packed"),
        ("builtin:tiny-t5", {"format": "text"}, "raw text is learned by decoders"),
        ("builtin:tiny-t5", {"loss_on": "all"}, "what it reads carries no loss"),
        ("builtin:tiny-t5", {"template": "model"}, "without a chat template"),
        ("builtin:tiny-llama", {"template": "model"}, "no chat template of its own"),
    ],
)
def test_what_does_not_fit_the_backbone(backbone: str, task: dict[str, Any], told: str) -> None:
    rows = [{"text": "a b"}] if task.get("format") == "text" else None
    with pytest.raises((ModelError, RecipeError), match=told):
        built(backbone, rows, **task)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="format: text"):
        Generate(join=True)
    with pytest.raises(ValidationError, match="pack"):
        Generate(format="text", join=True, pack=True)
    with pytest.raises(RecipeError, match="has no role 'promt'"):
        Generate(roles={"promt": "q"}).columns()


def test_a_role_may_be_named_like_a_setting() -> None:
    task = Generate(prompt="ask", completion="say")  # type: ignore[call-arg]
    assert task == Generate(roles={"prompt": "ask", "completion": "say"})
    assert [column.name for column in task.columns()][:2] == ["ask", "say"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"text": "a"}, "text"),
        ({"text": "a", "label": "b"}, None),
    ],
)
def test_files_that_suit(row: Row, expected: str | None) -> None:
    assert Generate.suits(list(row), [row]) == (expected and {"format": expected})


def test_the_format_is_found_where_the_recipe_names_the_task_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "a", "input": "b", "output": "c"}\n', encoding="utf-8")
    for task, expected in (("generate", "alpaca"), ({"name": "generate", "format": "prompt_completion"}, None)):
        found = tunesmith.recipe.from_values({"model": "builtin:tiny-llama", "task": task, "data": str(path)})
        assert found.task.format == (expected or "prompt_completion")  # type: ignore[attr-defined]


def test_what_ends_an_answer_is_saved(tmp_path: Path) -> None:
    # A template whose turns end with a token that is not the backbone's own end token.
    toyed = built("builtin:tiny-gpt2")
    task = toyed.recipe.task
    assert task.companions(toyed.backbone.model) == {}
    task.restore({**task.state(), "stops": [2, 1]})
    assert task.companions(toyed.backbone.model)["generation_config.json"]["eos_token_id"] == [2, 1]
    folder = toy.save(toyed, tmp_path / "saved")
    assert GenerationConfig.from_pretrained(folder).eos_token_id == [2, 1]


def test_a_pipeline_of_transformers_gives_the_same_answers(tmp_path: Path) -> None:
    toyed = built("builtin:tiny-llama", train_on := toy_rows(8), system="Be brief.")
    toyed.training.model.eval()
    _, lines = answered(toyed, [{"prompt": row["prompt"]} for row in train_on])
    folder = toy.save(toyed, tmp_path / "saved")
    pipe = pipeline("text-generation", model=str(folder), device="cpu")
    talks = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": row["prompt"]}] for row in train_on
    ]
    said = pipe(talks, do_sample=False, max_new_tokens=6)
    assert [one[0]["generated_text"][-1]["content"].strip() for one in said] == [one["prediction"] for one in lines]


def test_an_encoder_decoder_gives_the_same_answers_in_transformers(tmp_path: Path) -> None:
    toyed = built("builtin:tiny-t5", train_on := toy_rows(5))
    _, lines = answered(toyed, [{"prompt": row["prompt"]} for row in train_on])
    folder = toy.save(toyed, tmp_path / "saved")
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer([row["prompt"] for row in train_on], padding=True, return_tensors="pt")
    said = tokenizer.batch_decode(model.generate(**encoded, max_new_tokens=6), skip_special_tokens=True)
    assert [one.strip() for one in said] == [line["prediction"] for line in lines]


def test_talks_are_answered_from_a_file_and_from_python(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows = [{"messages": [{**turns[0], "content": f"Hi {number}"}, turns[1]]} for number in range(12)]
    path = tmp_path / "talks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = tunesmith.train(
        {
            "model": "builtin:tiny-gpt2",
            "task": {"sampling": SHORT, "answered": 2},
            "data": {"train": str(path), "validation": 0.2, "test": 0.2},
            "method": "lora",
            "train": {"steps": 2, "batch_size": 4, "device": "cpu", "precision": "float32"},
        },
        out=tmp_path / "run",
    )
    session = tunesmith.load(done.folder)
    (line,) = session.predict([{"messages": turns[:1]}])
    assert isinstance(line["prediction"], str) and line["perplexity"] is None
    # The answer that stands in the file is measured, and not shown to the model.
    lines: list[dict[str, Any]] = []
    assert session.predict_file(path, None, lines.append) == 12
    assert all(isinstance(line["prediction"], str) and line["perplexity"] > 1 for line in lines)


def test_panels_and_mistakes() -> None:
    task = Generate()
    truths = task.truths([{"completion": ["yes"]}, {"completion": ["no"]}, {"completion": ["oak"]}])
    answers = filled(["yes", 1.0, 2, 0, 0], [None, 3.0, 2, 0, 0], ["ash", 0.0, 0, 0, 0])
    (table,) = task.panels(truths, answers)
    assert isinstance(table, Table) and list(table.rows) == [["yes", "yes"], ["oak", "ash"]]
    assert task.mistakes(truths, answers, np.zeros(3)).tolist() == [1, 0]
    assert task.panels(truths[1:2], answers[1:2]) == [] and task.constant() is None


def test_all_of_a_talk_may_carry_loss() -> None:
    toyed = built(loss_on="all")
    example = take(toyed.batches.rows, [0])[0]
    assert example["loss"] == [False, *[True] * (len(example["input_ids"]) - 1)]
    (shown,) = toyed.recipe.task.seen(example, tiny_tokenizer())
    assert list(shown.loss) == example["loss"] and toyed.recipe.task.size(example) == len(shown.tokens)
