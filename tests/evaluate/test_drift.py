"""The suite on what training moved: nothing where nothing did, and what was changed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from tests import toy
from tests.evaluate import suites
from tunesmith.core import surgery
from tunesmith.core.panel import Bars, Heatmap, Lines, Panel, Result, Table
from tunesmith.evaluate import drift
from tunesmith.evaluate.drift import Drift


def titled(result: Result, title: str) -> Any:
    (found,) = [panel for panel in result.panels if title in panel.title]
    return found


def figures(result: Result) -> dict[str, float]:
    return {one.name: one.value for one in result.figures}


def test_a_model_that_did_not_train_did_not_move() -> None:
    result = Drift().measure(suites.finished(toy.prepared({}, count=12)))
    assert figures(result) == {
        "cka_of_last_layer": pytest.approx(1),
        "mean_cka": pytest.approx(1),
        "change_of_matrices": 0.0,
    }
    (verdict,) = result.verdicts
    assert (verdict.word, verdict.support) == ("Moved little", True)
    chart = titled(result, "Features by layer")
    assert isinstance(chart, Lines)
    xs, ys = chart.series["CKA"]
    assert list(xs) == [0, 1, 2] and list(ys) == pytest.approx([1, 1, 1])
    assert "12 rows of the test split" in chart.note and "without bias" in chart.note and "32 features" in chart.note
    assert titled(result, "Parts of the delta").rows[0][0].startswith("Because nothing was put into the model")
    assert not any(isinstance(panel, Heatmap) for panel in result.panels)


def test_what_changed_is_found_where_it_changed() -> None:
    toyed = toy.prepared({}, count=12)
    linear = cast(nn.Linear, toyed.backbone.model.get_submodule("bert.encoder.layer.1.output.dense"))
    torch.manual_seed(0)
    linear.weight.data += torch.randn_like(linear.weight)
    result = Drift().measure(suites.finished(toyed))
    _, ys = titled(result, "Features by layer").series["CKA"]
    assert list(ys[:2]) == pytest.approx([1, 1]) and ys[2] < 0.99
    heat = titled(result, "Change of weights by block")
    assert heat.rows == ["1", "2"]
    changed = [(row, column) for row, one in enumerate(heat.values) for column, value in enumerate(one) if value]
    assert [(heat.rows[row], heat.columns[column]) for row, column in changed] == [("2", "down")]
    (line,) = titled(result, "Matrices that changed").rows
    path, role, relative, rank, most, largest = line
    assert (path, role, most) == ("bert.encoder.layer.1.output.dense", "down", 32)
    assert 16 < rank < 32 and relative == heat.values[1][heat.columns.index("down")]
    assert len(largest.split(", ")) == 3
    kinds = {row[0]: row[1] for row in titled(result, "How far weights moved").rows}
    assert kinds["matrices of the blocks"] == 1 and kinds["biases"] == 0


def test_parts_of_a_delta() -> None:
    toyed = toy.prepared({"task": "regress", "method": "lora"}, count=12)
    with torch.no_grad():
        for wrapper in surgery.wrappers(toyed.backbone.model).values():
            cast(torch.Tensor, wrapper.lora_B).normal_()
    chart = titled(Drift().measure(suites.finished(toyed)), "Parts of the delta")
    assert isinstance(chart, Bars) and list(chart.labels) == ["1", "2"] and "12 test rows" in chart.note
    left_out = titled(Drift(switched_rows=0).measure(suites.finished(toyed)), "Parts of the delta")
    assert isinstance(left_out, Table) and "`switched_rows` is 0" in str(left_out.rows[0][0])


def test_without_held_out_rows_it_takes_the_training_split() -> None:
    result = Drift(rows=6).measure(suites.finished(toy.prepared({}, count=12), splits={}))
    assert "6 rows of the training split" in titled(result, "Features by layer").note
    none = suites.finished(toy.prepared({}, count=12), splits={}, train=lambda: None)
    assert "no rows" in titled(Drift().measure(none), "Features by layer").rows[0][0]


@pytest.mark.parametrize(("backbone", "layered"), [("tiny-vit", True), ("tiny-convnext", False)])
def test_models_that_see_images(backbone: str, layered: bool) -> None:
    toyed = toy.prepared({"model": f"builtin:{backbone}", "task": "classify_image"})
    result = Drift().measure(suites.finished(toyed))
    assert figures(result)["cka_of_last_layer"] == pytest.approx(1)
    shown = titled(result, "Features by layer")
    assert isinstance(shown, Lines if layered else Table)
    assert layered or "differ in size" in shown.note


def test_layers_of_several_sizes_are_left_out() -> None:
    def features(rows: Any, *, layers: bool = False) -> np.ndarray:
        if layers:
            raise RuntimeError("stack expects each tensor to be equal size")
        return np.ones((4, 2))

    asked: Any = SimpleNamespace(features=features)
    before, _, layered = drift._states(asked, asked, [])  # type: ignore[arg-type]
    assert before.shape == (4, 1, 2) and not layered


def test_panels_are_plain_data() -> None:
    panels: list[Panel] = Drift().measure(suites.finished(toy.prepared({}, count=12))).panels
    assert Result([], panels).as_json()["panels"][0]["panel"] == "lines"
