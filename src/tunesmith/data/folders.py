"""A folder of images as rows: one sub-folder a class, or images alone where they are only to be answered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tunesmith.core.column import IMAGE_ENDINGS
from tunesmith.core.errors import DataError
from tunesmith.core.notes import note, warn
from tunesmith.data.rows import Numbered, Source

NAMES = ["image", "label"]


def is_one(path: Path) -> bool:
    """Whether a path is a folder that holds images, itself or in folders of classes."""
    return path.is_dir() and any(_is_image(item) for item in _files(path))


def holds_classes(path: Path) -> bool:
    """Whether a folder has folders of images in it."""
    return path.is_dir() and any(is_one(item) for item in path.iterdir() if not _is_hidden(item))


def source(path: Path) -> Source:
    """The images of a folder, by their paths in it, as rows with `image` and `label`: the name of the sub-folder that
    holds the image, however deep. Images that lie beside the sub-folders have no label.

    Files that are no images by their endings are passed over and said, images in deeper folders are warned of; a class
    without an image raises DataError.
    """
    found = [item.relative_to(path) for item in sorted(_files(path))]
    images = [item for item in found if _is_image(item)]
    classes = [item.name for item in sorted(path.iterdir()) if item.is_dir() and not _is_hidden(item)]
    _say_others(path, tuple(item for item in found if not _is_image(item)))
    _say_deep(path, tuple(item for item in images if len(item.parts) > 2))
    empty = sorted(set(classes) - {item.parts[0] for item in images})
    if empty:
        raise DataError(
            f"{path}: the folder of the class '{empty[0]}' holds no image ({len(empty)} such).",
            hint=f"Put images into it ({', '.join(IMAGE_ENDINGS)}), or take it away.",
        )
    return Source(NAMES if classes else NAMES[:1], _rows(images), "image")


def _rows(images: list[Path]) -> Iterator[Numbered]:
    for number, item in enumerate(images, 1):
        named = {"label": item.parts[0]} if len(item.parts) > 1 else {}
        yield number, {"image": item.as_posix(), **named}


def _files(path: Path) -> Iterator[Path]:
    """Every file below a folder but the hidden ones, and those in hidden folders."""
    for item in path.iterdir():
        if not _is_hidden(item):
            if item.is_dir():
                yield from _files(item)
            else:
                yield item


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS


def _is_hidden(path: Path) -> bool:
    # What programs leave behind: .DS_Store, .ipynb_checkpoints, __MACOSX.
    return path.name.startswith((".", "__"))


@cache
def _say_others(path: Path, others: tuple[Path, ...]) -> None:
    if others:
        told = "1 file is" if len(others) == 1 else f"{len(others):,} files are"
        note(f"{path}: {told} passed over, no image by the ending: {others[0]}{', …' if len(others) > 1 else ''}.")


@cache
def _say_deep(path: Path, deep: tuple[Path, ...]) -> None:
    if deep:
        told = "1 image lies" if len(deep) == 1 else f"{len(deep):,} images lie"
        warn(
            f"{path}: {told} deeper than in the folder of a class, such as {deep[0]}: its class is "
            f"'{deep[0].parts[0]}'."
        )
