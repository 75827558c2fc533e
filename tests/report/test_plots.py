"""Panels become plain plotly figures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.report.sample import HOSTILE
from tunesmith.core.panel import Bars, Figure, Heatmap, Lines, Points
from tunesmith.report.plots import LINE_POINTS, intervals, label, labels, plot, thinned


def square(size: int, value: float = 1.0) -> Heatmap:
    names = [f"class {number}" for number in range(size)]
    return Heatmap("Matrix", names, names, [[value] * size for _ in names], "predicted", "true")


def test_short_labels_stand_and_long_ones_lie() -> None:
    standing = plot(Bars("t", ["low", "high"], {"a": [1, 2]}, "x", "y"))
    assert standing["data"][0]["x"] == ["low", "high"] and standing["data"][0]["orientation"] == "v"
    lying = plot(Bars("t", ["a rather long name"] * 4, {"a": [1, 2, 3, 4]}, "x", "y"))
    assert lying["data"][0]["x"] == [1, 2, 3, 4] and lying["data"][0]["orientation"] == "h"
    assert lying["layout"]["xaxis"]["title"]["text"] == "y"


def test_bars_of_a_histogram_stand() -> None:
    assert plot(Bars("t", [str(number) for number in range(80)], {"a": [1.0] * 80}))["data"][0]["orientation"] == "v"


def test_few_points_of_a_line_are_marked() -> None:
    figure = plot(Lines("t", {"few": ([1, 2], [3, 4]), "many": (list(range(50)), [0.0] * 50)}))
    assert [trace["mode"] for trace in figure["data"]] == ["lines+markers", "lines"]
    assert figure["layout"]["showlegend"]


def test_thinning_keeps_means() -> None:
    assert thinned([1.0, None]) == [1.0, None]
    many = thinned([float(number) for number in range(2 * LINE_POINTS)])
    assert len(many) == LINE_POINTS and many[:2] == [0.5, 2.5]
    assert thinned([None] * (LINE_POINTS + 1))[0] is None


@pytest.mark.parametrize(("size", "numbers"), [(15, True), (16, False), (150, False)])
def test_a_heatmap_shows_numbers_while_they_are_readable(size: int, numbers: bool) -> None:
    trace = plot(square(size))["data"][0]
    assert ("text" in trace) is numbers and len(trace["z"]) == len(trace["y"]) == size


def test_a_heatmap_with_signs_is_centred_on_zero() -> None:
    assert plot(square(20, -1.0))["data"][0] | {"zmid": 0, "colorscale": "@signed"} == plot(square(20, -1.0))["data"][0]
    assert "zmid" not in plot(square(20))["data"][0]


def test_points_with_their_diagonal() -> None:
    assert plot(Points("t", [1, 2], [0, 5], diagonal=True))["data"][1]["x"] == [0, 5]
    assert len(plot(Points("t", [], [], diagonal=True))["data"]) == 1
    assert len(plot(Points("t", [0.0] * 10_000, [0.0] * 10_000))["data"][0]["x"]) == 3334


def test_whiskers_reach_from_low_to_high() -> None:
    model, other = intervals([Figure("a", 0.5, low=0.25, high=1.0), Figure("a", 0.5, subject="b")], "a")["data"]
    assert (model["error_x"]["arrayminus"], model["error_x"]["array"]) == ([0.25], [0.5])
    assert (other["error_x"]["arrayminus"], other["error_x"]["array"]) == ([0.0], [0.0])
    assert model["marker"]["color"] != other["marker"]["color"]


def test_labels_hold_no_tag_and_are_distinct() -> None:
    assert label("<b>bold</b>\n & more") == "&lt;b&gt;bold&lt;/b&gt; &amp; more"
    assert labels(["a", "a", " ", "1"]) == ["a", "a (2)", "(empty)", "1"]
    assert len(set(labels([f"a name that is far too long {number}" for number in range(9)]))) == 9


@pytest.mark.parametrize(
    "panel",
    [
        Bars(HOSTILE[0], HOSTILE, {HOSTILE[0]: [1.0] * len(HOSTILE)}, HOSTILE[0], HOSTILE[1]),
        Lines(HOSTILE[0], {HOSTILE[0]: ([1], [2]), HOSTILE[3]: ([1], [2])}, HOSTILE[0], HOSTILE[1]),
        Heatmap(HOSTILE[0], HOSTILE, HOSTILE, [[0.0] * len(HOSTILE)] * len(HOSTILE), HOSTILE[0], HOSTILE[1]),
        Points(HOSTILE[0], [1], [2], HOSTILE[0], HOSTILE[1]),
    ],
)
def test_no_text_of_a_user_is_markup_to_plotly(panel: Any) -> None:
    written = json.dumps(plot(panel)).replace("<extra></extra>", "").replace("<b>%{z}</b>", "")
    assert "<" not in written
