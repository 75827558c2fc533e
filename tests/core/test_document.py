"""YAML with the place of every key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core.document import flat, read
from tunesmith.core.errors import RecipeError

TEXT = """\
# a recipe
model: builtin:minilm
task:
  name: classify
schedules:
  - warmup_linear
  - {name: early_stop,
     patience: 3}
"""


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_of_another_kind_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"The file of checks .* is empty") as caught:
        read(write(tmp_path, ""), "file of checks", "Write checks.")
    assert caught.value.hint == "Write checks."


def test_values_and_places(tmp_path: Path) -> None:
    found = read(write(tmp_path, TEXT))
    assert found.values == {
        "model": "builtin:minilm",
        "task": {"name": "classify"},
        "schedules": ["warmup_linear", {"name": "early_stop", "patience": 3}],
    }
    assert found.place(("model",)) == "line 2"
    assert found.place(("task", "name")) == "line 4"
    assert found.place(("schedules", 1, "patience")) == "line 8"


def test_a_path_that_is_not_there_has_the_place_above_it(tmp_path: Path) -> None:
    found = read(write(tmp_path, TEXT))
    assert found.place(("task", "label")) == "line 3"
    assert found.place(("schedules", 0, "warmup")) == "line 6"
    assert found.place(("train", "epochs")) == ""


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read(write(tmp_path, b"\xef\xbb\xbfmodel: a\n")).values == {"model": "a"}


def test_keys_are_texts(tmp_path: Path) -> None:
    assert read(write(tmp_path, "task: {class_weights: {yes: 2.0, 3: 1.0, no: 1}}")).values == {
        "task": {"class_weights": {"yes": 2.0, "3": 1.0, "no": 1}}
    }


def test_every_key_given_twice_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read(write(tmp_path, "model: a\ntrain: {epochs: 1, epochs: 2}\nmodel: b\n"))
    assert "line 3: 'model' stands in line 1 already" in caught.value.message
    assert "line 2: 'train.epochs' stands in line 2 already" in caught.value.message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "is not a mapping"),
        ("just a text", "is not a mapping"),
        ("model: [a\n", "line 2, column 1"),
        ("model: a: b\n", "line 1, column 9"),
        ("\tmodel: a\n", "line 1, column 1"),
        ("model: !!python/object:os.system {}\n", "could not determine a constructor"),
        (b"model: a\ntask: caf\xe9\n", r"not UTF-8: line 2, byte 18 \(0xe9\)"),
    ],
)
def test_what_is_no_recipe_is_told(content: str | bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=told):
        read(write(tmp_path, content))


def test_a_file_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    with pytest.raises(RecipeError, match=r"does not exist(.|\n)*Did you mean 'recipe\.yaml'"):
        read(tmp_path / "recipee.yaml")


def test_values_by_dotted_keys() -> None:
    values = {"train": {"epochs": 3, "more": {}}, "schedules": [{"name": "a"}, "b"], "regularizers": [], "x": None}
    assert flat(values) == {
        "train.epochs": 3, "train.more": {}, "schedules.0.name": "a", "schedules.1": "b", "regularizers": [], "x": None,
    }  # fmt: skip
