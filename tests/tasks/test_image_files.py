"""Image files: what is read and what is refused, and how much of each a processor lets through."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import ConvNextImageProcessorPil, ViTImageProcessorPil

from tests.tasks.test_classify_image import draw, pixels
from tunesmith.models.images import new_processor
from tunesmith.tasks import image_files


def _truncated(path: Path) -> None:
    draw(path, "circle", size=(64, 64))
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.png", lambda path: path.write_text("hello"), r"is no image that can be read \(5 bytes\)"),
        ("a.jpg", _truncated, "is a damaged image: image file is truncated"),
        ("a.png", _truncated, "is a damaged image"),
        ("a.png", lambda path: Image.new("I;16", (4, 4), 900).save(path), r"more than 8 bits a channel \(mode I;16\)"),
        ("a.tif", lambda path: Image.new("F", (4, 4), 0.5).save(path), r"more than 8 bits a channel \(mode F\)"),
        ("a.png", lambda path: None, "names no file"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(name: str, write: Any, told: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=told):
        image_files.checked(str(tmp_path / name))


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = draw(tmp_path / "a.png", "circle")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # of 576: a warning; of half as many: an error
    for most in (300, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(ValueError, match=f"has more than {most} pixels"):
            image_files.checked(str(path))


def test_pictures_are_upright_and_in_the_models_colours(tmp_path: Path) -> None:
    image = Image.new("RGB", (2, 1), (255, 0, 0))
    image.putpixel((1, 0), (0, 0, 255))
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side: a quarter turn makes it upright
    image.save(tmp_path / "a.png", exif=exif)
    assert image_files.opened(str(tmp_path / "a.png"), 3).size == (1, 2)
    assert pixels(image_files.opened(str(tmp_path / "a.png"), 3)) == [[[255, 0, 0]], [[0, 0, 255]]]
    # Grey is 0.299 red + 0.587 green + 0.114 blue: 76 and 29.
    assert pixels(image_files.opened(str(tmp_path / "a.png"), 1)) == [[76], [29]]
    assert image_files.look(str(tmp_path / "a.png")) == image_files.Look("RGB", 1, 2, False)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "LAB"])
def test_other_colours_are_read_without_a_warning(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "LAB") else "a.png")
    image = Image.new(mode, (3, 3))
    image.save(path, **({"transparency": b"\x00\x80"} if mode == "P" else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_files.checked(str(path)) == str(path)
        assert [image_files.opened(str(path), channels).mode for channels in (1, 3)] == ["L", "RGB"]
        assert image_files.look(str(path)).mode == ("RGBA" if mode == "P" else mode)


@pytest.mark.parametrize(
    ("processor", "size", "expected"),
    [
        (new_processor(32, 3), (300, 40), 1.0),  # squeezed, and nothing lost
        (new_processor(32, 1), (40, 40), 1.0),
        # The shorter side becomes 32 / 0.875 = 36 pixels, of which the middle 32 are seen: 8/9 of each side.
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}), (90, 90), (8 / 9) ** 2),
        # Twice as wide: of 72 pixels 32.
        (ConvNextImageProcessorPil(size={"shortest_edge": 32}), (180, 90), 8 / 9 * 32 / 72),
        (ViTImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=True, crop_size=48), (20, 20), 9 / 16),
    ],
)
def test_how_much_a_processor_lets_through(processor: Any, size: tuple[int, int], expected: float) -> None:
    (height, width), seen = image_files.let_through(processor, *size)
    assert height == width
    assert seen == pytest.approx(expected, abs=0.02)


def test_kinds_of_colours_are_counted() -> None:
    modes = {"a": "L", "b": "RGBA", "c": "RGB", "d": "LA", "e": "CMYK"}
    looks = {path: image_files.Look(mode, 3, 3, False) for path, mode in modes.items()}
    assert image_files.kinds(looks, "RGB") == {"grey": 1, "with transparency": 2, "CMYK": 1}
    assert image_files.channels_of(new_processor(8, 1)) == 1 and image_files.channels_of(None) == 3
