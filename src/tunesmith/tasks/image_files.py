"""Image files: which can be read, what they look like, and how much of each an image processor lets through."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tunesmith.core import column
from tunesmith.core.errors import DataError

Read = TypeVar("Read")
MODES = {1: "L", 3: "RGB"}
KINDS = {"L": "grey", "1": "black and white", "P": "palette", "RGBA": "with transparency", "LA": "with transparency"}
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
PROBE = 256
"""Pixels of the longer side of the images with which a processor is tried."""


@dataclass(frozen=True)
class Look:
    """What the header of an image file says: its kind of colours, its size upright, whether it has several frames."""

    mode: str
    width: int
    height: int
    moving: bool


def checked(value: object) -> str:
    """The whole path of an image file that can be decoded to its end; another raises ValueError with the reason."""
    path = Path(column.text(value)).resolve()
    if not path.is_file():
        raise ValueError(f"names no file: there is no {path}")
    _read(path, _decoded)
    return str(path)


def opened(path: str, channels: int) -> Image.Image:
    """The picture of a file, upright, in grey (1 channel) or in red, green and blue (3): transparency is taken off, of
    several frames the first is taken. A file that is gone or damaged raises DataError.
    """
    try:
        return _read(Path(path), lambda image: _converted(image, MODES[channels]))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The image {path} can't be read any more: it {error}.", hint="Put the file back as it was."
        ) from error


def look(path: str) -> Look:
    """What the header says; the picture itself is not decoded."""

    def seen(image: Image.Image) -> Look:
        turned = image.getexif().get(274, 1) > 4  # EXIF's orientation: the sides change places
        width, height = image.size[::-1] if turned else image.size
        transparent = image.mode == "P" and "transparency" in image.info
        return Look("RGBA" if transparent else image.mode, width, height, bool(getattr(image, "is_animated", False)))

    try:
        return _read(Path(path), seen)
    except (OSError, ValueError) as error:
        raise DataError(f"The image {path} can't be read: it {error}.") from error


def channels_of(processor: Any) -> int:
    """How many channels a processor's images have: as many as it has means to take off."""
    means = getattr(processor, "image_mean", None)
    return len(means) if isinstance(means, list | tuple) else 3


def let_through(processor: Any, width: int, height: int) -> tuple[tuple[int, int], float]:
    """What a processor makes of images with these sides: (height, width) of its own image, and the share of the area
    that is seen in it. Tried on slopes from black to white, whose ends are missing where an edge is cut off.
    """
    scale = PROBE / max(width, height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    slope_across = np.broadcast_to(np.linspace(0, 255, across), (down, across))
    slope_down = np.broadcast_to(np.linspace(0, 255, down)[:, None], (down, across))
    plain = [np.zeros((down, across)), np.full((down, across), 255)]
    tried = [one.round().astype(np.uint8)[..., None] for one in (slope_across, slope_down, *plain)]
    tried = [np.repeat(one, channels_of(processor), axis=2) for one in tried]
    pixels = processor(images=tried, input_data_format="channels_last", return_tensors="np")["pixel_values"][:, 0]
    black, white = pixels[2].mean(), pixels[3].mean()
    seen = 1.0
    for slope, count in ((pixels[0], pixels.shape[2]), (pixels[1], pixels.shape[1])):
        # The first and the last pixel stand half a pixel inside.
        share = float(np.ptp(slope) / (white - black)) * count / max(1, count - 1)
        seen *= min(1.0, share)
    return (int(pixels.shape[1]), int(pixels.shape[2])), seen


def _converted(image: Image.Image, mode: str) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")  # the palette's own colours, whatever form its transparency has
    # By way of the three colours, to which every kind can be converted.
    return upright if upright.mode == mode else upright.convert("RGB").convert(mode)


def _decoded(image: Image.Image) -> None:
    if image.mode in DEEP:
        raise ValueError(f"has more than 8 bits a channel (mode {image.mode}): save it with 8")
    _converted(image, "RGB")


def _read(path: Path, act: Callable[[Image.Image], Read]) -> Read:
    """What `act` makes of the open image; whatever a decoder stumbles over is raised as ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # So large a picture may be an attack on the memory.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                return act(image)
        except FileNotFoundError:
            raise ValueError("is not there") from None
        except UnidentifiedImageError:
            raise ValueError(f"is no image that can be read ({path.stat().st_size:,} bytes): {path}") from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise ValueError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels: {path}") from None
        except Exception as error:  # decoders of many kinds raise errors of many kinds
            raise ValueError(_told(path, error)) from error


def _told(path: Path, error: Exception) -> str:
    what = str(error).strip().split("\n")[0]
    return what if what.startswith("has more") else f"is a damaged image: {what or type(error).__name__}: {path}"


def kinds(looks: Mapping[str, Look], mode: str) -> dict[str, int]:
    """How many of the images have other colours than `mode`, by kind."""
    counts: dict[str, int] = {}
    for one in looks.values():
        if one.mode != mode:
            kind = KINDS.get(one.mode, one.mode)
            counts[kind] = counts.get(kind, 0) + 1
    return counts
