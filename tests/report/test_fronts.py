"""Which runs no other one beats, and the picture of them."""

from __future__ import annotations

from tunesmith.report.fronts import front, undominated


def test_by_hand() -> None:
    assert undominated([(3, 1), (2, 2), (1, 3), (1, 2), (2, 2)]) == [True, True, True, False, True]
    assert undominated([(1.0,)]) == [True] and undominated([(1, 1), (1, 2)]) == [False, True]


def test_the_picture_joins_the_best_and_keeps_the_others_apart() -> None:
    plot = front(["b<", "a", "c"], [100.0, 1.0, 50.0], [0.9, 0.8, 0.7], [True, True, False], ("cost", "quality"))
    line, best, others = plot["data"]
    assert line["mode"] == "lines" and line["x"] == [1.0, 100.0] and best["text"] == ["a", "b&lt;"]
    assert others["x"] == [50.0] and others["marker"]["color"] == "@muted"
    assert plot["layout"]["xaxis"]["type"] == "log"


def test_costs_of_one_size_or_of_nothing_stand_on_a_plain_axis() -> None:
    for costs in ([1.0, 2.0], [0.0, 100.0]):
        plot = front(["a", "b"], costs, [0.1, 0.2], [True, True], ("cost", "quality"))
        assert "type" not in plot["layout"]["xaxis"] and len(plot["data"]) == 2
