"""A user's checks as a file: read, refused with all faults and their lines, and fitted to a task."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.evaluate import ruled
from tunesmith.core import registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.rows import each
from tunesmith.data.read import read
from tunesmith.evaluate import robustness_checks as checks
from tunesmith.evaluate.robustness_rows import layout

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = """\
slots:
  thing: [table, lamp, shelf]
  day: [Monday, Friday]
checks:
  - name: cancelling
    kind: minimum
    texts: ["cancel my {thing}", "cancel it by {day}"]
    answer: cancel
  - {name: greeting, kind: invariance, texts: ["how much?", "Hello, how much?"]}
  - {name: lovely, kind: direction, texts: ["a lamp", "a lovely lamp"], of: praise, goes: up, by: 0.1}
"""
BAD = """\
slots: {thing: [table], none: [], number: [1]}
checks:
  - {name: one, kind: minimum, texts: ["my {thin}"], answr: cancel}
  - {name: two, kind: minimun, texts: ["it"], answer: cancel}
  - name: two
    kind: invariance
    texts: ["only one"]
    answer: cancel
  - {kind: direction, texts: [], goes: sideways, by: -1}
  - {name: three, kind: minimum, texts: ["it"]}
  - word
extra: 1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "checks.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    found = checks.read(written(tmp_path, GOOD))
    first, second, third = found.file.checks
    assert (first.kind, second.kind, third.goes, third.by) == ("minimum", "invariance", "up", 0.1)
    fillings = found.fillings(first, Random(0))
    assert len(fillings) == 6 and {"thing": "lamp", "day": "Friday"} in fillings
    assert found.fillings(second, Random(0)) == [{}]


def test_all_faults_are_told_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        checks.read(written(tmp_path, BAD))
    told = caught.value.message
    lines = [line.strip(" -") for line in told.splitlines()[1:]]
    assert [line.split(",")[0] for line in lines] == sorted(
        (line.split(",")[0] for line in lines), key=lambda x: int(x[5:])
    )
    for part in (
        "line 1, slots.none: has no words",
        "line 1, slots.number.0: 1 is not a text",
        "line 3, checks.0.texts.0: {thin} is no slot. Did you mean 'thing'?",
        "line 3, checks.0.answr: is unknown. Did you mean 'answer'?",
        "line 4, checks.1.kind: 'minimun' is not allowed. Did you mean 'minimum'?",
        "line 4, checks.1.name: 'two' is the name of another check too",
        "line 5, checks.2: a check of the kind invariance knows no answer",
        "line 9, checks.3.name: is missing",
        "line 9, checks.3.by: -1 is out of range",
        "line 10, checks.4: a check of the kind minimum needs `answer`",
        "line 11, checks.5:",
        "line 12, extra: is unknown",
    ):
        assert part in told, (part, told)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "The file of checks .* is empty"),
        ("checks: [", "is no YAML that can be read"),
        ("slots: {}\n", "checks: is missing"),
        ("checks: []\n", "checks"),
        ("a: 1\na: 2\n", "gives keys twice"),
    ],
)
def test_what_is_no_file_of_checks(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        checks.read(written(tmp_path, text))


def test_many_fillings_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CASES", 4)
    found = checks.read(written(tmp_path, GOOD))
    with listening() as said:
        fillings = found.fillings(found.file.checks[0], Random(0))
    assert len(fillings) == 4 and "has 6 fillings: 4 of them are drawn" in said[0]


def misfits(folder: Path, text: str, part: Any) -> list[str]:
    found = checks.read(written(folder, text))
    return [f"{'.'.join(map(str, path))}: {what}" for path, what in checks.misfits(found, part, layout(part))]


def test_what_does_not_fit_the_task_is_told(tmp_path: Path) -> None:
    assert misfits(tmp_path, GOOD, ruled.task()) == []
    wrong = GOOD.replace("answer: cancel", "answer: cancle").replace("of: praise", "of: prise")
    told = misfits(tmp_path, wrong, ruled.task())
    assert "Did you mean 'cancel'?" in told[0] and told[0].startswith("checks.0.answer: No class of this model")
    assert told[1].startswith("checks.2: `of` is 'prise', which is no class. Did you mean")
    # A number has no classes, and "cancel" is no number.
    told = misfits(tmp_path, GOOD, ruled.task("regress"))
    assert told == [
        'checks.0.answer: is not a number but "cancel"',
        "checks.2: `of` names a class, but the task answers a number: leave it out",
    ]


def test_the_examples_fit_the_messages() -> None:
    found = checks.read(EXAMPLES / "checks.yaml")
    part: Any = registry.build("tasks", {"name": "classify", "text": "text", "label": "intent"})
    rows = read(EXAMPLES / "messages.csv", part.columns()).rows
    part.learn(each(rows))
    assert checks.misfits(found, part, layout(part)) == []
    pairs = part.truths(each(read(EXAMPLES / "contrast.csv", part.columns()).rows)).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_rows_of_several_texts_are_mappings(tmp_path: Path) -> None:
    span = registry.build("tasks", "answer_span")
    text = """\
checks:
  - name: oak
    kind: minimum
    texts: [{question: wood, context: It is oak.}, {question: wood}, {context: It is oak., qestion: wood}, wood]
    answer: oak
"""
    told = misfits(tmp_path, text, span)
    assert told == [
        "checks.0.texts.1: has no context",
        "checks.0.texts.2: 'qestion' is no column of the task. Did you mean 'question'? Known: context, question.",
        "checks.0.texts.3: is one text, but a row needs several: write a mapping of question, context",
    ]
