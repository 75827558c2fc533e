"""Work done ahead of time: another thread prepares what the loop asks for next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def ahead(stream: Iterator[T], count: int) -> Iterator[T]:
    """The items of `stream` in their order, up to `count` of them prepared by another thread before they are asked for.

    An error of the stream is raised where its item would have come, after all items before it. The thread starts with
    the first item that is asked for, and ends when the stream does or when this iterator is closed or forgotten; then
    it finishes the item it works on and prepares no more. 0: everything happens here, when it is asked for.
    """
    if not count:
        yield from stream
        return
    shelf = _Shelf[T](count)
    worker = threading.Thread(target=_fill, args=(shelf, stream), name="batches ahead", daemon=True)
    worker.start()
    try:
        while (found := shelf.take()) is not None:
            item, error = found
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        shelf.close()
        worker.join()


def _fill(shelf: _Shelf[T], stream: Iterator[T]) -> None:
    try:
        for item in stream:
            if not shelf.put((item, None)):
                return
        shelf.put(None)
    except BaseException as error:  # whatever it is, the loop is to raise it
        shelf.put((None, error))


class _Shelf(Generic[T]):
    """What lies ready, and who waits for it; None is the end of the stream."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ready: deque[tuple[T | None, BaseException | None] | None] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, found: tuple[T | None, BaseException | None] | None) -> bool:
        """Lay something down once there is room; False when nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._ready) < self._count)
            self._ready.append(found)
            self._changed.notify_all()
            return not self._closed

    def take(self) -> tuple[T | None, BaseException | None] | None:
        """The next in order, once it is there."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._ready))
            found = self._ready.popleft()
            self._changed.notify_all()
            return found

    def close(self) -> None:
        """Nothing more will be taken."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
