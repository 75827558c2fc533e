"""Weights between start and end, and the mean of those on the way; what is chosen, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import toy
from tunesmith.core.errors import RecipeError
from tunesmith.prepare import Prepared
from tunesmith.schedules.average import Average
from tunesmith.train.log import lines


def toyed(*, method: str = "full", **settings: Any) -> Prepared:
    return toy.prepared(
        {
            "method": method,
            "schedules": [{"name": "average", **settings}, "constant"],
            "train": {"steps": 4, "learning_rate": 1e-2, "evaluate_every": 1},
        }
    )


def nearest(made: Prepared, target: dict[str, torch.Tensor]) -> Any:
    """A validation that is the better, the nearer the body is to a target."""

    def evaluate() -> Mapping[str, float]:
        now = dict(made.training.model.named_parameters())
        gap = sum(((now[name] - one) ** 2).sum().item() for name, one in target.items())
        return {"loss": 1.0, "accuracy": -gap}

    return evaluate


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_best_share_of_the_way_is_taken(share: float, tmp_path: Path) -> None:
    plain = toyed(over="start", points=2)
    start = {name: p.detach().clone() for name, p in plain.training.model.named_parameters() if "bert" in name}
    toy.train(plain, tmp_path / "plain", evaluate=lambda: {"accuracy": 0.5})  # the end, as the larger share wins
    end = {name: p.detach().clone() for name, p in plain.training.model.named_parameters()}
    target = {name: torch.lerp(one, end[name], share) for name, one in start.items()}
    made = toyed(over="start", points=6)
    toy.train(made, tmp_path / "run", evaluate=nearest(made, target))
    now = dict(made.training.model.named_parameters())
    assert all(torch.allclose(now[name], one, atol=1e-6) for name, one in target.items())
    # The head has no start.
    assert torch.equal(now["classifier.weight"], end["classifier.weight"])
    (found,) = [line for line in lines(tmp_path / "run" / "metrics.jsonl") if line["event"] == "found"]
    xs, ys = found["panels"][0]["series"]["accuracy"]
    assert xs == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0]) and max(ys) == ys[round(share * 5)]


def test_a_low_rank_pair_has_its_product_scaled(tmp_path: Path) -> None:
    values = iter([0.1] * 4 + [0.2, 0.9, 0.3])  # four evaluations on the way, then shares 0, 1/2, 1
    plain = toyed(method="lora", over="start", points=2)
    toy.train(plain, tmp_path / "plain", evaluate=lambda: {"accuracy": 0.5})
    made = toyed(method="lora", over="start", points=3)
    toy.train(made, tmp_path / "run", evaluate=lambda: {"accuracy": next(values)})
    end, now = toy.weights(plain), toy.weights(made)
    lows = [name for name in end if name.endswith("lora_B")]
    assert lows and all(torch.allclose(now[name], 0.5 * end[name]) for name in lows)
    assert all(torch.equal(now[name], one) for name, one in end.items() if name not in lows)


@pytest.mark.parametrize("over", ["uniform", "greedy"])
def test_the_mean_of_evaluations(over: str, tmp_path: Path) -> None:
    made, seen = toyed(over=over, most=3), []

    def evaluate() -> Mapping[str, float]:
        seen.append(toy.weights(made))
        return {"accuracy": 0.5}

    toy.train(made, tmp_path, evaluate=evaluate)
    now = toy.weights(made)
    # The last three of four evaluations; greedy takes all, as none makes it worse.
    for name, one in now.items():
        if one.is_floating_point():
            assert torch.allclose(one, sum(past[name] for past in seen[1:4]) / 3, atol=1e-6)
    assert not (tmp_path / "averaged").exists()


def test_where_nothing_has_a_start_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        toy.train(toyed(method="prefix"), tmp_path, evaluate=lambda: {"accuracy": 0.5})
    assert "the method trains nothing that has a start" in caplog.text


def test_weights_of_evaluations_are_in_the_runs_folder_until_the_end(tmp_path: Path) -> None:
    run = toy.run(tmp_path, schedules=[{"name": "average", "over": "greedy"}])
    assert not (run / "averaged").exists()
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [event["part"] for event in events if event["event"] == "found"] == ["average"]
    assert "What was averaged" in (run / "report.html").read_text(encoding="utf-8")


def test_it_needs_a_validation_split(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="average acts on evaluations, but the recipe has no validation split"):
        toy.run(
            tmp_path,
            schedules=["average"],
            data={"train": str(toy.write_csv(tmp_path / "more.csv")), "validation": None},
        )


def test_two_are_refused() -> None:
    with pytest.raises(RecipeError, match="average and average both set the last weights: keep one"):
        toy.prepared({"schedules": ["average", {"name": "average", "over": "greedy"}]})
    assert Average().over == "start"
