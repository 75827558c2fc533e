"""A finished run answers texts and rows, and merges into a plain model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests import toy
from tunesmith.core import registry, surgery
from tunesmith.core.errors import ArtifactError, DataError, RunFolderError
from tunesmith.core.files import write_json
from tunesmith.core.notes import listening
from tunesmith.core.part import Task
from tunesmith.evaluate import temperature
from tunesmith.serve import session
from tunesmith.serve.session import Session

TEXTS = ["no amber basil", "yes cedar", "maybe delta ember"]


@pytest.fixture(scope="module")
def loaded(lora_run: Path) -> Session:
    return session.load(lora_run, "cpu")


def test_texts_and_rows_are_answered_alike(loaded: Session) -> None:
    answers = loaded.predict(TEXTS)
    logits = toy.logits(loaded.backbone.model, loaded.backbone.tokenizer, TEXTS)
    for answer, scores in zip(answers, logits.softmax(dim=-1).tolist(), strict=True):
        assert answer["scores"] == pytest.approx(dict(zip(["maybe", "no", "yes"], scores, strict=True)), abs=1e-5)
        assert answer["confidence"] == max(answer["scores"].values()) == answer["scores"][answer["prediction"]]
    assert all(set(answer) == {"prediction", "confidence", "scores"} for answer in answers)
    assert loaded.predict([{"text": text, "other": 3} for text in TEXTS]) == answers
    assert loaded.predict(text for text in TEXTS) == answers
    assert loaded.predict([]) == []


def test_a_temperature_that_a_run_keeps_changes_confidences_and_no_answer(lora_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(lora_run, folder)
    plain = session.load(folder, "cpu").predict(TEXTS)
    temperature.write(folder, 0.25, 9)
    found = session.load(folder, "cpu")
    logits = toy.logits(found.backbone.model, found.backbone.tokenizer, TEXTS)
    for answer, before, scores in zip(found.predict(TEXTS), plain, (logits / 0.25).softmax(dim=-1), strict=True):
        assert answer["prediction"] == before["prediction"]
        assert answer["confidence"] == pytest.approx(scores.max().item(), abs=1e-5)
        assert answer["confidence"] > before["confidence"] + 1e-3
        assert answer["scores"] == pytest.approx(
            dict(zip(["maybe", "no", "yes"], scores.tolist(), strict=True)), abs=1e-5
        )
    with listening() as notes:
        found.merge(tmp_path / "merged")
    assert any("keeps a temperature" in text and "by 0.25" in text for text in notes)


def test_answers_stand_in_order_and_alone_as_together(loaded: Session) -> None:
    texts = [f"{'amber ' * (number % 5)}{name}" for number, name in enumerate(toy.CLASSES * 5)]
    together = loaded.predict(texts)
    for text, answer in zip(texts, together, strict=True):
        (alone,) = loaded.predict([text])
        assert alone["prediction"] == answer["prediction"]
        assert alone["confidence"] == pytest.approx(answer["confidence"], abs=1e-5)


def test_bad_rows_are_told_together(loaded: Session) -> None:
    rows: list[Any] = ["fine", " ", {"message": "x"}, {"text": 3}, 7, {}]
    with pytest.raises(DataError) as caught:
        loaded.predict(rows)
    assert caught.value.message.splitlines()[1:] == [
        "  - row 1, 'text': is blank",
        "  - row 2: has no 'text' (it has message)",
        "  - row 3, 'text': is not a text but 3",
        "  - row 4: is neither a text nor a mapping of columns but 7",
        "  - row 5: has no 'text' (it has nothing)",
    ]


@pytest.mark.parametrize("rows", ["amber", {"text": "amber"}])
def test_one_row_alone_is_refused(loaded: Session, rows: Any) -> None:
    # A text is a sequence of texts of one letter: its letters would be answered.
    with pytest.raises(DataError, match=r"predict\(\[row\]\)"):
        loaded.predict(rows)


@pytest.mark.parametrize(
    ("named", "row"),
    [
        ("Note", {"Note": "amber", "text": "x"}),
        ("Note", {"text": "amber"}),
        ("Note", {"note": "amber"}),
        (None, {"message": "amber", "note": "x"}),
        (None, {"Sentence": "amber"}),
        (None, {"Message": "x", "text": "amber"}),
    ],
)
def test_rows_have_the_columns_of_the_training_file(named: str | None, row: dict[str, str], loaded: Session) -> None:
    task = registry.build("tasks", {"name": "classify", "text": named})
    task.restore(loaded.recipe.task.state())
    changed = Session("changed", replace(loaded.current, recipe=replace(loaded.recipe, task=cast(Task, task))))
    assert changed.predict([row]) == loaded.predict(["amber"]) != loaded.predict(["x"])
    with pytest.raises(DataError, match=f"has no '{named or 'text'}'"):
        changed.predict([{"number": "amber"}])


def test_a_file_is_answered_row_by_row(loaded: Session, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    seen: list[dict[str, Any]] = []
    assert loaded.predict_file(data, None, seen.append) == 3
    assert loaded.predict_file(data, tmp_path / "out.jsonl", seen.append) == 3
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == seen and [line["text"] for line in lines] == TEXTS
    assert [line["line"] for line in lines] == [1, 2, 3]
    expected = loaded.predict(TEXTS)
    assert [line["scores"] for line in lines] == [answer["scores"] for answer in expected]


def test_rows_that_are_cut_are_told(loaded: Session, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in (*TEXTS, "x" * 300)))
    with listening() as notes:
        loaded.predict_file(data, None, print)
    assert notes == ["1 of 4 rows are longer than the limit and were cut."]


def plain(folder: Path) -> Callable[[list[str]], torch.Tensor]:
    """The model of a folder, by way of transformers alone."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__module__.startswith("transformers.") and not surgery.wrappers(model)
    assert model.config.id2label == {0: "maybe", 1: "no", 2: "yes"}
    return lambda texts: toy.logits(model, tokenizer, texts)


def test_merged_it_is_a_plain_model_with_the_same_answers(lora_run: Path, tmp_path: Path) -> None:
    found = session.load(lora_run, "cpu")
    expected = toy.logits(found.backbone.model, found.backbone.tokenizer, TEXTS)
    (tmp_path / "empty").mkdir()
    assert found.merge(tmp_path / "empty") <= 1e-5
    assert (plain(tmp_path / "empty")(TEXTS) - expected).abs().max() <= 1e-5
    # The session stays as it is.
    assert surgery.wrappers(found.backbone.model)
    assert torch.equal(toy.logits(found.backbone.model, found.backbone.tokenizer, TEXTS), expected)


def test_a_full_training_is_a_plain_model_from_the_start(full_run: Path, tmp_path: Path) -> None:
    found = session.load(full_run, "cpu")
    expected = toy.logits(found.backbone.model, found.backbone.tokenizer, TEXTS)
    assert torch.equal(plain(full_run / session.MODEL)(TEXTS), expected)
    names = ["maybe", "no", "yes"]
    answers = [names[number] for number in expected.argmax(dim=-1).tolist()]
    assert [answer["prediction"] for answer in found.predict(TEXTS)] == answers
    assert found.merge(tmp_path / "merged") == 0.0


def test_merge_writes_into_no_folder_that_holds_something(lora_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    before = session.load(lora_run, "cpu")
    with pytest.raises(RunFolderError, match="is not an empty folder"):
        before.merge(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert surgery.wrappers(before.backbone.model)


def test_a_merge_that_changes_the_answers_writes_nothing(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = session.load(lora_run, "cpu")

    def doubled(model: Any) -> None:
        for wrapper in surgery.wrappers(model).values():
            wrapper.scale *= 2  # type: ignore[operator, assignment]
        surgery.merge(model)

    monkeypatch.setattr(type(found.recipe.method), "merge", lambda self, model: doubled(model))
    with pytest.raises(ArtifactError, match="The merged model gives other outputs"):
        found.merge(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_that_is_no_run_is_told(lora_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="does not exist"):
        session.load(tmp_path / "none")
    with pytest.raises(RunFolderError, match="is not a run: it has no recipe"):
        session.load(tmp_path)
    for name in (session.RECIPE, session.TASK):
        (tmp_path / name).write_bytes((lora_run / name).read_bytes())
    with pytest.raises(RunFolderError, match="tunesmith resume"):
        session.load(tmp_path)
    write_json(tmp_path / session.TASK, {"no": "classes"})
    with pytest.raises(RunFolderError, match=r"task\.json is damaged"):
        session.load(tmp_path)
