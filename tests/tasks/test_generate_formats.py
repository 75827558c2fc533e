"""Formats of rows: which one a file is in, what is wrong with a cell, a row as a talk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.architecture import source
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.data.load import load
from tunesmith.data.read import read
from tunesmith.data.settings import DataSettings
from tunesmith.tasks import generate_formats as formats
from tunesmith.tasks.generate_formats import FORMATS, Turn

EXAMPLES = source.ROOT / "examples"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


TALK = [system("Be brief."), user("Is oak hard?"), assistant("Yes."), user("And pine?"), assistant("No.")]
GPT = [{"from": "human", "value": "Is oak hard?"}, {"from": "gpt", "value": "Yes."}]


def parsed(row: Row, format: str) -> Row:
    """A raw row, its cells read by the first likely columns that it has."""
    found = {}
    for column in formats.columns(format, {}):
        name = next((name for name in column.likely if name in row), None)
        if name is not None:
            found[column.role] = column.parse(row[name])
    return found


def talk_fault(turns: Any, format: str = "messages") -> str:
    with pytest.raises(ValueError) as caught:
        formats.columns(format, {})[0].parse(turns)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"id": "1", "instruction": "a", "context": "c", "response": "b"}, "alpaca"),
        ({"Instruction": "a", "Output": "b"}, "alpaca"),
        ({"messages": TALK}, "messages"),
        ({"conversations": TALK}, "messages"),
        ({"id": 3, "conversations": GPT}, "conversations"),
        ({"messages": GPT}, "conversations"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"prompt": "a", "response": "b"}, "prompt_completion"),
        ({"question": "a", "answer": "b"}, "prompt_completion"),
        ({"id": "x", "source": "a", "targets": ["b", "c"]}, "prompt_completion"),
        ({"text": "a"}, "text"),
        ({"text": "a", "id": 3, "url": "u"}, "text"),
        # Of other tasks, or of nobody:
        ({"text": "a", "label": "b"}, None),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, None),
        ({"prompt": "a", "response": "b", "score": 3}, None),
        ({"question": "a", "context": "c", "answer": "b"}, None),
        ({"question": "a", "choices": ["b", "c"], "answer": "b"}, None),
        ({"messages": "a plain text"}, None),
        ({"messages": ["a", "b"]}, None),
        ({"sentence1": "a", "sentence2": "b"}, None),
    ],
)
def test_a_format_is_recognised_by_columns_and_values(row: Row, format: str | None) -> None:
    assert formats.recognise(list(row), [row]) == format


def test_a_talk_is_recognised_by_the_first_row_that_has_one() -> None:
    assert formats.recognise(["messages"], [{"messages": None}, {"messages": []}, {"messages": GPT}]) == "conversations"


def test_columns_take_the_names_of_the_recipe_and_refuse_roles_that_are_none() -> None:
    found = {column.role: column.name for column in formats.columns("alpaca", {"output": "reply"})}
    assert found == {"instruction": None, "input": None, "output": "reply", "system": None}
    with pytest.raises(RecipeError, match=r"format 'alpaca' has no role 'ouput'. Did you mean 'output'\? Known: input"):
        formats.columns("alpaca", {"ouput": "reply"})


def test_only_what_is_to_be_predicted_is_a_target() -> None:
    targets = {name: [column.role for column in formats.columns(name, {}) if column.target] for name in FORMATS}
    assert targets == {
        "alpaca": ["output"],
        "messages": [],
        "conversations": [],
        "prompt_completion": ["completion"],
        "text": [],
    }


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ("hello", 'is not a list of turns but "hello"'),
        ([], "is not a list of turns but []"),
        (None, "is not a list of turns but null"),
        (["hello"], "turn 1: is not an object with 'role' and 'content' but \"hello\""),
        ([{"content": "a"}], "turn 1: is not an object with 'role' and 'content'"),
        ([user("a"), {"role": "asistant", "content": "b"}], "turn 2: the role \"asistant\" is unknown. Did you mean "
         "'assistant'? Known: assistant, system, user."),
        ([user("a"), {"role": "tool", "content": "b"}], 'turn 2: the role "tool" is unknown'),
        ([{"role": ["user"], "content": "b"}], 'turn 1: the role ["user"] is unknown'),
        ([user("a"), {"role": "assistant", "content": None}], "turn 2: 'content' is not a text but null"),
        ([{"role": "user", "content": [{"type": "text"}]}], "turn 1: 'content' is not a text but [{"),
        ([user("a"), assistant("  ")], "turn 2: the text of the assistant is blank"),
        ([user(""), assistant("b")], "turn 1: the text of the user is blank"),
        ([assistant("b")], "turn 1: the assistant speaks first: a talk starts with the user"),
        ([system("s"), assistant("b")], "turn 2: the assistant speaks first"),
        ([user("a"), user("b")], "turn 2: the user speaks twice in a row: user and assistant must take turns"),
        ([user("a"), assistant("b"), assistant("c")], "turn 3: the assistant speaks twice in a row"),
        ([user("a"), system("s")], "turn 2: a system text may stand only at the start of a talk"),
        ([system("s")], "holds no turn of the user"),
        ([system(" ")], "holds no turn of the user"),
        ([user("a"), {**assistant("b"), "tool_calls": [1]}], "turn 2: has 'tool_calls', which is not read"),
        ([user("a"), {**assistant("b"), "weight": 0}], "turn 2: has 'weight', which is not read"),
    ],
)  # fmt: skip
def test_a_bad_talk_gets_its_sentence(turns: Any, fault: str) -> None:
    assert talk_fault(turns).startswith(fault)


def test_a_bad_talk_in_the_other_spelling_gets_its_sentence() -> None:
    assert "the role \"bot\" is unknown. Known: assistant, gpt, human, system, user" in talk_fault(
        [GPT[0], {"from": "bot", "value": "b"}], "conversations"
    )  # fmt: skip
    assert talk_fault([GPT[0], {"from": "gpt", "value": " "}], "conversations") == (
        "turn 2: the text of the assistant is blank"
    )


def test_keys_that_change_nothing_are_left_out_and_so_is_a_blank_system_text() -> None:
    talk = [system(""), {**user("a"), "name": "Ann", "tool_calls": None}, assistant("b")]
    assert parsed({"messages": talk}, "messages")["messages"] == [user("a"), assistant("b")]


def test_a_talk_may_end_with_the_user() -> None:
    assert parsed({"messages": TALK[:4]}, "messages")["messages"] == TALK[:4]


@pytest.mark.parametrize(
    ("value", "fault"),
    [(None, "is missing"), ([], "is an empty list of answers"), ("", "is blank"), (["a", " "], "is blank"),
     (3, "is not a text but 3"), ([{"role": "assistant"}], "is not a text but ")],
)  # fmt: skip
def test_bad_answers_get_their_sentence(value: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        formats.references(value)


def test_an_instruction_and_its_input_are_one_question() -> None:
    row = parsed({"instruction": "Translate.", "input": "oak", "output": "Eiche"}, "alpaca")
    assert formats.turns(row, "alpaca") == [Turn("user", "Translate.\n\noak"), Turn("assistant", "Eiche")]
    row = parsed({"instruction": "Say hi.", "input": "  ", "output": "Hi"}, "alpaca")
    assert formats.turns(row, "alpaca")[0] == Turn("user", "Say hi.")
    assert formats.turns({"instruction": "Say hi."}, "alpaca") == [Turn("user", "Say hi.")]


def test_of_several_right_answers_the_first_is_learned_and_all_are_compared_with() -> None:
    row = parsed({"source": "long", "targets": ["short", "brief"]}, "prompt_completion")
    assert formats.turns(row, "prompt_completion") == [Turn("user", "long"), Turn("assistant", "short")]
    assert formats.right(row, "prompt_completion") == ("short", "brief")
    assert formats.right({"prompt": "long"}, "prompt_completion") == ()


def test_talks_keep_their_turns_and_their_own_system_text() -> None:
    row = {"messages": TALK}
    assert [turn._asdict() for turn in formats.turns(row, "messages", "Be kind.")] == TALK
    assert formats.turns({"messages": TALK[1:3]}, "messages", "Be kind.")[0] == Turn("system", "Be kind.")
    assert formats.right(row, "messages") == ("No.",)
    assert formats.right({"messages": TALK[:4]}, "messages") == ()
    row = parsed({"conversations": GPT}, "conversations")
    assert formats.turns(row, "conversations") == [Turn("user", "Is oak hard?"), Turn("assistant", "Yes.")]


def test_a_system_column_comes_before_the_recipes_text() -> None:
    row = parsed({"prompt": "a", "completion": "b", "system": "Be brief."}, "prompt_completion")
    assert formats.turns(row, "prompt_completion", "Be kind.")[0] == Turn("system", "Be brief.")
    row = parsed({"prompt": "a", "completion": "b", "system": None}, "prompt_completion")
    assert formats.turns(row, "prompt_completion", "Be kind.")[0] == Turn("system", "Be kind.")


def test_rows_to_learn_from_must_end_with_an_answer() -> None:
    rows = [{"line": 2, "messages": TALK}, {"line": 3, "messages": TALK[:4]}, {"line": 9, "messages": TALK[:2]}]
    formats.refuse_unanswered(rows[:1], "messages")
    with pytest.raises(DataError, match=r"must end with an answer: 2 of 3 end with .* \(lines 3, 9\)") as caught:
        formats.refuse_unanswered(rows, "messages")
    assert "Let the last turn of every talk be the assistant's" in caught.value.hint
    with pytest.raises(DataError, match=r"lines 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, …\)"):
        formats.refuse_unanswered(rows[1:2] * 11, "messages")


def test_faults_of_a_file_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "talks.jsonl"
    rows = [TALK, [user("a"), user("b")], TALK, [assistant("b")]]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read(path, formats.columns("messages", {}))
    assert "line 2, column 'messages': turn 2: the user speaks twice in a row" in str(caught.value)
    assert "line 4, column 'messages': turn 1: the assistant speaks first" in str(caught.value)


def test_stored_rows_are_talks_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": TALK}), encoding="utf-8")
    table = read(path, formats.columns("messages", {}))
    assert [turn._asdict() for turn in formats.turns(table.rows[0], "messages")] == TALK
    path.write_text(json.dumps({"instruction": "a", "output": "b"}), encoding="utf-8")
    table = read(path, formats.columns("alpaca", {}), need_targets=False)
    assert formats.turns(table.rows[0], "alpaca") == [Turn("user", "a")]


@pytest.mark.parametrize(
    ("name", "format", "least"),
    [("instructions.jsonl", "alpaca", 60), ("dialogues.jsonl", "messages", 30), ("pairs.csv", "prompt_completion", 60)],
)
def test_the_example_files_are_in_their_formats(name: str, format: str, least: int) -> None:
    settings = DataSettings(train=str(EXAMPLES / name), validation=0.2, test=0.2)
    table = read(EXAMPLES / name, formats.columns(format, {}))
    assert formats.recognise(list(table.columns.values()), _raw(EXAMPLES / name)) == format
    assert len(table.rows) >= least
    splits = load(settings, formats.columns(format, {}))
    assert splits.validation is not None and splits.test is not None
    formats.refuse_unanswered(list(table.rows), format)


def test_a_file_without_an_optional_column_is_compared_with_one_where_it_is_blank(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {word}.", "input": "", "output": word} for word in ("oak", "pine", "ash")]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    (tmp_path / "test.jsonl").write_text(json.dumps({"instruction": "Say oak.", "output": "oak"}), encoding="utf-8")
    settings = DataSettings(
        train=str(tmp_path / "train.jsonl"), test=str(tmp_path / "test.jsonl"), validation=None, leaks="keep"
    )
    with listening() as notes:
        load(settings, formats.columns("alpaca", {}))
    assert any("1 " in note and "test" in note and "kept" in note for note in notes), notes
    same = [{**rows[0], "output": word} for word in ("oak", "pine")]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(row) for row in same), encoding="utf-8")
    with pytest.raises(DataError, match="all 2 training rows have the same text in 'instruction', 'input'"):
        load(settings, formats.columns("alpaca", {}))


def _raw(path: Path) -> list[Row]:
    if path.suffix == ".csv":
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
