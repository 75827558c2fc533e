"""CoNLL files: sentences as rows, by the numbers of their lines; what is beside them, and what is wrong in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.data.conftest import Write
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data.conll import names_of
from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream
from tunesmith.data.read import read
from tunesmith.tasks.tag import Tag

TWO = "The\tO\noak\tB-material\ndesk\tO\n\nHello\tO\n"
ROWS = [
    (1, {"tokens": ["The", "oak", "desk"], "tags": ["O", "B-material", "O"]}),
    (5, {"tokens": ["Hello"], "tags": ["O"]}),
]


def rows_of(path: Path) -> tuple[list[str], list[tuple[int, dict[str, object]]], Faults]:
    faults = Faults(path)
    with stream(path, faults) as source:
        return source.names, list(source.rows), faults


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", TWO),
        ("a.iob", TWO.replace("\t", " ")),
        ("a.bio", TWO.replace("\t", "   ")),
        ("a.conll", TWO.replace("\n", "\r\n")),
        ("a.conll", TWO.rstrip()),
        ("a.conll", TWO.replace("\tO", "\tO  ")),
        ("A.CONLL", TWO),
        ("a.conll.gz", gzip.compress(TWO.encode(), mtime=0)),
    ],
)
def test_every_spelling_gives_the_same_rows(write: Write, name: str, content: str | bytes) -> None:
    names, rows, faults = rows_of(write(name, content))
    assert (names, rows, faults.kept) == (["tokens", "tags"], ROWS, [])


def test_columns_between_have_numbers(write: Write) -> None:
    names, rows, _ = rows_of(write("a.conll", "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"))
    assert names == names_of(4) == ["tokens", "column_2", "column_3", "tags"]
    assert rows == [
        (1, {"tokens": ["EU", "rejects"], "column_2": ["NNP", "VBZ"], "column_3": ["B-NP", "B-VP"],
             "tags": ["B-ORG", "O"]})
    ]  # fmt: skip
    assert names_of(1) == ["tokens"] and names_of(2) == ["tokens", "tags"]


def test_words_alone(write: Write) -> None:
    names, rows, _ = rows_of(write("a.conll", "Hello\nthere\n\nBye\n"))
    assert names == ["tokens"]
    assert rows == [(1, {"tokens": ["Hello", "there"]}), (4, {"tokens": ["Bye"]})]


def test_other_space_than_blanks_and_tabs_is_a_word(write: Write) -> None:
    _, rows, faults = rows_of(write("a.conll", "a O\n\u00a0 O\n\u3000b O\n"))
    assert rows == [(1, {"tokens": ["a", "\u00a0", "\u3000b"], "tags": ["O", "O", "O"]})]
    assert faults.kept == []


def test_what_is_no_sentence_is_left_out_counted_and_said_once(write: Write) -> None:
    content = f"-DOCSTART- -X-\n\n# id = 1\n{TWO.strip()}\n-DOCSTART- O\nBye\tO\n\n# id = 2 of 2\n#\tO\n# one\tO\n"
    path = write("a.conll", content)
    with listening() as said:
        first, again = rows_of(path), rows_of(path)
    assert first[1] == again[1] and first[2].kept == []
    assert [row["tokens"] for _, row in first[1]] == [["The", "oak", "desk"], ["Hello"], ["Bye"], ["#", "# one"]]
    assert [number for number, _ in first[1]] == [4, 8, 10, 13]
    assert said == [f"{path}: 2 -DOCSTART- lines and 2 lines of comment are left out."]


def test_a_number_sign_may_be_the_first_word(write: Write) -> None:
    _, rows, _ = rows_of(write("a.conll", "# O\n1 O\n"))
    assert rows == [(1, {"tokens": ["#", "1"], "tags": ["O", "O"]})]
    _, rows, _ = rows_of(write("b.conll", "# O\n# B-x\n"))
    assert rows == [(1, {"tokens": ["#", "#"], "tags": ["O", "B-x"]})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a\tO\nb\n\nc\tO\n", ["line 2: 2 columns are expected, 1 found"]),
        ("a\tO\nb\tO\tO\n\nc\tO\n", ["line 2: 2 columns are expected, 3 found"]),
        ("a O\nb c O\n\nc O\n", ["line 2: 2 columns are expected, 3 found"]),
        ("a\nb O\n\nc\n", ["line 2: 1 column is expected, 2 found"]),
        ("a\tO\n\tO\n\nc\tO\n", ["line 2: column 1 is empty"]),
        ("-DOCSTART- -X- O O\n\n-DOCSTART- -X- O O\n", ["it holds no sentence"]),
    ],
)
def test_every_fault_has_its_line(write: Write, content: str, expected: list[str]) -> None:
    _, rows, faults = rows_of(write("a.conll", content))
    assert faults.kept == expected
    assert len(rows) == ("c" in content)  # the sentence that is right


def test_a_file_is_read_with_a_task_s_columns(write: Write) -> None:
    path = write("a.conll", "EU NNP B-ORG\nrejects VBZ O\n\nBye UH O\n")
    table = read(path, Tag().columns())
    assert table.columns == {"words": "tokens", "tags": "tags"}
    assert table.rows["tags"][:] == [["B-ORG", "O"], ["O"]] and table.rows["line"][:] == [1, 4]
    other = read(path, Tag(tags="column_2").columns())
    assert other.rows["tags"][:] == [["NNP", "VBZ"], ["UH"]]
    assert read(write("b.conll", "Hi\n"), Tag().columns(), need_targets=False).rows["words"][:] == [["Hi"]]
    with pytest.raises(DataError, match="line 1, column 'tags': word 1: I-x goes on no span"):
        read(write("c.conll", "a I-x\n"), Tag().columns())


def test_lists_of_unequal_length_are_faults_of_their_lines(write: Write) -> None:
    lines = [
        '{"tokens": ["a", "b"], "tags": ["O"]}',
        '{"tokens": ["a"], "tags": ["O"]}',
        '{"tokens": "a", "tags": "O O"}',
    ]
    with pytest.raises(DataError) as error:
        read(write("a.jsonl", "\n".join(lines)), Tag().columns())
    assert "2 faults" in error.value.message
    assert "line 1: 1 tags for 2 words" in error.value.message
    assert "line 3: 2 tags for 1 words" in error.value.message


def test_a_level_column_is_no_hindrance_where_the_other_is_not_read(write: Write) -> None:
    column = Column("tags", None, ("tags",), list, storage="texts", level="words")
    assert len(read(write("a.jsonl", '{"tags": ["O"]}\n'), [column]).rows) == 1
