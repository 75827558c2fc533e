"""Options with several values are spelt out for the library that reads the command line."""

from __future__ import annotations

import pytest

from tunesmith.core.arguments import expand


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("merge a b --weights 0.5 -1 .2 1e-3 --out c", "merge a b --weights=0.5 --weights=-1 --weights=.2 "
         "--weights=1e-3 --out c"),
        ("merge --weights 1 2 a b --out c", "merge --weights=1 --weights=2 a b --out c"),
        ("merge --weights=1 --weights x a", "merge --weights=1 --weights=x a"),
        ("merge a --as-delta --out c", "merge a --as-delta=exact --out c"),
        ("merge --as-delta a --out c", "merge --as-delta=exact a --out c"),
        ("merge a --as-delta rank=4 b", "merge a --as-delta=rank=4 b"),
        ("merge a --as-delta=rank=4", "merge a --as-delta=rank=4"),
        ("merge a --how dare density=0.3 seed=4 b", "merge a --how=dare --how=density=0.3 --how=seed=4 b"),
        ("merge a --how ties --density 0.3 --seed=4", "merge a --how=ties --how=density=0.3 --how=seed=4"),
        ("merge a --out c --weights", "merge a --out c --weights"),
        ("merge a --seed", "merge a --seed"),
        ("merge a --set x=y=z --json", "merge a --set x=y=z --json"),
        ("train a --seed 3 --weights 1 2 --as-delta", "train a --seed 3 --weights 1 2 --as-delta"),
        ("", ""),
    ],
)  # fmt: skip
def test_every_value_gets_its_option(given: str, expected: str) -> None:
    assert expand(given.split()) == expected.split()
