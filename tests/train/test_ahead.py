"""Items that another thread prepares: the same ones, in order, with the stream's errors, and an end that is one."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tunesmith.train.ahead import ahead


def counting(made: list[int], until: int = 10**9) -> Iterator[int]:
    for number in range(until):
        made.append(number)
        yield number


@pytest.fixture
def workers() -> Callable[[], int]:
    """How many threads prepare items for this test; an earlier test's, kept alive by its error, is none of them."""
    before = set(threading.enumerate())
    return lambda: sum(thread.name == "batches ahead" for thread in set(threading.enumerate()) - before)


def settled(made: list[int]) -> int:
    """How many items were made, once their number no longer grows."""
    before = -1
    while before != len(made):
        before = len(made)
        time.sleep(0.05)
    return before


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_the_items_are_those_of_the_stream(count: int, workers: Callable[[], int]) -> None:
    assert list(ahead(iter(range(20)), count)) == list(range(20))
    assert list(ahead(iter(()), count)) == []
    assert workers() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_is_prepared_than_asked(count: int) -> None:
    made: list[int] = []
    found = ahead(counting(made), count)
    assert next(found) == 0
    # One was taken, `count` lie ready, and the next is made before there is room for it.
    assert settled(made) == count + 2
    found.close()  # type: ignore[attr-defined]


def test_without_a_thread_nothing_is_made_before_it_is_asked_for() -> None:
    made: list[int] = []
    found = ahead(counting(made), 0)
    assert [next(found), next(found)] == [0, 1]
    assert made == [0, 1]


def test_work_goes_on_while_nobody_asks() -> None:
    started = threading.Event()

    def stream() -> Iterator[int]:
        yield 1
        started.set()
        yield 2

    found = ahead(stream(), 1)
    assert next(found) == 1
    assert started.wait(5)
    assert list(found) == [2]


def test_an_error_comes_where_its_item_would_have_come(workers: Callable[[], int]) -> None:
    def stream() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("the third")

    found = ahead(stream(), 2)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(KeyError, match="the third") as raised:
        next(found)
    # The traceback leads to the line of the stream.
    assert raised.traceback[-1].name == "stream"
    assert workers() == 0


@pytest.mark.parametrize("way", ["closed", "forgotten", "error"])
def test_the_thread_ends_with_its_reader(way: str, workers: Callable[[], int]) -> None:
    made: list[int] = []

    def read() -> None:
        found = ahead(counting(made), 2)
        next(found)
        if way == "closed":
            found.close()  # type: ignore[attr-defined]
        elif way == "error":
            raise ValueError("in the loop")

    if way == "error":
        with pytest.raises(ValueError, match="in the loop"):
            read()
    else:
        read()
    gc.collect()
    assert workers() == 0
    assert len(made) <= 4
    assert settled(made) == len(made)


def test_the_stream_is_closed_with_its_reader() -> None:
    ended = threading.Event()

    def stream() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            ended.set()

    found = ahead(stream(), 1)
    next(found)
    found.close()  # type: ignore[attr-defined]
    gc.collect()
    assert ended.wait(5)
