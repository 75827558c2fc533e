"""A row's side depends on its content alone."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from tests.data.conftest import Write
from tests.data.roles import LABEL, TEXT
from tunesmith.core.notes import listening
from tunesmith.data.read import read
from tunesmith.data.scan import scan
from tunesmith.data.split import side, split


def sides_of(write: Write, texts: list[str], labels: list[str] | None = None) -> dict[str, str]:
    """Text -> split, by way of a file."""
    found = labels or [str(number % 2) for number in range(len(texts))]
    pairs = zip(texts, found, strict=True)
    rows = read(
        write("a.csv", "text,label\n" + "".join(f"{text},{name}\n" for text, name in pairs)), [TEXT, LABEL]
    ).rows
    parts = split(scan(rows, [TEXT, LABEL], seed=3), validation=0.2, test=0.1)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(texts)))
    return {rows[int(position)]["text"]: name for name, positions in parts.items() for position in positions}


def test_side_is_the_hash_against_the_shares() -> None:
    digest = hashlib.sha256(b"7\x1fa text").digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    assert side("a text", seed=7, validation=0.1, test=np.nextafter(place, 1)) == "test"
    assert side("a text", seed=7, validation=1e-9 + place - place / 2, test=place / 2) == "validation"
    assert side("a text", seed=7, validation=place / 4, test=place / 4) == "train"


def test_space_around_and_unicode_forms_do_not_matter() -> None:
    for number in range(200):
        one = side(f"caf\u00e9 {number}", seed=0, validation=0.3, test=0.3)
        assert one == side(f" cafe\u0301 {number}\n", seed=0, validation=0.3, test=0.3)


def test_a_file_is_split_as_side_says(write: Write) -> None:
    texts = [f"text number {number}" for number in range(500)]
    expected = {text: side(text, seed=3, validation=0.2, test=0.1) for text in texts}
    assert sides_of(write, texts) == expected
    shares = [sum(name == wanted for name in expected.values()) / 500 for wanted in ("validation", "test")]
    assert shares == pytest.approx([0.2, 0.1], abs=0.05)


def test_rows_never_move_when_others_are_added_removed_or_shuffled(write: Write) -> None:
    texts = [f"text number {number}" for number in range(300)]
    before = sides_of(write, texts)
    more = texts[50:] + [f"new text {number}" for number in range(100)]
    random.Random(0).shuffle(more)
    after = sides_of(write, more)
    assert all(after[text] == before[text] for text in texts[50:])


def test_another_seed_splits_anew() -> None:
    texts = [f"text number {number}" for number in range(300)]
    one, two = ([side(text, seed=seed, validation=0.3, test=0.3) for text in texts] for seed in (0, 1))
    assert one != two


def test_a_class_with_no_row_left_in_training_gets_its_rows_back(write: Write) -> None:
    texts = [f"text number {number}" for number in range(100)]
    held = [text for text in texts if side(text, seed=3, validation=0.2, test=0.1) != "train"]
    labels = ["rare" if text in held[:2] else "usual" for text in texts]
    with listening() as said:
        found = sides_of(write, texts, labels)
    assert [found[text] for text in held[:2]] == ["train", "train"]
    assert [found[text] for text in held[2:]] == [side(text, seed=3, validation=0.2, test=0.1) for text in held[2:]]
    assert "'rare'. Their rows (2) were given back" in said[0]
