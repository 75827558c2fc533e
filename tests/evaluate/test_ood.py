"""The suite `ood`: other files, groups, lengths, rows of no class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests import toy
from tests.evaluate import suites
from tunesmith.core.errors import DataError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Bars, Lines, Points, Result, Table
from tunesmith.core.rows import each
from tunesmith.evaluate import detection, ood, shift, stats
from tunesmith.evaluate.ood import Ood
from tunesmith.prepare import Prepared


@pytest.fixture(scope="module")
def toyed() -> Prepared:
    return toy.prepared({}, count=24)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 40)


def other(folder: Path, count: int = 30) -> str:
    """A labelled file with a column more."""
    path = folder / "other.csv"
    lines = [
        f"{toy.WORDS[n % 16]} {toy.WORDS[n * 5 % 16]},{toy.CLASSES[n * n % 3]},{'ab'[n % 5 > 2]}" for n in range(count)
    ]
    path.write_text("\n".join(["text,label,shop", *lines, ""]))
    return str(path)


def answered(toyed: Prepared, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    return toyed.recipe.task.truths(each(rows)), suites.asked(toyed).predict(rows).answers


def values(result: Result) -> dict[tuple[str, str, str], float]:
    return {(one.name, one.split, one.subject): one.value for one in result.figures}


def test_other_files_stand_beside_the_test_split(toyed: Prepared, tmp_path: Path) -> None:
    path = other(tmp_path)
    finished = suites.finished(toyed)
    result = Ood(data={"shop": path}, groups="shop", length=False).measure(finished)
    found = values(result)
    home = np.equal(*answered(toyed, toyed.batches.rows))
    away = np.equal(*answered(toyed, finished.read(Path(path))))
    assert found["accuracy", "shop", "model"] == pytest.approx(away.mean())
    assert found["accuracy", "shop", "difference to test"] == pytest.approx(away.mean() - home.mean())
    assert {subject for _, split, subject in found if split == "shop"} == {
        "model", "most frequent class", "untrained head", "difference to test",
    }  # fmt: skip
    groups = np.array(["ab"[n % 5 > 2] for n in range(30)])
    for group in "ab":
        expected = away[groups == group].mean()
        assert found["accuracy", f"shop: {group}", "model"] == pytest.approx(expected)
        assert found["accuracy", f"shop: {group}", "difference to test"] == pytest.approx(expected - home.mean())
    assert all(one.low is not None and one.low <= one.high for one in result.figures)  # type: ignore[operator]
    bars, points = result.panels
    assert isinstance(bars, Bars) and bars.labels == ["a (18 rows)", "b (12 rows)"]
    assert isinstance(points, Points) and points.diagonal
    assert (home.mean(), away.mean()) in list(zip(points.xs, points.ys, strict=True))
    assert "model on shop" in points.note and "untrained head on shop" in points.note


def test_only_the_largest_groups_are_shown(toyed: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "GROUPS", 1)
    with listening() as notes:
        result = Ood(data={"shop": other(tmp_path)}, groups="shop", length=False).measure(suites.finished(toyed))
    assert {split for _, split, _ in values(result)} == {"shop", "shop: a"}
    assert "Only the 1 largest of the 2 groups of shop are shown." in notes


def test_quarters_by_length_stand_beside_the_rest(toyed: Prepared) -> None:
    result = Ood().measure(suites.finished(toyed))
    right = np.equal(*answered(toyed, toyed.batches.rows))
    lengths = np.array([len(text) for text in toyed.batches.rows[:]["text"]])
    first = lengths <= np.quantile(lengths, 0.25)
    name = f"test: {lengths[first].min()} to {lengths[first].max()} characters"
    found = values(result)
    assert found["accuracy", name, "model"] == pytest.approx(right[first].mean())
    expected = right[first].mean() - right[~first].mean()
    assert found["accuracy", name, "difference to the rest"] == pytest.approx(expected)
    (bars,) = result.panels
    assert isinstance(bars, Bars) and len(bars.labels) == 4
    alike = toyed.batches.rows.select([0] * 8)  # type: ignore[attr-defined]
    with listening() as notes:
        assert values(Ood().measure(suites.finished(toyed, {"test": alike}))) == {}
    assert any("of one length" in text for text in notes)


def test_rows_of_no_class_are_told_from_the_splits(
    toyed: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ood, "CHUNK", 5)
    path = tmp_path / "outside.txt"
    path.write_text("\n".join(f"{'zebra ' * (n % 4 + 1)}{n}" for n in range(15)))
    finished = suites.finished(toyed)
    result = Ood(outside=str(path), length=False).measure(finished)
    now, own = suites.asked(toyed), toyed.batches.rows
    outside = ood.other_rows.unlabelled(toyed.recipe.task, str(path))
    cloud = detection.clouds(now.features(own), toyed.recipe.task.truths(each(own)))
    expected = {
        "maximum probability": [detection.probabilities(now.scores(rows)) for rows in (own, outside)],  # type: ignore[arg-type]
        "energy": [detection.energies(now.scores(rows)) for rows in (own, outside)],  # type: ignore[arg-type]
        "distance to the classes": [cloud.nearness(now.features(rows)) for rows in (own, outside)],  # type: ignore[arg-type]
    }
    found = values(result)
    for subject, pair in expected.items():
        area = roc_auc_score(np.repeat([1, 0], [24, 15]), np.concatenate(pair))
        assert found["auroc", "outside", subject] == pytest.approx(area, abs=1e-3)  # other batches, other last bits
        assert 0 <= found["fpr_at_95", "outside", subject] <= 1
    (curves,) = result.panels
    assert isinstance(curves, Lines) and list(curves.series) == list(expected)
    assert all((xs[0], ys[0], xs[-1], ys[-1]) == (0, 0, 1, 1) for xs, ys in curves.series.values())


def test_distances_need_training_rows_and_take_not_too_many(
    toyed: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ood, "FITTED", 20)
    path = tmp_path / "outside.txt"
    path.write_text("zebra\nyak\n")
    suite = Ood(outside=str(path), length=False)
    with listening() as notes:
        many = suite.measure(suites.finished(toyed))
    assert "Distances to the classes are learned from 20 of 24 training rows." in notes
    assert ("auroc", "outside", "distance to the classes") in values(many)
    without = suite.measure(suites.finished(toyed, train=lambda: None))
    assert ("auroc", "outside", "distance to the classes") not in values(without)
    assert isinstance(without.panels[0], Table) and "not at hand" in str(without.panels[0].rows)


def test_a_task_without_scores_has_the_rest(tmp_path: Path) -> None:
    toyed = toy.prepared({"task": "regress"}, count=24)
    path = tmp_path / "outside.txt"
    path.write_text("zebra\nyak\n")
    result = Ood(outside=str(path)).measure(suites.finished(toyed))
    assert {name for name, _, _ in values(result)} == {toyed.recipe.task.metric}
    assert isinstance(result.panels[-1], Table) and "has no scores of classes" in str(result.panels[-1].rows)
    (panel,) = Ood().measure(suites.finished(toyed, {})).panels
    assert panel.title == "Out of distribution: not measured"


def test_files_are_read_before_the_training(tmp_path: Path) -> None:
    good, bad, text = other(tmp_path), tmp_path / "bad.csv", tmp_path / "outside.txt"
    bad.write_text("text,label\none,no\ntwo,perhaps\n")
    text.write_text("zebra\n")

    def prepared(**settings: Any) -> Prepared:
        return toy.prepared({"evaluate": [{"name": "ood", **settings}]})

    assert prepared(data={"shop": good}, groups="shop", outside=str(text)).recipe.suites[0].word() == "ood"
    for message, settings in {
        r"bad\.csv: No class of this model is called 'perhaps'": {"data": {"shop": good, "bad": str(bad)}},
        "no column 'year'": {"data": {"shop": good}, "groups": "year"},
        r"none\.txt": {"outside": str(tmp_path / "none.txt")},
    }.items():
        with pytest.raises(DataError, match=message):
            prepared(**settings)


def test_settings_that_measure_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="measures nothing"):
        Ood(length=False)
    with pytest.raises(ValueError, match="'groups' names a column of the files"):
        Ood(groups="shop")


def test_a_file_is_not_called_like_a_split() -> None:
    with pytest.raises(ValueError, match="calls a file 'test', as a split is called"):
        Ood(data={"test": "rows.csv"})
