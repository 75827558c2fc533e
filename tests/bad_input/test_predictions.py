"""Rows that a finished run can't answer, and runs that can't answer rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.case import Desk


@pytest.fixture
def run(desk: Desk, finished: Path) -> Path:
    desk.take(finished)
    return desk.folder / "run"


@pytest.mark.parametrize("out", [[], ["--out", "answers.jsonl"]])
def test_rows_without_the_needed_column(desk: Desk, run: Path, out: list[str]) -> None:
    desk.write("more.csv", "txt,id\nfine,1\npoor,2\n")
    says = ["more.csv has 1 fault", "no column", "'text'", "txt"]
    desk.refused("predict", "run", "more.csv", *out, says=says, hint="task.text=COLUMN")


def test_all_bad_rows_at_once(desk: Desk, run: Path) -> None:
    desk.write("more.csv", "id,text\n1,fine\n2,  \n3,poor,thing\n")
    says = ["more.csv has 2 faults", "line 3, column 'text': is blank", "line 4: 2 cells are expected, 3 found"]
    desk.refused("predict", "run", "more.csv", "--out", "answers.jsonl", says=says)


def test_broken_json_rows(desk: Desk, run: Path) -> None:
    desk.write("more.jsonl", '{"text": "fine"}\n{"text": }\n{"txt": "poor"}\n{"text": 5}\n')
    says = [
        "more.jsonl has 3 faults",
        "line 2, character 10: broken JSON: Expecting value",
        "line 3, column 'text': is missing",
        "line 4, column 'text': is not a text but 5",
    ]
    desk.refused("predict", "run", "more.jsonl", says=says)


def test_missing_file_of_rows(desk: Desk, run: Path) -> None:
    desk.refused("predict", "run", "row.csv", says="There is no file row.csv.", hint="Did you mean rows.csv")


def test_folder_in_the_place_of_a_file(desk: Desk, run: Path) -> None:
    desk.refused("predict", "run", ".", says="is a folder where a file is needed", hint="rows.csv")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("rows.csv", "rows.csv exists: it is not touched."),
        ("run", "run exists: it is not touched."),
        ("rows.csv/answers.jsonl", "rows.csv/answers.jsonl could not be written: Not a directory."),
        ("x" * 300, "could not be written: File name too long."),
    ],
)
def test_nothing_is_written_over(desk: Desk, run: Path, out: str, says: str) -> None:
    desk.refused("predict", "run", "rows.csv", "--out", out, says=says, hint="--out")


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("rows.csv", "rows.csv exists and is not an empty folder."),
        ("run", "run exists and is not an empty folder."),
        ("rows.csv/model", "rows.csv/model could not be written: Not a directory."),
    ],
)
def test_merge_writes_over_nothing(desk: Desk, run: Path, out: str, says: str) -> None:
    desk.refused("merge", "run", "--out", out, says=says, hint="--out")


def test_labels_that_the_model_does_not_know(desk: Desk, run: Path) -> None:
    desk.write("more.csv", "text,label\na fine thing,good\na new thing,godo\nanother,fair\n")
    says = [
        "The answers in more.csv don't fit the model:",
        "line 3: No class of this model is called 'godo'. Did you mean 'good'? Known: bad, good.",
        "line 4: No class of this model is called 'fair'.",
    ]
    desk.refused("evaluate", "run", "--data", "more.csv", says=says, hint="Mend these rows.")


def test_rows_to_measure_on_without_labels(desk: Desk, run: Path) -> None:
    desk.write("more.csv", "text,id\na fine thing,1\n")
    desk.refused("evaluate", "run", "--data", "more.csv", says=["more.csv has 1 fault", "no column", "'label'"])


def test_unknown_suite(desk: Desk, run: Path) -> None:
    says = "No suite is called 'tsk'. Did you mean 'task'?"
    desk.refused("evaluate", "run", "--data", "rows.csv", "--suite", "tsk", says=says)


@pytest.mark.parametrize(
    "command", ["predict {} rows.csv", "evaluate {}", "merge {} --out merged", "report {}", "resume {}"]
)
@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("nowhere", "The folder nowhere does not exist."),
        ("rows.csv", "The folder rows.csv is not a run: it has no recipe.yaml."),
    ],
)
def test_no_run(desk: Desk, run: Path, command: str, folder: str, says: str) -> None:
    desk.refused(*command.format(folder).split(), says=says, hint="Give the folder that `tunesmith train` named.")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("recipe.yaml", b"a: [", "The recipe run/recipe.yaml is no YAML that can be read: line 1"),
        ("recipe.yaml", b"", "The recipe run/recipe.yaml is empty."),
        ("recipe.yaml", b"- a", "The recipe run/recipe.yaml is not a mapping"),
        ("recipe.yaml", b"train: {batch_size: 0}", "line 1: train.batch_size: 0 is out of range"),
        ("task.json", b"{", "The file run/task.json is damaged: "),
        ("task.json", b"{}", "The file run/task.json is damaged: "),
        ("task.json", b"[]", "The file run/task.json is damaged: "),
        ("task.json", None, "The file run/task.json is missing."),
        ("model/model.safetensors", b"xx", "The weights run/model/model.safetensors are damaged: "),
        ("model/config.json", b"{", "run/model/config.json is damaged: "),
        ("model/tokenizer.json", b"{", "run/model/tokenizer.json is damaged: "),
    ],
)
def test_damaged_run(desk: Desk, run: Path, file: str, content: bytes | None, says: str) -> None:
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_bytes(content)
    desk.refused("predict", "run", "rows.csv", "--out", "answers.jsonl", says=says)


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_damaged_evaluation(desk: Desk, run: Path, command: str) -> None:
    (run / "evaluation.json").write_text("{")
    desk.refused(command, "run", says="The file run/evaluation.json is damaged: ")
