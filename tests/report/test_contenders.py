"""What is compared: runs by name, and those that differ in their seed alone as one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import t

from tests.report.rivals import write_rival
from tunesmith.report import contenders


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    assert contenders.names([tmp_path / "a", tmp_path / "x" / "b"]) == ["a", "b"]
    assert contenders.names([tmp_path / "one" / "run", tmp_path / "two" / "run"]) == ["one/run", "two/run"]


def test_a_group_has_the_mean_and_students_interval(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / f"r8-seed{seed}", 0.8, seed, seconds=10.0 * seed, kept=0.5) for seed in range(3)]
    runs = contenders.gathered(folders)
    (group,) = contenders.contenders(runs)
    assert group.name == "r8 (3 seeds)" and group.settings["train.seed"] == "0, 1, 2" and group.cost("seconds") == 10
    values = [run.evaluation.suites["task"].figures[0].value for run in runs]
    main = group.main("test")
    middle = sum(values) / 3
    spread = (sum((value - middle) ** 2 for value in values) / 2) ** 0.5
    assert main.value == pytest.approx(middle) and main.high is not None
    assert main.high - middle == pytest.approx(t.ppf(0.975, 2) * spread / 3**0.5)
    assert group.figures()["retention", "general", "model", "retention"].value == 0.5


def test_other_data_or_the_same_seed_make_no_group(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / name, 0.8, seed) for name, seed in (("a", 0), ("b", 1), ("c", 1))]
    found = contenders.contenders(contenders.gathered(folders))
    assert [one.name for one in found] == ["a", "b", "c"]
    assert "b and c have the same recipe and seed." in contenders.alike_but_for_seeds(found)
    folders[2] = write_rival(tmp_path / "d", 0.8, 2, data="ab" * 32)
    assert len(contenders.contenders(contenders.gathered(folders))) == 3


def test_only_keys_that_differ(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / "a", 0.8), write_rival(tmp_path / "b", 0.8, 3, method="full")]
    path = folders[1] / "recipe.yaml"
    path.write_text(path.read_text().replace("regularizers: []", "regularizers: [{name: l2_sp}]"))
    found = contenders.contenders(contenders.gathered(folders))
    assert contenders.differing(found) == {
        "method.name": ["lora", "full"],
        "regularizers": [[], None],
        "train.seed": [0, 3],
        "regularizers.0.name": [None, "l2_sp"],
    }
