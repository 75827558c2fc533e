"""Merges that can't be done, on the command line: nothing is written, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input.case import Desk


@pytest.fixture
def run(desk: Desk, finished: Path) -> Path:
    desk.take(finished)
    return desk.folder / "run"


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        ("run run --weights 1", "--weights: 1 given for 2 runs", ""),
        ("run --weights 1 1 x", "x does not exist", "tunesmith train"),
        ("run --how tie", "--how 'tie' is unknown. Did you mean 'ties'?", ""),
        ("run --how ties --density 2", "--density 2 is not above 0 and at most 1", ""),
        ("run --how ties --density much", "'density=much' is neither density=NUMBER", "density=0.2"),
        ("run --density 0.5", "--density goes with --how ties, dare, dare_ties, not with linear", ""),
        ("run --how ties --seed 1 --density 0", ["--density 0 is not above 0", "--seed goes with --how dare"], ""),
        ("run --as-delta rank=x", "--as-delta 'rank=x' is neither 'exact' nor 'rank=N'", "rank=16"),
        ("run --as-delta rank=500", "The rank 500 is too large: the changed matrices have at most 32.", "exact"),
        ("run --soup greedy", "--soup takes the mean of several runs, 1 is given", ""),
        ("run run --soup stew", "--soup 'stew' is unknown. Known: greedy, uniform.", ""),
        ("run run --soup uniform --weights 1 2", "leave --how, --weights, --density and --seed out", ""),
        ("run run --soup greedy --how ties", "--soup takes the plain mean", ""),
        ("run none --soup greedy", "The folder none does not exist.", "tunesmith train"),
        ("run none --as-delta", "The folder none does not exist.", "tunesmith train"),
    ],
)
def test_words_that_do_not_fit(desk: Desk, run: Path, words: str, says: str, hint: str) -> None:
    desk.refused("merge", *words.split(), "--out", "out", says=says, hint=hint)


def test_a_soup_of_rows_that_changed(desk: Desk) -> None:
    desk.trained()
    ended = desk.run("merge", "run", "run", "--soup", "greedy", "--out", "soup")
    assert ended.status == 0, ended.said
    assert "A greedy soup of 2 of 2 runs" in ended.out
    assert "merged model: soup" in ended.out and (desk.folder / "soup" / "soup.json").is_file()
    desk.tidy("soup")
    rows = desk.folder / "rows.csv"
    rows.write_text(rows.read_text() + "a thing more,good\n")
    desk.refused("merge", "run", "run", "--soup", "greedy", "--out", "x", says="The data changed since", hint="Put the")


def test_damaged_small_runs(desk: Desk, run: Path) -> None:
    ended = desk.run("merge", "run", "--how", "dare", "density=0.5", "--out", "small", "--as-delta")
    assert ended.status == 0, ended.said
    assert "difference to the backbone: small (" in ended.out
    desk.tidy("small")
    assert desk.run("predict", "small", "rows.csv").status == 0
    weights = desk.folder / "small" / "model" / "difference.safetensors"
    told = weights.with_suffix(".json")
    whole, words = weights.read_bytes(), told.read_text()
    weights.write_bytes(whole[: len(whole) // 2])
    desk.refused("predict", "small", "rows.csv", says="difference.safetensors is damaged: ", hint="Copy the file")
    weights.unlink()
    desk.refused("merge", "small", "--out", "x", says="it has no difference.safetensors", hint="Copy the folder")
    weights.write_bytes(whole)
    told.write_text("{}")
    desk.refused("predict", "small", "rows.csv", says="small/model/difference.json is damaged: KeyError('tensors')")
    told.write_text(words)
    (desk.folder / "small" / "model" / "backbone.json").unlink()
    desk.refused("predict", "small", "rows.csv", says="The file small/model/backbone.json is missing.")
