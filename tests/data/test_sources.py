"""Folders, and which of their files are used."""

from __future__ import annotations

import pytest

from tests.data.conftest import Write
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data.settings import DataSettings
from tunesmith.data.sources import absolute, files_of, resolve


def test_a_folder_brings_its_files_in_place_of_unset_shares(write: Write) -> None:
    folder = write("rows/train.jsonl.gz", b"").parent
    write("rows/dev.csv", "")
    write("rows/train_more.csv", "")
    resolved = resolve(DataSettings(train=str(folder)))
    assert resolved.train == str(folder / "train.jsonl.gz")
    assert resolved.validation == str(folder / "dev.csv")
    assert resolved.test == 0.1
    assert resolve(DataSettings.model_validate(resolved.model_dump())) == resolved


def test_what_the_user_set_goes_first_and_is_said(write: Write) -> None:
    folder = write("rows/train.csv", "").parent
    write("rows/test.csv", "")
    with listening() as said:
        assert resolve(DataSettings(train=str(folder), test=0.2)).test == 0.2
    assert "test.csv is not used: the recipe sets data.test to 0.2" in said[0]


def test_a_file_never_brings_its_neighbors(write: Write) -> None:
    path = write("rows/train.csv", "")
    write("rows/test.csv", "")
    assert resolve(DataSettings(train=str(path))).test == 0.1


def test_a_folder_without_a_training_file_lists_what_is_there(write: Write) -> None:
    folder = write("rows/all.csv", "").parent
    with pytest.raises(DataError, match=r"has no training file: there is all\.csv"):
        resolve(DataSettings(train=str(folder)))


def test_a_folder_with_several_training_files_is_refused(write: Write) -> None:
    folder = write("rows/train.csv", "").parent
    write("rows/train.jsonl", "")
    with pytest.raises(DataError, match=r"several train files: train\.csv, train\.jsonl"):
        resolve(DataSettings(train=str(folder)))


def test_one_file_for_two_splits_is_refused(write: Write) -> None:
    path = str(write("a.csv", "text\nx\n"))
    with pytest.raises(DataError, match=r"data\.train and data\.test are the same file"):
        files_of(DataSettings(train=path, test=path))


def test_a_folder_in_the_mixture_gives_its_training_file(write: Write) -> None:
    folder = write("rows/train.csv", "").parent
    write("rows/test.csv", "")
    train = str(write("a.csv", ""))
    settings = DataSettings.model_validate({"train": train, "mix": [{"file": str(folder), "weight": 2.0}, "b.csv"]})
    with listening() as said:
        resolved = resolve(settings)
    assert [(one.file, one.weight) for one in resolved.mix] == [(str(folder / "train.csv"), 2.0), ("b.csv", 1.0)]
    assert said == [f"{folder / 'test.csv'} is not used: of a folder in data.mix only the training file is."]
    assert resolve(resolved) == resolved
    assert list(files_of(resolved)) == ["train", "mix.0", "mix.1"]


def test_whole_paths_go_into_the_mixture_too(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("rows/a.csv", "")
    monkeypatch.chdir(path.parent)
    settings = absolute(DataSettings.model_validate({"train": "a.csv", "mix": ["b.csv"], "test": "c.csv"}))
    assert settings.train == str(path)
    assert [one.file for one in settings.mix] == [str(path.parent / "b.csv")]
    assert (settings.validation, settings.test) == (0.1, str(path.parent / "c.csv"))
