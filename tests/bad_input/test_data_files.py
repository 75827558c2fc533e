"""Files of rows that can't be trained on."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.bad_input.case import ROWS, SCORES, TINY, Desk

END = ROWS.count("\n") + 1  # the first line behind ROWS


def test_missing_file(desk: Desk) -> None:
    desk.write("reviews.csv", ROWS)
    desk.train_refused("reveiws.csv", says="There is no file reveiws.csv.", hint="Did you mean reviews.csv")


def test_missing_folder(desk: Desk) -> None:
    desk.train_refused("data/rows.csv", says="There is no file data/rows.csv.", hint="data does not exist either")


def test_folder_without_data(desk: Desk) -> None:
    desk.write("data/readme.md", "nothing here")
    desk.train_refused(
        "data", says="The folder data has no training file: there is readme.md.", hint="Name it train with one of .csv"
    )


def test_unknown_ending(desk: Desk) -> None:
    desk.write("rows.docx", ROWS)
    desk.train_refused("rows.docx", says="rows.docx ends in '.docx'", hint=".csv, .tsv, .jsonl")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.csv", '{"text": "a", "label": "b"}\n', "JSON objects: let its name end in .jsonl"),
        ("rows.jsonl", ROWS, "what looks like CSV: let its name end in .csv"),
        ("rows.jsonl", '[{"text": "a", "label": "b"}]\n', "one JSON list: let its name end in .json"),
        ("rows.csv", b"PK\x03\x04rest", "Excel workbook (.xlsx): save the sheet as CSV"),
        ("rows.csv", gzip.compress(ROWS.encode(), mtime=0), "a gzip file: let its name end in .gz"),
        ("rows.csv", ROWS.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("rows.parquet", ROWS, "no Parquet data"),
    ],
)
def test_wrong_ending_for_the_content(desk: Desk, name: str, content: str | bytes, says: str) -> None:
    desk.write(name, content)
    desk.train_refused(name, says=[f"{name} is not what its ending says: it holds", says])


def test_not_gzip(desk: Desk) -> None:
    desk.write("rows.csv.gz", ROWS)
    desk.train_refused("rows.csv.gz", says="it is no gzip file", hint="Take .gz off its name.")


def test_gzip_cut_off(desk: Desk) -> None:
    desk.write("rows.csv.gz", gzip.compress(ROWS.encode())[:-12])
    desk.train_refused("rows.csv.gz", says="rows.csv.gz")


def test_not_utf_8(desk: Desk) -> None:
    start = len(ROWS)
    desk.write("rows.csv", ROWS.encode() + "caf\xe9,good\nni\xf1o,bad\n".encode("latin-1"))
    says = [
        "rows.csv has 2 faults",
        f"line {END}, byte {start + 3}: is not UTF-8 (0xe9)",
        f"line {END + 1}, byte {start + 12}: is not UTF-8 (0xf1)",
    ]
    desk.train_refused("rows.csv", says=says, hint="iconv -f cp1252 -t utf-8")


def test_byte_order_mark_is_left_out_and_said(desk: Desk) -> None:
    desk.write("rows.csv", b"\xef\xbb\xbf" + ROWS.encode())
    ended = desk.run("train", "rows.csv", *TINY, "--out", "run")
    assert ended.status == 0, ended.said
    assert "rows.csv starts with a byte-order mark, which is left out." in ended.said
    assert "text = column 'text'" in ended.said
    desk.whole()


def test_ragged_csv(desk: Desk) -> None:
    desk.write("rows.csv", ROWS + "one,two,three\nalone\n")
    says = [
        "rows.csv has 2 faults",
        f"line {END}: 2 cells are expected, 3 found",
        f"line {END + 1}: 2 cells are expected, 1 found",
    ]
    desk.train_refused("rows.csv", says=says, hint="must stand in quotation marks")


def test_quotation_mark_never_closed(desk: Desk) -> None:
    desk.write("rows.csv", ROWS + '"open,good\n')
    desk.train_refused("rows.csv", says=f"line {END}: a quotation mark opened here is never closed")


def test_semicolons(desk: Desk) -> None:
    desk.write("rows.csv", ROWS.replace(",", ";"))
    desk.train_refused("rows.csv", says="line 1: the header is separated by semicolons, not by commas")


def test_broken_json_on_one_line(desk: Desk) -> None:
    good = '{"text": "a b", "label": "x"}\n'
    desk.write("rows.jsonl", f'{good}{{"text": "a c", "label":\n{good}[1]\n')
    says = [
        "rows.jsonl has 2 faults",
        "line 2, character 25: broken JSON: Expecting value",
        "line 4: is not an object but a list",
    ]
    desk.train_refused("rows.jsonl", says=says, hint="Every line must be one whole JSON object")


def test_missing_column(desk: Desk) -> None:
    desk.write("rows.csv", "text,kind\na,b\nc,d\n")
    desk.train_refused(
        "rows.csv", says=["task: no task suits the columns of rows.csv: text, kind", "task: {name: classify"]
    )


def test_named_column_is_missing(desk: Desk) -> None:
    desk.write("rows.csv", ROWS)
    desk.train_refused(
        "rows.csv", "--set", "task={name: classify, text: txt, label: lable}",
        says=[
            "rows.csv has 2 faults",
            "no column 'txt' for the role 'text'. Did you mean 'text'? Known: label, text.",
            "no column 'lable' for the role 'label'. Did you mean 'label'?",
        ],
        hint="--set task.",
    )  # fmt: skip


def test_doubled_column(desk: Desk) -> None:
    desk.write("rows.csv", "text,label,label\na,b,c\nd,e,f\n")
    desk.train_refused("rows.csv", says="line 1: the header names column 'label' 2 times")


def test_empty_file(desk: Desk) -> None:
    desk.write("rows.csv", "")
    desk.train_refused("rows.csv", says="rows.csv is empty.", hint="It needs a header line and rows.")


def test_header_only(desk: Desk) -> None:
    desk.write("rows.csv", "text,label\n")
    desk.train_refused("rows.csv", says="it has no rows, only a header", hint="Put rows under the header.")


def test_empty_and_blank_texts_and_labels(desk: Desk) -> None:
    desk.write("rows.csv", f"{ROWS}   ,good\n,bad\nno label,\n")
    says = [
        "rows.csv has 3 faults",
        f"line {END}, column 'text': is blank",
        f"line {END + 1}, column 'text': is blank",
        f"line {END + 2}, column 'label': is blank",
    ]
    desk.train_refused("rows.csv", says=says)


def test_all_faults_of_a_file_at_once_wherever_they_stand(desk: Desk) -> None:
    far = ROWS.partition("\n")[2] * 3
    desk.write("rows.csv", f"{ROWS}one,two,three\n{far}alone\n,good\n")
    last = END + 1 + far.count("\n")
    says = [
        "rows.csv has 3 faults",
        f"line {END}: 2 cells are expected, 3 found",
        f"line {last}: 2 cells are expected, 1 found",
        f"line {last + 1}, column 'text': is blank",
    ]
    desk.train_refused("rows.csv", says=says)


def test_faults_of_all_files_at_once(desk: Desk) -> None:
    desk.write("rows.csv", f"{ROWS},good\n")
    desk.write("more.csv", "text,label\nfine,good\nalone\n")
    desk.train_refused(
        "rows.csv", "--set", "data.validation=more.csv",
        says=["rows.csv has 1 fault", f"line {END}, column 'text'", "more.csv has 1 fault", "line 3: 2 cells"],
    )  # fmt: skip


def test_many_faults_are_counted(desk: Desk) -> None:
    desk.write("rows.csv", ROWS + ",good\n" * 50)
    desk.train_refused("rows.csv", says=["rows.csv has 50 faults", f"line {END}", f"line {END + 19}", "… and 30 more"])


def test_single_class(desk: Desk) -> None:
    desk.write("rows.csv", ROWS.replace(",bad", ",good"))
    desk.train_refused("rows.csv", says="rows.csv: column 'label' has the single class 'good': at least two are needed")


def test_class_with_one_example(desk: Desk) -> None:
    desk.write("rows.csv", f"{ROWS}a rare thing,odd\n")
    says = f"rows.csv: column 'label': class 'odd' has one example (line {END}): at least two are needed"
    desk.train_refused("rows.csv", says=says)


def test_labels_in_validation_that_training_lacks(desk: Desk) -> None:
    desk.write("rows.csv", ROWS)
    desk.write("more.csv", "text,label\na new thing,good\none more,godo\nand one,fair\nyet one,fair\n")
    says = [
        "more.csv: class 'godo' (1 row of validation, the first in line 3) does not occur in training; "
        "did you mean 'good'?",
        "more.csv: class 'fair' (2 rows of validation, the first in line 4) does not occur in training",
    ]
    desk.train_refused("rows.csv", "--set", "data.validation=more.csv", says=says)


@pytest.mark.parametrize("named", [["--set", "task=regress"], []])
def test_scores_that_are_not_finite_numbers(desk: Desk, named: list[str]) -> None:
    desk.write("rows.csv", f"{SCORES}a thing,high\nb thing,nan\nc thing,inf\nd thing,\n")
    line = SCORES.count("\n") + 1
    says = [
        "rows.csv has 4 faults",
        f"line {line}, column 'score': is not a number but \"high\"",
        f"line {line + 1}, column 'score': is not a finite number but \"nan\"",
        f"line {line + 2}, column 'score': is not a finite number but \"inf\"",
        f"line {line + 3}, column 'score': is not a number but \"\"",
    ]
    desk.train_refused("rows.csv", *named, says=says)


def test_label_that_is_sometimes_a_number_and_sometimes_a_name(desk: Desk) -> None:
    desk.write("rows.csv", f"{ROWS}third,1\nfourth,1\n")
    says = f"column 'label' has names in 120 rows (such as 'good') but numbers in 2, the first in line {END} ('1')"
    desk.train_refused("rows.csv", says=says)


def test_label_of_json_that_is_no_name(desk: Desk) -> None:
    rows = [{"text": f"thing {i}", "label": i % 2} for i in range(40)]
    desk.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, {"text": "thing", "label": {"a": 1}}]))
    desk.train_refused("rows.jsonl", says="line 41, column 'label': is not the name of a class but {\"a\": 1}")


def test_all_texts_equal(desk: Desk) -> None:
    desk.write("rows.csv", "text,label\n" + "same,good\nsame,bad\n" * 10)
    desk.train_refused("rows.csv", says="rows.csv: all 20 training rows have the same text in 'text'")


def test_all_scores_equal(desk: Desk) -> None:
    desk.write("rows.csv", "text,score\n" + "".join(f"thing {i},3\n" for i in range(120)))
    desk.train_refused("rows.csv", says=["rows.csv: column 'score' is 3 in all", "training rows"])


def test_too_few_rows(desk: Desk) -> None:
    desk.write("rows.csv", "text,label\na,b\n")
    desk.train_refused(
        "rows.csv", says=["the train split has 1 of the 1 rows of rows.csv, and needs 2", "the test split"]
    )


def test_one_file_as_two_splits(desk: Desk) -> None:
    desk.write("rows.csv", ROWS)
    says = "data.train and data.validation are the same file, rows.csv."
    desk.train_refused("rows.csv", "--set", "data.validation=rows.csv", says=says, hint="Give a share instead.")


def test_nul_byte(desk: Desk) -> None:
    desk.write("rows.csv", f"{ROWS}a\0b,good\n")
    desk.train_refused("rows.csv", says=f"line {END}: holds a NUL byte", hint="tr -d")


@pytest.mark.parametrize("command", ["check", "train"])
def test_check_says_what_train_says(desk: Desk, command: str) -> None:
    desk.write("rows.csv", f"{ROWS}alone\n")
    desk.refused(
        command, "rows.csv", *TINY, says=["rows.csv has 1 fault", f"line {END}: 2 cells are expected, 1 found"]
    )
