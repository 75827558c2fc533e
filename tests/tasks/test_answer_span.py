"""Extractive question answering: losses by hand, windows that train, answers, the threshold, what is refused."""

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
import transformers
from datasets import Dataset

from tests import toy
from tunesmith import api
from tunesmith.core import anatomy
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.rows import take
from tunesmith.core.step import Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.models.builtin import tiny_tokenizer
from tunesmith.serve import session
from tunesmith.tasks.answer_span import AnswerSpan, span_losses
from tunesmith.tasks.span_answers import answers_of

CONTEXT = "oak or elm"


def toy_rows(count: int) -> list[dict[str, Any]]:
    """Questions whose answer is one word of a context of many lengths; every fourth has none."""
    rows = []
    for number in range(count):
        words = [toy.WORDS[(number * 5 + i * 3) % 16] for i in range(3 + number * 7 % 13)]
        place = number % len(words)
        answer = {"start": len(" ".join([*words[:place], ""])), "text": words[place]}
        rows.append(
            {
                "question": f"where is {toy.WORDS[number % 16]} {number}",
                "context": f"{' '.join(words)} {number}",
                "answers": [] if number % 4 == 3 else [answer],
            }
        )
    return rows


def row(*answers: str, **more: Any) -> Row:
    cells = [{"start": None, "text": answer} for answer in answers]
    return {"question": "which", "context": CONTEXT, "answers": cells, **more}


def taught(*rows: Row, **settings: Any) -> AnswerSpan:
    task = AnswerSpan(**settings)
    task.learn(rows or [row("oak"), row()])
    return task


def decoded(task: AnswerSpan, rows: list[Row], starts: torch.Tensor, ends: torch.Tensor) -> Any:
    batch = task.collate(task.encode(rows, tiny_tokenizer(), 128), tiny_tokenizer())
    outputs = SimpleNamespace(start_logits=starts, end_logits=ends)
    return task.decode(SimpleNamespace(outputs=outputs, batch=batch), None)  # type: ignore[arg-type]


def peaks(*places: tuple[int, float], time: int = 18) -> torch.Tensor:
    """Logits of one window of `<s>which</s>oak or elm</s>`: 0, but at these places; the context starts at 7."""
    found = torch.zeros(1, time)
    for place, value in places:
        found[0, place] = value
    return found


def test_the_loss_by_hand() -> None:
    # Starts: probabilities 1/2, 1/4, 1/4, the padding none; ends: 1/3 each.
    starts = torch.tensor([[math.log(2), 0.0, 0.0, 50.0], [0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    found = span_losses(starts, torch.zeros(2, 4), torch.tensor([[0, 2], [3, 3]]), mask)
    assert found.tolist() == pytest.approx([(math.log(2) + math.log(3)) / 2, math.log(4)])
    assert (
        span_losses(starts.bfloat16(), starts.bfloat16(), torch.tensor([[0, 2], [3, 3]]), mask).dtype == torch.float32
    )


@pytest.mark.parametrize("name", toy.BACKBONES)
def test_the_loss_is_that_of_transformers(name: str) -> None:
    # The reference: the model's own loss, of a window without padding.
    toyed = toy.prepared({"task": "answer_span", "model": name}, rows=Dataset.from_list([row("elm", line=2)] * 2))
    task, model = toyed.recipe.task, toyed.training.model.eval()
    batch = task.collate(task.encode([row("elm")], toyed.backbone.tokenizer, 128), toyed.backbone.tokenizer)
    starts, ends = batch.fields["targets"].unbind(dim=1)
    with torch.no_grad():
        theirs = model(**batch.inputs, start_positions=starts, end_positions=ends).loss
        assert task.loss(Step(model, task, batch)).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_targets_are_windows_and_the_marked_tokens_are_seen() -> None:
    task, tokenizer = taught(max_length=16, stride=2, question_length=3), tiny_tokenizer()
    examples = task.encode([row("elm"), row()], tokenizer, 128)
    # Ten characters of context in windows of 16 - 6 = 10 tokens: one each; of 14, with 8: two.
    assert [len(example["parts"]) for example in examples] == [1, 1]
    assert task.size(examples[0]) == 16
    narrow = taught(max_length=16, stride=2, question_length=5).encode([row("elm")], tokenizer, 128)
    batch = task.collate([*examples, *narrow], tokenizer)
    assert task.targets(batch) == 4 and batch.fields["owners"].tolist() == [0, 1, 2, 2]
    assert batch.fields["targets"].tolist() == [[12, 14], [0, 0], [0, 0], [8, 10]]
    assert batch.cut == 2  # "which" has five letters
    seen = task.seen(narrow[0], tokenizer)
    assert [one.name for one in seen] == ["window 1 of 2", "window 2 of 2"]
    assert [t for t, on in zip(seen[1].tokens, seen[1].loss, strict=True) if on] == ["e", "m"]
    assert [t for t, on in zip(seen[0].tokens, seen[0].loss, strict=True) if on] == ["<s>"]
    asked = [{key: value for key, value in row("elm").items() if key != "answers"}]
    assert "targets" not in task.collate(task.encode(asked, tokenizer, 128), tokenizer).fields


def test_a_decoded_answer_by_hand() -> None:
    # "elm" is tokens 14 to 16: 4 + 5. Outside the context the scores are higher, and count for no answer alone.
    starts, ends = peaks((0, 2.0), (2, 9.0), (14, 4.0)), peaks((0, 1.0), (2, 9.0), (16, 5.0))
    answers, lines = decoded(taught(), [row("elm")], starts, ends)
    assert answers.tolist() == [["elm", ("elm",), -6.0]]
    assert (lines[0]["prediction"], lines[0]["start"], lines[0]["end"]) == ("elm", 7, 10)
    assert CONTEXT[7:10] == "elm"
    assert lines[0]["confidence"] > 0.8 > lines[0]["candidates"][1]["confidence"]
    silent, _ = decoded(taught(threshold=-6.5), [row("elm")], starts, ends)
    assert silent.tolist() == [["", ("elm",), -6.0]]
    always, _ = decoded(taught(row("oak"), threshold=-6.5), [row("elm")], starts, ends)
    assert always[0, 0] == "elm"  # where every question has an answer, one is given


def test_an_answer_has_at_most_so_many_tokens() -> None:
    starts, ends = peaks((7, 9.0)), peaks((16, 9.0))
    assert decoded(taught(), [row("elm")], starts, ends)[0][0, 0] == CONTEXT
    answers, lines = decoded(taught(longest=3, candidates=2), [row("elm")], starts, ends)
    assert answers[0, 0] in ("o", "oa", "oak", "elm") and len(lines[0]["candidates"]) == 2


def test_truths_and_the_best_metric() -> None:
    task = taught()
    truths = task.truths([row("oak", "oak or elm"), row()])
    assert truths.tolist() == [["oak", ("oak", "oak or elm"), -math.inf], ["", (), math.inf]]
    assert task.metrics(truths, truths) == {
        "f1": 1.0, "exact_match": 1.0, "f1_with_answer": 1.0, "accuracy_without_answer": 1.0,
    }  # fmt: skip
    assert task.metrics(truths, answers_of([("elm", (), 0.0), ("", (), 0.0)]))["f1"] == pytest.approx((0.5 + 1) / 2)
    assert list(taught(row("oak")).metrics(truths, truths)) == ["f1", "exact_match"]
    with pytest.raises(DataError, match="'ash' does not stand in the context"):
        task.truths([row("ash")])


def test_the_threshold_is_chosen_where_it_is_best() -> None:
    task = taught()
    truths = task.truths([row("oak"), row("elm"), row()])
    answers = answers_of([("", ("oak",), -2.0), ("", ("elm",), 1.0), ("", ("or",), 3.0)])
    task.settle(truths, answers)
    assert task.state() == {"no_answer": True, "threshold": 2.0}
    again = AnswerSpan()
    again.restore(task.state())
    assert again.state() == task.state()
    for fixed in (taught(threshold=0.5), taught(row("oak"))):
        fixed.settle(truths, answers)
        assert fixed.state()["threshold"] == 0.0


def test_the_constant_answer_is_none() -> None:
    known = taught().constant()
    assert known is not None and known[0] == "no answer"
    truths = taught().truths([row("oak"), row()])
    assert taught().metrics(truths, np.broadcast_to(known[1], truths.shape))["f1"] == 0.5
    assert taught(row("oak")).constant() is None


def test_mistakes_share_the_fewest_words_first() -> None:
    task = taught()
    truths = task.truths([row("oak"), row("oak or elm"), row("elm"), row("elm"), row()])
    answers = answers_of([(text, (), 0.0) for text in ("oak", "oak", "oak", "", "oak")])
    assert task.mistakes(truths, answers, np.array([0.9, 0.9, 0.5, 0.8, 0.7])).tolist() == [3, 4, 2, 1]
    titles = [panel.title for panel in task.panels(truths, answers)]
    assert titles == ["By length of the right answer", "Answers given and withheld"]
    assert len(taught(row("oak")).panels(truths, answers)) == 1


@pytest.mark.parametrize(
    ("settings", "rows", "told"),
    [
        ({}, [row(), row()], "None of the 2 training questions has an answer"),
        ({"no_answer": False}, [row("oak"), row()], "1 of 2 training questions have no answer, but"),
        ({}, [row("oak", line=7), row("ash", line=9)], "line 9, answers: 'ash' does not stand"),
    ],
)
def test_rows_that_can_not_be_learned_are_refused(settings: dict[str, Any], rows: list[Row], told: str) -> None:
    with pytest.raises(DataError, match=told):
        taught(*rows, **settings)


def test_what_is_chosen_for_the_user_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tunesmith"):
        task = taught(row("oak"), row("oak", "elm"), row())
        taught(row("oak"), no_answer=True)
        taught(row("oak")).truths([row("oak"), row()])
    told = "\n".join(caplog.messages)
    assert "1 of 3 training questions have no answer." in told
    assert "2 training questions have an answer without an offset" in told
    assert "1 training questions have several answers" in told
    assert "the model can't learn it" in told
    assert "1 of 2 questions have no answer, which" in told
    assert task.state()["no_answer"] is True


def test_rows_whose_answer_fits_no_window_are_dropped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    cells = [row("elm", line=2), row("oak or elm", line=3), row(line=4), row("oak", line=5)]
    rows, task = Dataset.from_list(cells), taught(*cells, max_length=16, stride=2, question_length=5, longest=2)
    with caplog.at_level(logging.WARNING, logger="tunesmith"):
        kept = task.arrange(rows, tiny_tokenizer(), 128)
    assert [one["line"] for one in take(kept, slice(0, 9))] == [2, 4, 5]
    assert "1 of 4 training answers fit into no window, such as that of line 3" in caplog.text
    assert "2 training answers have more than task.longest=2 tokens" in caplog.text
    assert taught(*cells).arrange(rows, tiny_tokenizer(), 128) is rows
    with pytest.raises(DataError, match=r"2 of 3 .* line 3: nothing is left to learn"):
        task.arrange(Dataset.from_list([cells[1], cells[1], cells[2]]), tiny_tokenizer(), 128)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(ModelError, match="which characters"):
        AnswerSpan().encode([row("oak")], SimpleNamespace(is_fast=False), 128)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "suits"),
    [
        ({"Question": "which", "context": CONTEXT, "answers": {"text": ["oak"], "answer_start": [0]}}, True),
        ({"query": "which", "passage": CONTEXT, "answer": "elm"}, True),
        ({"question": "which", "context": CONTEXT, "answer": "pine"}, False),
        ({"question": "which", "context": CONTEXT, "answers": []}, False),
        ({"question": "which", "context": CONTEXT, "label": "oak"}, False),
        ({"question": 3, "context": CONTEXT, "answers": "oak"}, False),
        ({"text": CONTEXT, "answers": "oak"}, False),
    ],
)
def test_columns_that_suit(cells: Row, suits: bool) -> None:
    found = AnswerSpan.suits(list(cells), [cells])
    assert found == (dict(zip(("question", "context", "answers"), cells, strict=True)) if suits else None)


def test_a_wrong_row_among_others_is_a_fault_and_no_other_task() -> None:
    names = ["question", "context", "answers"]
    right, wrong = ({"question": "which", "context": CONTEXT, "answers": answer} for answer in ("oak", "pine"))
    assert AnswerSpan.suits(names, [right, wrong, right]) and not AnswerSpan.suits(names, [right, wrong])


@pytest.mark.parametrize("name", ["builtin:tiny-t5", "builtin:tiny-llama"])
def test_every_backbone_has_a_head_that_trains(name: str) -> None:
    toyed = toy.prepared({"task": "answer_span", "model": name, "method": "head_only"})
    assert list(anatomy.head(toyed.training.model)) == ["qa_outputs"]
    assert set(toyed.training.trained) == {"qa_outputs.weight", "qa_outputs.bias"}


@pytest.mark.parametrize("name", ["builtin:tiny-bert", "builtin:tiny-llama"])
def test_a_saved_model_answers_in_plain_transformers(name: str, tmp_path: Path) -> None:
    # transformers has no pipeline for questions any more: the window is made and read here by its own means.
    toyed = toy.prepared({"task": "answer_span", "model": name})
    folder = toy.save(toyed, tmp_path / "model")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = [{"question": "which", "context": CONTEXT}, {"question": "and", "context": "a longer context than that"}]
    lines: list[Row] = []
    backbone = toyed.backbone
    Predictor(backbone.model, backbone.tokenizer, toyed.recipe.task, backbone.limit).predict(
        Dataset.from_list(asked), each=lines.append
    )
    for question, line in zip(asked, lines, strict=True):
        encoded = tokenizer(question["question"], question["context"], return_tensors="pt", return_offsets_mapping=True)
        offsets, inside = encoded.pop("offset_mapping")[0].tolist(), [one == 1 for one in encoded.sequence_ids(0)]
        with torch.no_grad():
            outputs = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
        s, e = outputs.start_logits[0], outputs.end_logits[0]
        able = [place for place, one in enumerate(inside) if one]
        spans = sorted(((float(s[i] + e[j]), i, j) for i in able for j in able if i <= j < i + 30), reverse=True)
        texts = [question["context"][offsets[i][0] : offsets[j][1]] for _, i, j in spans]
        silence = float(s[0] + e[0])
        best = texts[0] if silence <= spans[0][0] else ""
        assert line["prediction"] == best
        assert line["candidates"][0]["text"] == texts[0].strip()


def test_the_files_names_of_a_decoder_are_found(tmp_path: Path) -> None:
    # transformers' class for questions calls Llama's body otherwise than the files of every other class of Llama.
    toyed = toy.prepared({"model": "builtin:tiny-llama"})
    folder = toy.save(toyed, tmp_path / "classifier")
    read = toy.prepared({"task": "answer_span", "model": str(folder)})
    written = transformers.AutoModelForQuestionAnswering.from_pretrained(toy.save(read, tmp_path / "answers"))
    theirs, body = toyed.training.model.state_dict(), "transformer.layers.1.mlp.up_proj.weight"
    for model in (read.training.model, written):
        assert torch.equal(model.state_dict()[body], theirs["model.layers.1.mlp.up_proj.weight"])


def test_a_run_chooses_its_threshold_and_keeps_it(tmp_path: Path) -> None:
    rows = [
        {**one, "answers": [{"text": a["text"], "answer_start": a["start"]} for a in one["answers"]]}
        for one in toy_rows(40)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    values = {"data": {"train": str(path), "validation": 0.3, "test": 0.2}, "train": {"steps": 4}}
    folder = toy.run(tmp_path, **values)
    state = json.loads((folder / "task.json").read_text())
    assert state["no_answer"] is True and state["threshold"] != 0.0
    assert session.load(folder).recipe.task.state() == state
    lines = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
    for line in lines:
        if line["prediction"]:
            assert line["context"][line["start"] : line["end"]] == line["prediction"]
    (answer,) = api.load(folder).predict([{"question": "which", "context": CONTEXT}])
    assert {"prediction", "start", "end", "confidence", "candidates"} == set(answer)


def test_answers_of_a_held_out_file_are_checked_before_training(tmp_path: Path) -> None:
    for name, text in (("train", "oak"), ("validation", "ash")):
        cells = [{"question": f"{name} {n}", "context": f"{CONTEXT} {n}", "answers": [text]} for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, cells)), encoding="utf-8")
    data = {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "validation.jsonl"), "test": None}
    with pytest.raises(DataError, match=r"validation\.jsonl .*(?s:.)*line 3: answers: 'ash' does not stand"):
        toy.run(tmp_path, task="answer_span", data=data)
