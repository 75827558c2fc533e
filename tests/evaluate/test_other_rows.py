"""Rows of other files, and how long rows are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from tunesmith.core.errors import DataError
from tunesmith.evaluate import other_rows
from tunesmith.tasks.choose import Choose
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.classify_image import ClassifyImage


def task() -> Classify:
    """Classes a and b."""
    found = Classify()
    found.learn({"label": label} for label in "ab")
    return found


def test_a_class_that_training_had_not_is_told_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\none,a\ntwo,oos\n")
    rows = other_rows.labelled(task(), str(path))
    with pytest.raises(DataError, match=r"rows\.csv: No class of this model is called 'oos'") as caught:
        other_rows.truths_of(task(), rows, str(path))
    assert "ood.outside" in caught.value.hint
    assert len(other_rows.unlabelled(task(), str(path))) == 2  # the labels are not looked at


def test_groups_are_values_of_any_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "year": 2020}\n{"text": "y", "year": null}\n{"text": "z", "year": "2021"}\n')
    assert other_rows.groups_of(str(path), "year").tolist() == ["2020", "(empty)", "2021"]
    assert other_rows.groups_of(str(path), "text").tolist() == ["x", "y", "z"]
    with pytest.raises(DataError, match=r"no column 'yeer'.*Did you mean 'year'") as caught:
        other_rows.groups_of(str(path), "yeer")
    assert caught.value.hint.startswith("ood.groups names a column")


def test_lengths_are_those_of_what_the_model_reads() -> None:
    rows = Dataset.from_list(
        [{"text": "abc", "pair": "de", "label": "longer"}, {"text": "f", "pair": "g", "label": "x"}]
    )
    assert other_rows.lengths(Classify(pair="pair"), rows).tolist() == [5, 2]  # type: ignore[union-attr, arg-type]
    choose = Choose()
    columns = {one.role: one for one in choose.columns() if not one.target}
    row = {role: ["ab", "cd"] if one.storage == "texts" else "efg" for role, one in columns.items()}
    found = other_rows.lengths(choose, Dataset.from_list([row]))  # type: ignore[arg-type]
    assert found is not None and found[0] == sum(4 if one.storage == "texts" else 3 for one in columns.values())
    assert other_rows.lengths(ClassifyImage(), Dataset.from_list([{"image": "a.png"}])) is None  # type: ignore[arg-type]
    assert np.issubdtype(found.dtype, np.integer)
