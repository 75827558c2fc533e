"""The table of methods on one backbone: its numbers are those that a training would count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import toy
from tunesmith import catalogue, cli
from tunesmith.core import registry, surgery
from tunesmith.core.errors import RecipeError, UserError
from tunesmith.core.notes import LOGGER
from tunesmith.core.panel import Table
from tunesmith.core.part import Method
from tunesmith.methods.lora import Lora
from tunesmith.tasks.classify import Classify

# Rows of two classes, "no" and "yes".
ROWS = toy.rows_for(Classify()).select([0, 1, 3, 4])
LINEARS = 2 * 2  # queries and values of two blocks, each 32 by 32


class Stuck(Lora):
    """A method whose delta stays attached."""

    cannot_merge = "it changes the inputs"


@pytest.mark.parametrize("backbone", ["builtin:tiny-bert", "builtin:tiny-t5"])
def test_the_numbers_are_those_of_a_training(backbone: str) -> None:
    found = catalogue.of_model(backbone)
    fitted, refused = ({one.name: one for one in every} for every in (found.fitted, found.refused))
    assert sorted([*fitted, *refused]) == registry.names("methods")
    for name in registry.names("methods"):
        values = {"model": backbone, "method": name}
        if name in refused:
            with pytest.raises(UserError) as refusal:
                toy.prepared(values, rows=ROWS)
            assert " ".join(refusal.value.message.split()).endswith(refused[name].why)
            continue
        toyed = toy.prepared(values, rows=ROWS)
        trained, every = surgery.count(toyed.training.model)
        one = fitted[name]
        assert (one.trained, one.share) == (trained, trained / every), name
        assert one.learning_rate == toyed.recipe.method.learning_rate
        assert one.at_inference == toyed.recipe.method.at_inference
    assert fitted["full"].trained == found.parameters


def test_what_stays_inserted_and_what_merges() -> None:
    found = {one.name: one for one in catalogue.of_model("builtin:tiny-bert").fitted}
    assert (found["full"].inserted, found["full"].merges) == (0, None)
    assert (found["head_only"].trained, found["head_only"].inserted) == (32 * 2 + 2, 0)
    assert (found["lora"].inserted, found["lora"].merges) == (LINEARS * 8 * (32 + 32), True)


def test_a_refusal_and_a_lacking_setting_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(kind: str, name: str) -> Method:
        if name == "needy":
            raise RecipeError("The settings of the method 'needy' are wrong:\n  - start: is missing")
        return {"pissa": Lora(rank=4, init="pissa"), "stuck": Stuck(rank=4), "wide": Lora(rank=33)}[name]

    monkeypatch.setattr(registry, "build", build)
    monkeypatch.setattr(registry, "names", lambda kind: ["needy", "pissa", "stuck", "wide"])
    found = catalogue.of_model("builtin:tiny-bert")
    pissa, stuck = found.fitted
    # PiSSA ships plain LoRA of twice the rank.
    assert pissa.trained == LINEARS * 4 * 64 + 66 and pissa.inserted == LINEARS * 8 * 64
    assert stuck.merges is False and stuck.inserted == LINEARS * 4 * 64
    assert [one.name for one in found.refused] == ["needy", "wide"]
    assert found.refused[0].why == "The settings of the method 'needy' are wrong: - start: is missing"
    assert "rank 33 is larger" in found.refused[1].why
    fits, costs, refuses = found.panels()
    assert isinstance(fits, Table) and isinstance(costs, Table) and isinstance(refuses, Table)
    assert [row[4] for row in fits.rows] == ["yes", "no"]
    assert [str(row[1]).endswith("no merging: it changes the inputs") for row in costs.rows] == [False, True]
    assert [row[0] for row in refuses.rows] == ["needy", "wide"]


def test_notes_of_trials_are_not_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "tunesmith"):
        catalogue.of_model("builtin:tiny-llama")
        assert caplog.messages == [] and LOGGER.level == 20


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(list(words))
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = shown(capsys, "list", "methods", "--model", "builtin:tiny-llama")
    told = " ".join(out.replace("│", "").split())
    assert status == 0 and "head of 2 classes" in told
    assert "not needed" in told and "5e-5" in told and "use the method 'norms' instead" in told
    status, out, _ = shown(capsys, "list", "methods", "--model", "builtin:tiny-llama", "--json")
    found: dict[str, Any] = json.loads(out)
    assert status == 0 and (found["model"], found["classes"]) == ("builtin:tiny-llama", 2)
    assert {one["name"]: one["trained"] for one in found["fitted"]}["head_only"] == 2 * 32
    assert [one["name"] for one in found["refused"] if "biases" in one["why"]] == ["bitfit"]


@pytest.mark.parametrize(
    ("words", "told", "hint"),
    [
        (("tasks", "--model", "x"), "is that of tasks", "tunesmith list methods --model x"),
        (("--model", "x"), "is that of all kinds", "tunesmith list methods --model x"),
        (("methods", "--model", "builtin:tiny"), "No built-in model is called 'tiny'", ""),
    ],
)
def test_what_cannot_be_listed(
    words: tuple[str, ...], told: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = shown(capsys, "list", *words)
    assert status == 2 and out == ""
    assert told in err and hint in err
