"""The programs that compare speeds, tried out on tiny models: what they run, and the pages they write."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as xml
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import toy
from tunesmith import cli

# Of the other side: no warning of it is ours.
pytestmark = pytest.mark.filterwarnings("ignore")

TINY = ("--made", "--model", "builtin:tiny-bert", "--pairs", "1")
SIZES = ("--rows", "32", "--whole-rows", "32", "--test-rows", "8", "--seeds", "1")
Program = Callable[..., Any]


def rows(page: str) -> list[list[str]]:
    """The cells of every row of every table, heads left out."""
    lines = page.split("\n")
    heads = {place for place, line in enumerate(lines[1:]) if line.startswith("|---")}
    kept = [line for place, line in enumerate(lines) if line.startswith("| ") and place not in heads]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in kept]


@pytest.mark.parametrize(
    "part, sides",
    [
        ("full", ["ours", "Trainer", "Trainer, defaults"]),
        ("shapes", ["ours", "Trainer", "ours", "Trainer"]),
        ("lora", ["ours", "Trainer", "ours", "Trainer"]),
        ("fill", ["ours", "Trainer"]),
        ("instruct", ["ours", "Trainer"]),
    ],
)
def test_speed_measures_loops(
    part: str, sides: list[str], program: Program, in_process: list[tuple[str, Any]], tmp_path: Path
) -> None:
    program("speed", *TINY, *SIZES, "--parts", part, "--out", str(tmp_path / "speed.md"))
    assert [name for name, _ in in_process] == sides
    page = (tmp_path / "speed.md").read_text()
    found = [row for row in rows(page) if re.fullmatch(r"\d+", row[-1])]
    assert len(found) == len(sides) - sum(side == "ours" for side in sides)
    for row in found:
        rate, theirs, ratio = (float(row[place].split(" ")[0].rstrip("x").replace(",", "")) for place in (2, 3, 4))
        # Rates are told with one digit behind the point, ratios with two.
        assert ratio == pytest.approx(rate / theirs, rel=0.05, abs=0.01)


def test_speed_measures_whole_commands_and_quality(
    program: Program, in_process: list[tuple[str, Any]], tmp_path: Path
) -> None:
    # `full` has a comparison of the same name as `quality`, with no rows to answer.
    parts = ("full", "frozen", "quality", "shortcuts")
    program("speed", *TINY, *SIZES, "--parts", *parts, "--out", str(tmp_path / "speed.md"))
    ran = [(name, case.method, case.epochs) for name, case in in_process][3:]
    assert ran[:6:2] == [("command", "head", 3), ("command", "head", 10), ("command", "top", 3)]
    assert [name for name, _, _ in ran[6:]] == ["ours", "Trainer"] * 2 + ["ours", "plain"] * 4
    page = (tmp_path / "speed.md").read_text()
    assert "## Frozen parts" in page and "## Quality" in page
    told = next(row for row in rows(page) if row[0] == "SST-2, head only, 3 epochs")
    assert told[3] == "1.00x (1.00 to 1.00)"  # the fixture says one second for either side


def test_one_comparison_can_be_asked_for(program: Program, in_process: list[tuple[str, Any]], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "speed.md"))
    program("speed", *TINY, *SIZES, "--parts", "shortcuts", "--only", "SST-2, LoRA, no dropout", *out)
    assert [(name, case.method) for name, case in in_process] == [("ours", "lora"), ("plain", "lora")]
    # Nothing is drawn: both sides give the same answers.
    told = next(row for row in rows((tmp_path / "speed.md").read_text()) if row[0] == "SST-2, LoRA, no dropout")
    assert told[4:] == ["+0.00", "+0.00 to +0.00", "1"]
    with pytest.raises(SystemExit, match=r"is called 'lora'\. There are: SST-2, full, no dropout; "):
        program("speed", *TINY, *SIZES, "--parts", "shortcuts", "--only", "lora", *out)


def test_results_are_kept_and_gone_on_with(program: Program, in_process: list[tuple[str, Any]], tmp_path: Path) -> None:
    files = ("--out", str(tmp_path / "a.md"), "--results", str(tmp_path / "kept.jsonl"))
    call = (*TINY, *SIZES, "--parts", "fill", *files)
    program("speed", *call)
    first = (tmp_path / "a.md").read_text()
    count = len(in_process)
    program("speed", *call, "--pairs", "2")
    assert len(in_process) == 2 * count
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 2 * count
    assert rows(first)[0][:2] == rows((tmp_path / "a.md").read_text())[0][:2]


def test_the_ladder_switches_on_one_lever_more_each_time(
    program: Program, in_process: list[tuple[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = import_module("ladder")
    monkeypatch.setattr(ladder, "LEVERS", {name: ladder.LEVERS[name] for name in ("touched_rows", "ahead")})
    program("ladder", *TINY, "--rows", "32", "--out", str(tmp_path / "ladder.md"))
    speeds = [case.speed for name, case in in_process if name == "ours"]
    assert speeds == [
        {"shortcuts": "plain"},
        {"shortcuts": "plain", "touched_rows": True},
        {"shortcuts": "plain", "touched_rows": True, "ahead": 2},
    ]
    names = [row[0] for row in rows((tmp_path / "ladder.md").read_text())]
    assert names[-5:] == ["Trainer, defaults", "Trainer", "plain", "+ touched_rows", "+ ahead"]


def test_every_lever_is_one_of_the_recipe() -> None:
    from tunesmith.train.speed import SpeedSettings

    assert set(import_module("ladder").LEVERS) <= set(SpeedSettings.model_fields)


def test_freezing_is_measured_by_what_trains(
    program: Program, in_process: list[tuple[str, Any]], tmp_path: Path
) -> None:
    sizes = ("--rows", "256", "--test-rows", "16", "--epochs", "2", "--pairs", "2")
    module = program("freezing", *TINY[:3], *sizes, "--out", str(tmp_path / "freezing.md"))
    assert [(name, case.seed, list(case.schedules)) for name, case in in_process] == [
        ("ours", seed, module.SIDES[side])
        for seed, sides in ((0, list(module.SIDES)), (1, list(module.SIDES)[::-1]))
        for side in sides
    ]
    page = (tmp_path / "freezing.md").read_text()
    found = rows(page)
    # tiny-bert has two blocks: what a side never does has no figure.
    states = {row[0]: [bool(cell) for cell in row[1:]] for row in found if len(row) == len(module.SIDES) + 1}
    assert list(states) == ["all", "head and 2 blocks", "head and 1 block", "head"]
    assert states["all"][0] and not any(states[name][0] for name in list(states)[1:])
    assert states["head and 1 block"][2] and states["head"] == [False, False, False, False, True]
    full, *others = (row for row in found if len(row) == len(module.HEAD))
    assert full[0] == module.PLAIN and full[2] == "" and [row[-1] for row in (full, *others)] == ["2"] * 5
    assert all(re.fullmatch(r"[\d.]+x .*", row[2]) and row[6].count(",") == 1 for row in others)


def test_a_saving_needs_less_time_and_equal_accuracy(program: Program) -> None:
    freezing = import_module("freezing")
    plain = [{"seconds": 10.0, "rate": 1.0, "peak": 1e6, "accuracy": accuracy} for accuracy in (80.0, 82.0)]
    for seconds, less, expected in ((9.0, 0.4, "yes"), (9.0, 0.6, "no"), (11.0, 0.1, "no")):
        runs = [{**one, "seconds": seconds, "accuracy": one["accuracy"] - less} for one in plain]
        row = freezing.line("freeze", runs, plain)
        assert (row[-2], row[7]) == (expected, f"{-less:+.2f}")


def test_what_trains_is_known_by_its_size(program: Program, tmp_path: Path) -> None:
    freezing, models = import_module("freezing"), import_module("pairs.models")
    folder, _ = models.builtin("builtin:tiny-bert", tmp_path)
    made = toy.prepared({"train": {"steps": 1}})
    known = freezing.states(folder)
    counts = {name: count for count, name in known.items()}
    block = sum(p.numel() for p in made.training.model.bert.encoder.layer[0].parameters())
    assert counts["head and 2 blocks"] - counts["head and 1 block"] == block


def test_the_gpu_program_is_tried_out_on_a_cpu(
    program: Program, in_process: list[tuple[str, Any]], tmp_path: Path
) -> None:
    two = ("builtin:minilm", import_module("gpu").LLAMA)
    program("gpu", "--tiny", "--pairs", "1", "--updates", "2", "--models", *two, "--out", str(tmp_path / "gpu.md"))
    assert [(name, case.task, case.method) for name, case in in_process] == [
        (side, task, method)
        for task in ("classify", "text")
        for method in ("full", "lora")
        for side in ("ours", "Trainer")
    ]
    page = (tmp_path / "gpu.md").read_text()
    assert "no figures of a GPU" in page
    assert len([row for row in rows(page) if row[-1] == "1"]) == 4


def test_without_a_gpu_the_page_says_so(program: Program, tmp_path: Path) -> None:
    program("gpu", "--out", str(tmp_path / "gpu.md"))
    assert "GPU figures are not measured" in (tmp_path / "gpu.md").read_text()


def test_many_rows_are_measured(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([5, 3, 4])

    def here(command: list[str], environment: object) -> tuple[float, Any]:
        assert cli.main(command[3:]) == 0
        return 1.0, SimpleNamespace(peak=9e6, own=next(held) * 1e6)

    monkeypatch.setattr(import_module("many_rows"), "watched", here)
    page = tmp_path / "page.md"
    program("many_rows", "--sizes", "32", "64", "--trained", "32", "--suites", "task", "--out", str(page))
    table = [line.split("|") for line in page.read_text(encoding="utf-8").split("\n") if "|" in line]
    assert [[row[1].strip(), row[5].strip()] for row in table[2:]] == [["32", "+0"], ["64", "+1"]]


def test_cost_over_rows(program: Program, tmp_path: Path) -> None:
    program("linear", "--sizes", "64", "--batch", "32", "--out", str(tmp_path / "linear.md"))
    linear = import_module("linear")
    # By hand: 10 s of start, 2 ms a row of which 1 ms is training.
    found = [
        {"rows": count, "whole": 10 + 0.002 * count, "training": 0.001 * count, "peak": 6e8, "own": 3e8}
        for count in (1_000, 10_000, 100_000)
    ]
    assert [row[3:] for row in linear.rows_of(found)] == [
        ["1,000", "", "600", "300"],
        ["1,000", "2,000", "600", "300"],
        ["1,000", "2,000", "600", "300"],
    ]
    drawn = xml.fromstring(linear.figure(found))
    lines = [line.get("points", "").split() for line in drawn.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line) for line in lines] == [3, 2, 3, 3]
    # What is flat in numbers is flat in the figure.
    assert all(len({point.split(",")[1] for point in line}) == 1 for line in lines)


def test_estimates_are_compared_with_the_run(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimates = import_module("estimates")
    monkeypatch.setattr(estimates, "compare", lambda recipe: {
        "whole": 10.0, "whole before": 12.0, "peak": 4e8, "peak before": 3e8, "check": 20.0,
    })  # fmt: skip
    program("estimates", *TINY, "--rows", "64", "--out", str(tmp_path / "estimates.md"))
    found = rows((tmp_path / "estimates.md").read_text())
    assert len(found) == 8
    assert found[0][1:] == ["12.0", "10.0", "+20 % (+20 to +20)", "300", "400", "-25 % (-25 to -25)", "20.0", "1"]


def test_the_recipes_of_the_estimates_are_whole(tmp_path: Path) -> None:
    from argparse import Namespace

    from tunesmith import recipe

    estimates, data = import_module("estimates"), import_module("pairs.data")
    given = Namespace(model="builtin:tiny-bert", rows=64)
    found = estimates.recipes(data.Source(tmp_path, None), given)
    assert len({recipe.from_values(values).title for values in found.values()}) >= 5
    assert len(found) == 8


def test_without_data_a_program_says_so(program: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program("speed", "--data", str(tmp_path / "none"))
    assert ended.value.code == 0
    assert "no data at" in capsys.readouterr().out


def test_quick_writes_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    options = import_module("pairs.options")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--made", "--pairs", "4"])
    given = options.parse(options.parser("A program.", "speed.md"), {"pairs": 3, "rows": 64})
    assert (given.out, given.pairs, given.rows) == (None, 4, 64)
