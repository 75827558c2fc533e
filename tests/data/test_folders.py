"""Folders of images, and rows that name files: what they hold, when they are read anew, what counts as the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL
from tunesmith.core import column
from tunesmith.core.column import Column
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.data import folders
from tunesmith.data.load import load
from tunesmith.data.read import read
from tunesmith.data.sample import peek
from tunesmith.data.settings import DataSettings
from tunesmith.data.sources import resolve

IMAGE = Column("image", None, ("image",), column.text, path=True)
COLUMNS = [IMAGE, LABEL]
SEEN: list[str] = []


@pytest.fixture
def shapes(write: Write) -> Path:
    """Two classes of twenty files, all of them different."""
    for number in range(20):
        write(f"shapes/circle/{number:02}.png", f"circle {number}")
        write(f"shapes/square/{number:02}.JPG", f"square {number}")
    return write("shapes/.hidden/x.png", "x").parent.parent


def looked_at(value: object) -> str:
    """A parser that opens the file, and keeps its name."""
    SEEN.append(Path(str(value)).name)
    if "bad" in Path(str(value)).read_text():
        raise ValueError("is bad")
    return str(value)


def names(rows: list[str]) -> list[str]:
    return ["/".join(Path(row).parts[-2:]) for row in rows]


def test_a_sub_folder_is_a_class(shapes: Path) -> None:
    table = read(shapes, COLUMNS)
    assert len(table.rows) == 40 and table.columns == {"image": "image", "label": "label"}
    assert table.rows[0] == {"image": str(shapes.resolve() / "circle" / "00.png"), "label": "circle", "line": 1}
    assert table.rows[-1]["label"] == "square"
    assert peek(shapes, 1) == (["image", "label"], [{"image": "circle/00.png", "label": "circle"}])


def test_images_alone_are_only_answered(write: Write) -> None:
    folder = write("some/b.png", "b").parent
    write("some/a.png", "a")
    assert names(read(folder, COLUMNS, need_targets=False).rows["image"]) == ["some/a.png", "some/b.png"]
    with pytest.raises(DataError, match="no column for the role 'label'"):
        read(folder, COLUMNS)
    write("some/circle/c.png", "c")
    with pytest.raises(DataError, match=r"image 1, column 'label': is missing\n.*image 2, column 'label'"):
        read(folder, COLUMNS)


def test_what_is_passed_over_is_said(shapes: Path, write: Write) -> None:
    write("shapes/circle/notes.txt", "")
    write("shapes/circle/deep/er.png", "deep")
    with listening() as said:
        assert len(read(shapes, COLUMNS).rows) == 41
    assert any("1 file is passed over, no image by the ending: circle/notes.txt." in text for text in said)
    assert any("1 image lies deeper" in text and "its class is 'circle'" in text for text in said)


def test_a_class_without_an_image_is_refused(shapes: Path) -> None:
    (shapes / "triangle").mkdir()
    with pytest.raises(DataError, match="the folder of the class 'triangle' holds no image"):
        read(shapes, COLUMNS)


def test_what_is_no_folder_of_images(write: Write, tmp_path: Path) -> None:
    path = write("rows/a.csv", "text\nx\n")
    assert not folders.is_one(path) and not folders.is_one(path.parent) and not folders.is_one(tmp_path / "none")
    with pytest.raises(DataError, match=r"has no training file: there is a\.csv"):
        resolve(DataSettings(train=str(path.parent)))


def test_splits_in_a_folder_are_found(write: Write) -> None:
    for split in ("train", "val", "test"):
        folder = write(f"set/{split}/circle/a.png", split).parents[2]
    found = resolve(DataSettings(train=str(folder)))
    assert (found.train, found.validation, found.test) == tuple(str(folder / n) for n in ("train", "val", "test"))
    assert resolve(found) == found


def test_a_class_may_be_called_train(write: Write) -> None:
    for name in ("train", "bus"):
        folder = write(f"vehicles/{name}/a.png", name).parents[1]
    assert resolve(DataSettings(train=str(folder))).train == str(folder)
    assert set(read(folder, COLUMNS).rows["label"]) == {"train", "bus"}


def test_rows_are_split_by_the_bytes_of_their_files(shapes: Path, write: Write) -> None:
    settings = DataSettings(train=str(shapes), validation=0.3, test=0.3)
    first = load(settings, COLUMNS)
    held = set(names(first.test["image"]))  # type: ignore[index]
    assert held and first.validation is not None
    for path in list(shapes.glob("circle/*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    renamed = load(settings, COLUMNS)
    assert {name.replace("renamed-", "") for name in names(renamed.test["image"])} == held  # type: ignore[index]
    assert renamed.sources == first.sources  # the same pictures in the same order
    assert renamed.train.column_names == ["image", "label", "line"]


def test_equal_files_under_other_names_leak(write: Write) -> None:
    for number in range(4):
        for name in ("circle", "square"):
            write(f"train/{name}/{number}.png", f"{name} {number}")
            write(f"test/{name}/{number}.png", f"{name} of the test {number}")
    write("test/circle/copy.png", "circle 2")
    folder = write("train/square/again.png", "square 1").parents[1]
    settings = DataSettings(train=str(folder), validation=None, test=str(folder.parent / "test"))
    with listening() as said:
        found = load(settings, COLUMNS)
    assert found.test is not None and "test/circle/copy.png" not in {Path(p).name for p in found.test["image"]}
    assert len(found.test) == 8
    assert any("1 row stands in train too" in text for text in said)
    assert any("1 training row repeats the text of an earlier one" in text for text in said)
    assert not any("nearly" in text for text in said)  # names that are alike say nothing


def test_files_are_checked_once_and_anew_when_they_change(write: Write, tmp_path: Path) -> None:
    SEEN.clear()
    columns = [Column("image", None, ("image",), looked_at, path=True)]
    write("a.png", "fine")
    path = write("rows.jsonl", "".join(json.dumps({"image": name}) + "\n" for name in ("a.png", "b.png")))
    write("b.png", "good")
    first = read(path, columns).sha256
    assert read(path, columns).sha256 == first and SEEN == ["a.png", "b.png"]
    write("b.png", "better")
    assert read(path, columns).sha256 != first and len(SEEN) == 4
    os.utime(tmp_path / "b.png", (1, 1))  # only its time changed: read anew, and the same
    write("b.png", "good")
    assert read(path, columns).sha256 == first
    write("b.png", "bad")
    with pytest.raises(DataError, match="line 2, column 'image': is bad"):
        read(path, columns)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"line 2, column 'image': names no file: there is no .*b\.png"):
        read(path, columns)


def test_the_same_rows_in_another_folder_name_its_own_files(write: Write) -> None:
    for place in ("one", "two"):
        write(f"{place}/a.png", place)
        path = write(f"{place}/rows.csv", "image,label\na.png,x\n")
        assert names(read(path, COLUMNS).rows["image"]) == [f"{place}/a.png"]
    assert (
        read(path, COLUMNS).contents["image"] != read(path.parents[1] / "one" / "rows.csv", COLUMNS).contents["image"]
    )
