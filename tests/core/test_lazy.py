"""Modules that are imported on first use."""

import sys

import pytest

from tunesmith.core.lazy import Lazy


def test_the_module_is_imported_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    lazy = Lazy("colorsys")
    assert "colorsys" not in sys.modules
    assert lazy.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert "colorsys" in sys.modules


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        Lazy("json").no_such_name  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        Lazy("no_such_module").anything  # noqa: B018
