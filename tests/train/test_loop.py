"""The loop: gradients are those of the whole batch, seeds decide everything, and it ends where it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pydantic import PrivateAttr
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from tests import toy
from tunesmith import prepare
from tunesmith.core.errors import DivergedError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.data.load import Splits
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values
from tunesmith.train import loop
from tunesmith.train.log import lines


class Watch(Part):
    """Writes down the rate and the gradients of every update, and the weights after it."""

    _training: list[Training] = PrivateAttr(default_factory=list)
    _rates: list[float] = PrivateAttr(default_factory=list)
    _gradients: list[dict[str, Tensor]] = PrivateAttr(default_factory=list)
    _weights: list[dict[str, Tensor]] = PrivateAttr(default_factory=list)

    def setup(self, training: Training) -> None:
        """Remember the training."""
        self._training.append(training)

    def loss(self, step: Step) -> None:
        """The rate with which this update will be made."""
        self._rates.append(self._training[0].optimizer.param_groups[0]["lr"])

    def after_step(self, training: Training) -> None:
        """Gradients and weights."""
        named = training.model.named_parameters()
        self._gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        self._weights.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})


class Poison(Part):
    """Gives a loss that is no number in one micro-batch of one update."""

    at: int = 3
    value: float | None = None
    _seen: int = PrivateAttr(default=0)

    def loss(self, step: Step) -> Tensor | None:
        """Not a number, or infinite."""
        self._seen += 1
        return torch.tensor(math.nan if self.value is None else self.value) if self._seen == self.at else None


class Noise(Part):
    """Draws random numbers of its own at every hook."""

    _stream: list[torch.Generator] = PrivateAttr(default_factory=list)

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Draw."""
        torch.rand(3, generator=generator)

    def setup(self, training: Training) -> None:
        """Draw."""
        self._stream.append(training.generator_of(self))
        torch.rand(5, generator=self._stream[0])

    def after_step(self, training: Training) -> None:
        """Draw."""
        torch.rand(7, generator=self._stream[0])


def watched(values: Mapping[str, Any], rows: Dataset | None = None, count: int = 8) -> tuple[Prepared, Watch]:
    toyed, watch = toy.prepared(values, count=count, rows=rows), Watch()
    toyed.recipe.schedules.append(watch)
    return toyed, watch


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


SINGLE = {"name": "classify"}
SEVERAL = {"name": "classify", "several": True}
TASKS = {
    "plain": SINGLE,
    "smoothed": SINGLE | {"label_smoothing": 0.1},
    "weighted": SINGLE | {"class_weights": {"yes": 5.0, "maybe": 0.2}},
    "balanced and smoothed": SINGLE | {"class_weights": "balanced", "label_smoothing": 0.2},
    "several": SEVERAL,
    "several weighted and smoothed": SEVERAL | {"class_weights": {"yes": 3.0}, "label_smoothing": 0.1},
    "regression": {"name": "regress"},
}


def labelled(task: Mapping[str, Any], count: int) -> Dataset:
    """Rows of uneven lengths and uneven classes."""
    rows = []
    for number in range(count):
        name = ["yes", "no", "no", "maybe", "no"][number % 5]
        label = [name, *(["extra"] if number % 3 == 0 else [])] if task.get("several") else name
        text = " ".join(toy.WORDS[(number + i) % 16] for i in range(1 + number * 5 % 11))
        rows.append({"text": text, "label": label, "score": float(number % 7)})
    return Dataset.from_list(rows)


def reference(toyed: Prepared, rows: Sequence[int], setting: str) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one forward pass over all the rows, with torch's own losses."""
    task, model = toyed.recipe.task, toyed.training.model
    chosen = [toyed.batches.rows[row] for row in rows]  # type: ignore[index]
    batch = task.collate(task.encode(chosen, toyed.backbone.tokenizer, 128), toyed.backbone.tokenizer)  # type: ignore[arg-type]
    logits, targets = model(**batch.inputs).logits, batch.fields["targets"]
    settings, weights = TASKS[setting], None
    if "class_weights" in settings:
        state = task.state()
        shares = [1 / (len(state["shares"]) * share) for share in state["shares"]]
        given = settings["class_weights"]
        weights = torch.tensor(shares if given == "balanced" else [given.get(name, 1.0) for name in state["classes"]])
    smoothing = settings.get("label_smoothing", 0.0)
    loss: Tensor
    if settings["name"] == "regress":
        loss = nn.MSELoss()(logits.squeeze(-1), targets)
    elif settings.get("several"):
        soft = targets.float() * (1 - smoothing) + smoothing / 2
        loss = nn.BCEWithLogitsLoss(weight=weights)(logits, soft)
    else:
        loss = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)(logits, targets)
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss.item(), found


@pytest.mark.parametrize("setting", TASKS)
def test_micro_batches_give_loss_and_gradients_of_the_whole_batch(setting: str, tmp_path: Path) -> None:
    for micro in (32, 4, 1):
        values = {"task": TASKS[setting], "train": {"steps": 1, "clip": 1e9, "batch_size": 32, "log_every": 1}}
        values["train"]["micro_batch_size"] = micro
        toyed, watch = watched(values, rows=labelled(TASKS[setting], 32))
        toy.quiet(toyed.training.model)
        loss, gradients = reference(toyed, range(32), setting)
        toy.train(toyed, tmp_path / str(micro))
        logged = lines(tmp_path / str(micro) / "metrics.jsonl")[1]
        assert logged["loss"] == pytest.approx(loss, abs=1e-6)
        norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients.values()))
        assert logged["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        for name, gradient in gradients.items():
            assert (watch._gradients[0][name] - gradient).abs().max() <= 1e-6, (micro, name)


@pytest.mark.parametrize("setting", ["plain", "weighted", "several"])
def test_the_last_short_update_has_the_gradients_of_its_rows(setting: str, tmp_path: Path) -> None:
    # Ten rows in updates of eight: one update has two. The rate is zero in the first update, so both start alike.
    schedule = {"name": "warmup_linear", "warmup": 0.5}
    train = {"steps": 2, "clip": 1e9, "batch_size": 8, "micro_batch_size": 4}
    values = {"task": TASKS[setting], "schedules": [schedule], "train": train}
    toyed, watch = watched(values, rows=labelled(TASKS[setting], 10))
    toy.quiet(toyed.training.model)
    stream = toyed.batches.stream(0)
    updates = [[row for batch in next(stream).batches for row in batch.rows] for _ in range(2)]
    assert sorted(map(len, updates)) == [2, 8]
    expected = [reference(toyed, rows, setting)[1] for rows in updates]
    toy.train(toyed, tmp_path)
    for found, gradients in zip(watch._gradients, expected, strict=True):
        assert all((found[name] - gradient).abs().max() <= 1e-6 for name, gradient in gradients.items())


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    toyed, watch = watched({"train": {"steps": 1, "clip": 0.01, "log_every": 1}})
    toy.train(toyed, tmp_path)
    norm = math.sqrt(sum((gradient**2).sum().item() for gradient in watch._gradients[0].values()))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert lines(tmp_path / "metrics.jsonl")[1]["gradient_norm"] > 0.1


Scheduler = Callable[[torch.optim.Optimizer, int, int], Any]


@pytest.mark.parametrize(
    ("name", "scheduler"),
    [("warmup_linear", get_linear_schedule_with_warmup), ("warmup_cosine", get_cosine_schedule_with_warmup)],
)
def test_rates_are_those_of_transformers(name: str, scheduler: Scheduler, tmp_path: Path) -> None:
    train = {"steps": 20, "learning_rate": 0.01, "micro_batch_size": 4, "log_every": 1}
    toyed, watch = watched({"schedules": [{"name": name, "warmup": 0.25}], "train": train})
    toy.train(toyed, tmp_path)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    theirs = scheduler(optimizer, 5, 20)
    expected = []
    for _ in range(21):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert watch._rates == pytest.approx(expected[:20], abs=1e-12)
    assert watch._rates[0] == 0.0 and watch._rates[5] == 0.01 == max(watch._rates)
    # After the last update nothing is left of the rate, in any group.
    assert [group["lr"] for group in toyed.training.optimizer.param_groups] == [0.0, 0.0]
    assert expected[20] == pytest.approx(0, abs=1e-12)


def test_one_seed_gives_one_run_and_another_seed_another(tmp_path: Path) -> None:
    found = []
    for number, seed in enumerate((0, 0, 1)):
        toyed = toy.prepared({"train": {"epochs": 2, "seed": seed, "log_every": 1}})
        toy.train(toyed, tmp_path / str(number))
        steps = [line for line in lines(tmp_path / str(number) / "metrics.jsonl") if line["event"] == "step"]
        found.append((toy.weights(toyed), [(line["loss"], line["gradient_norm"]) for line in steps]))
    assert same(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert not same(found[0][0], found[2][0])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_part_with_random_numbers_of_its_own_shifts_no_other(method: str, tmp_path: Path) -> None:
    found = []
    for parts in ([], [Noise()]):
        recipe = from_values(
            {
                "model": "builtin:tiny-bert",
                "data": "rows.csv",
                "task": "classify",
                "method": {"name": "lora", "dropout": 0.1} if method == "lora" else method,
                "train": {"steps": 3, "precision": "float32", "device": "cpu", "learning_rate": 0.01},
                # Rows are left out only where no part looks at gradients, which is equal within rounding.
                "speed": {"touched_rows": False},
            }
        )
        rows = toy.rows_for(recipe.task)
        splits = Splits(rows, None, None, {}, {})
        prepare.learn(recipe, splits)
        toyed = prepare.prepare(replace(recipe, regularizers=parts), splits)
        toy.train(toyed, tmp_path / str(len(parts)))
        found.append(toy.weights(toyed))
    assert same(*found)


@pytest.mark.parametrize("value", [None, math.inf])
def test_a_loss_that_is_no_number_stops_before_weights_are_touched(value: float | None, tmp_path: Path) -> None:
    # The sixth micro-batch is the second of the third update's two: its first has given gradients already.
    train = {"steps": 5, "batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.01}
    schedule = {"name": "warmup_linear", "warmup": 0.0}
    toyed, watch = watched({"train": train, "schedules": [schedule]})
    toyed.recipe.schedules.append(Poison.model_construct(at=6, value=value))
    stream = toyed.batches.stream(2)
    rows = [row for batch in next(stream).batches for row in batch.rows]
    with pytest.raises(DivergedError) as caught:
        toy.train(toyed, tmp_path / "poisoned")
    assert toyed.training.step == len(watch._weights) == 2
    assert same(watch._weights[1], toy.weights(toyed)) and not same(*watch._weights)
    assert "The loss is not a finite number at step 3" in caught.value.message
    assert f"poison {math.nan if value is None else value}" in caught.value.message
    assert f"rows: {', '.join(f'line {row + 2}' for row in rows)}." in caught.value.message
    assert "learning rate 0.006 is too high" in caught.value.message
    assert "lower train.learning_rate" in caught.value.hint


class _Break(Part):
    """Breaks a weight after every update."""

    def after_step(self, training: Training) -> None:
        """Break it."""
        training.model.get_parameter("classifier.bias").data.fill_(math.nan)


def test_the_likely_cause_is_told(tmp_path: Path) -> None:
    toyed = toy.prepared({"train": {"steps": 5}})
    toyed.recipe.schedules.append(Poison(at=1))
    with pytest.raises(DivergedError, match=r"step 1 .*the untrained model already gives it"):
        toy.train(toyed, tmp_path / "first")
    toyed = toy.prepared({"train": {"steps": 5}})
    toyed.recipe.schedules.append(_Break())
    with pytest.raises(DivergedError, match=r"step 2 .*weights are no longer numbers \(classifier\.bias for one\)"):
        toy.train(toyed, tmp_path / "second")


# Early stopping, with metrics that are given.


def metrics(values: Sequence[float], toyed: Prepared, seen: list[dict[str, Tensor]]) -> Callable[[], dict[str, float]]:
    """An evaluation that gives these values one after the other and copies the weights it was asked about."""
    found = iter(values)

    def evaluate() -> dict[str, float]:
        seen.append(toy.weights(toyed))
        toyed.training.model.eval()
        return {"accuracy": next(found), "loss": 1.0}

    return evaluate


STOPPING = {"name": "early_stop", "patience": 2}
STOPPED = {"schedules": [STOPPING], "train": {"steps": 10, "evaluate_every": 1, "learning_rate": 0.01}}


def test_early_stop_ends_with_the_best_weights(tmp_path: Path) -> None:
    toyed, seen = toy.prepared(STOPPED), []
    with listening() as notes:
        assert toy.train(toyed, tmp_path, evaluate=metrics([0.5, 0.7, 0.6, 0.65], toyed, seen))
    assert toyed.training.step == 4
    assert same(toy.weights(toyed), seen[1]) and not same(seen[1], seen[3])
    assert "Stopped after 4 of 10 updates: accuracy has not improved for 2 evaluations." in notes
    end = lines(tmp_path / "metrics.jsonl")[-1]
    assert (end["event"], end["step"], end["stop"]) == ("end", 4, "accuracy has not improved for 2 evaluations")


def test_the_best_weights_come_back_also_without_a_stop(tmp_path: Path) -> None:
    toyed, seen = toy.prepared(STOPPED | {"train": STOPPED["train"] | {"steps": 3}}), []
    toy.train(toyed, tmp_path, evaluate=metrics([0.5, 0.9, 0.6], toyed, seen))
    assert toyed.training.step == 3 and same(toy.weights(toyed), seen[1])


def test_a_resume_after_the_stop_was_decided_trains_no_more(tmp_path: Path) -> None:
    toyed, seen = toy.prepared(STOPPED), []
    toy.train(toyed, tmp_path, evaluate=metrics([0.7, 0.6, 0.6], toyed, seen))
    again = toy.prepared(STOPPED)
    assert toy.train(again, tmp_path, evaluate=lambda: pytest.fail("evaluated again"))
    assert again.training.step == 3 and again.training.stop
    assert same(toy.weights(again), seen[0])
    assert [line["event"] for line in lines(tmp_path / "metrics.jsonl")].count("end") == 1


def test_a_resume_remembers_the_best_weights(tmp_path: Path) -> None:
    toyed, seen = toy.prepared(STOPPED), []
    asked = iter([False, True])
    assert not toy.train(toyed, tmp_path, evaluate=metrics([0.7, 0.6], toyed, seen), interrupted=lambda: next(asked))
    again = toy.prepared(STOPPED)
    assert toy.train(again, tmp_path, evaluate=metrics([0.6], again, []))
    assert again.training.step == 3 and same(toy.weights(again), seen[0])


def test_a_metric_that_is_not_there_is_told(tmp_path: Path) -> None:
    toyed = toy.prepared(STOPPED | {"schedules": [STOPPING | {"metric": "acuracy"}]})
    with pytest.raises(RecipeError, match=r"no metric 'acuracy'\. Did you mean 'accuracy'"):
        toy.train(toyed, tmp_path, evaluate=metrics([0.7], toyed, []))


# The order of things.


def test_dropout_is_on_again_after_an_evaluation(tmp_path: Path) -> None:
    toyed = toy.prepared({"train": {"steps": 3, "evaluate_every": 1}})
    modes: list[bool] = []

    class _Modes(Part):
        def loss(self, step: Step) -> None:
            modes.append(toyed.training.model.training)

    toyed.recipe.schedules.append(_Modes())
    toy.train(toyed, tmp_path, evaluate=metrics([0.5] * 3, toyed, []))
    assert modes == [True] * 3


@pytest.mark.parametrize(("every", "evaluated"), [(None, [2, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (9, [5])])
def test_evaluations_come_every_so_often_and_at_the_end(
    every: int | None, evaluated: list[int], tmp_path: Path
) -> None:
    # Eight rows in updates of four: two updates an epoch.
    toyed = toy.prepared({"train": {"steps": 5, "evaluate_every": every, "checkpoint_every": 2, "log_every": 2}})
    toy.train(toyed, tmp_path, evaluate=metrics([0.5] * 5, toyed, []))
    told = lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in told if line["event"] == "evaluation"] == evaluated
    # Every second update is logged, and every one that is measured.
    assert [line["step"] for line in told if line["event"] == "step"] == sorted({2, 4, 5, *evaluated})
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]


def test_without_validation_rows_nothing_is_evaluated(tmp_path: Path) -> None:
    toyed = toy.prepared({"train": {"steps": 2}})
    toy.train(toyed, tmp_path)
    assert [line["event"] for line in lines(tmp_path / "metrics.jsonl")] == ["start", "step", "end"]


def test_checkpoints_come_when_ten_minutes_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    toyed = toy.prepared({"train": {"steps": 3, "evaluate_every": 100}})
    toy.train(toyed, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]


def test_texts_that_were_cut_are_told_once(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"text": "x" * (300 if n % 4 else 3), "label": "ab"[n % 2]} for n in range(8)])
    toyed = toy.prepared({"train": {"epochs": 3}}, rows=rows)
    with listening() as notes:
        toy.train(toyed, tmp_path)
    assert [text for text in notes if "cut" in text] == [
        "6 of 8 training examples are longer than the limit and were cut."
    ]


def test_texts_that_were_cut_are_told_of_less_than_an_epoch_too(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"text": "x" * 300, "label": "ab"[n % 2]} for n in range(8)])
    toyed = toy.prepared({"train": {"steps": 1, "batch_size": 4}}, rows=rows)
    with listening() as notes:
        toy.train(toyed, tmp_path)
    assert "4 of 4 training examples are longer than the limit and were cut." in notes


def test_losses_of_all_parts_are_added_and_logged_by_name(tmp_path: Path) -> None:
    toyed = toy.prepared({"regularizers": ["l2_sp"], "train": {"steps": 1, "micro_batch_size": 1}})
    toy.train(toyed, tmp_path)
    line = lines(tmp_path / "metrics.jsonl")[1]
    assert set(line["losses"]) == {"supervised", "l2_sp"}
    assert line["loss"] == pytest.approx(sum(line["losses"].values()))
