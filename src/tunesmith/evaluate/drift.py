"""What training moved: features, weights, and how much each part of a delta does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from tunesmith.core import part
from tunesmith.core.errors import ModelError
from tunesmith.core.finished import Asked, Finished
from tunesmith.core.mapped import Mapped
from tunesmith.core.panel import Bars, Cell, Figure, Heatmap, Lines, Panel, Result, Table
from tunesmith.core.rows import Rows, take
from tunesmith.core.seeding import seed_of
from tunesmith.evaluate import changes, dimension, gradient_flow, switches, verdicts
from tunesmith.evaluate.changes import Change
from tunesmith.evaluate.cka import FEW, cka, is_plenty
from tunesmith.evaluate.unmeasured import unmeasured

METRICS = "metrics.jsonl"
SHOWN, VALUES = 20, 3
"""How many matrices are listed, with how many singular values each."""


class Drift(part.Suite):
    """What training moved: features by layer, weights by block, what each block's part of a delta does; how much
    gradient reached each place; and, when asked, how few random directions would have done.

    Formula: linear CKA a layer = ||Y^T X||^2 / (||X^T X|| ||Y^T Y||), with the estimate of HSIC that has no bias where
    there are fewer rows than twice the features; of a matrix ||W - W0|| / ||W0|| and the effective rank of W - W0,
    exp(-sum p log p) with p = s / sum s; of a block's modules the metric with them less the metric without.
    Symbols: X, Y a layer's features before and after, centred, the mean over an example's tokens; W0, W a linear's
    weight before and after, merged with what was put around it; s the singular values. Shapes: X, Y [rows, hidden],
    W [out, in].
    Paper: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019; Roy and Vetterli, "The
    Effective Rank", 2007. Of an encoder-decoder the encoder's layers are compared. Norms are Frobenius norms.
    """

    asks: ClassVar[str] = "What did the training move: features, weights, and where?"
    defines: ClassVar[Mapping[str, str]] = {
        "cka_of_last_layer": "Likeness of the last layer's features before and after the training (linear CKA) on the "
        "same rows: 1 is the same up to a rotation and one factor, 0 is unlike.",
        "mean_cka": "The likeness of features before and after, as of the last layer, averaged over all blocks.",
        "change_of_matrices": "Size of the change of all matrices of the blocks together, as a share of the size of "
        "the weights (Frobenius norms).",
        dimension.FIGURE: "The fewest numbers of those tried that, trained along directions drawn at random beside the "
        f"head, reach {100 * dimension.NEAR:g} % of this run's main metric.",
    }

    rows: int = Field(1000, ge=FEW)
    """How many held-out rows features are compared on, at most."""
    switched_rows: int = Field(500, ge=0)
    """How many held-out rows each block's part of a delta is switched off on, at most; 0 leaves that out."""

    dimensions: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Dimensions of random subspaces, in each of which the recipe is trained again: [10, 100, 1000]."""

    def measure(self, finished: Finished) -> Result:
        """Features, weights, the parts of the delta, then subspaces if asked; what can't be measured is said."""
        result = Result()
        split = finished.held_out()
        every = [self._features(finished, split), _weights(finished), self._parts(finished, split)]
        every += [dimension.measured(finished, split, self.dimensions)] if self.dimensions else []
        for found in every:
            result.figures.extend(found.figures)
            result.panels.extend(found.panels)
            result.verdicts.extend(found.verdicts)
        # Without a folder there is no record: a model that was trained elsewhere.
        result.panels.extend(gradient_flow.panels(finished.folder / METRICS) if finished.folder else [])
        return result

    def _features(self, finished: Finished, split: str | None) -> Result:
        rows = finished.train() if split is None else finished.splits[split]
        if rows is None:
            return Result(panels=[unmeasured("Features by layer", "there are no rows to compare them on")])
        rows = _drawn(rows, self.rows, finished.seed)
        before, now, layered = _states(finished.before(), finished.now, rows)
        values = [cka(before[:, layer], now[:, layer]) for layer in range(before.shape[1])]
        if len(rows) < FEW or not any(map(math.isfinite, values)):
            return Result(panels=[unmeasured("Features by layer", f"{len(rows)} rows, or rows all alike, are too few")])
        few = f"The estimate without bias, as there are fewer rows than twice the {before.shape[2]} features."
        note = (
            f"Linear CKA on {len(rows):,} rows of the {split or 'training'} split: 1 is the same up to a rotation and "
            f"one factor. {'The plain estimate.' if is_plenty(len(rows), before.shape[2]) else few}"
        )
        figures = [Figure("cka_of_last_layer", values[-1], split or "train")] if math.isfinite(values[-1]) else []
        told = []
        blocks = [value for value in values[1:] if math.isfinite(value)]
        if layered and blocks:
            mean = sum(blocks) / len(blocks)
            figures.append(Figure("mean_cka", mean, split or "train"))
            told.append(verdicts.moved(mean, len(rows)))
        title = "Features by layer, before and after"
        if not layered:
            note += " The layers of this backbone differ in size: the last one's states alone are compared."
            return Result(figures, [Table(title, ["layer", "CKA"], [["last", values[-1]]], note)], verdicts=told)
        known = [layer for layer, value in enumerate(values) if math.isfinite(value)]
        line = ([float(layer) for layer in known], [values[layer] for layer in known])
        lines = Lines(title, {"CKA": line}, "block", "CKA", f"{note} 0 are the embeddings.")
        return Result(figures, [lines], verdicts=told)

    def _parts(self, finished: Finished, split: str | None) -> Result:
        title = "Parts of the delta, switched off one at a time"
        if not switches.groups(finished.now.model):
            return Result(panels=[unmeasured(title, "nothing was put into the model that could be switched off")])
        if not self.switched_rows or split is None:
            return Result(panels=[unmeasured(title, "there are no held-out rows for it, or `switched_rows` is 0")])
        rows = _drawn(finished.splits[split], self.switched_rows, finished.seed)
        whole, without = switches.metrics_without(finished.now, rows)
        task = finished.task
        sign = 1 if task.higher_is_better else -1
        lost = {name: sign * (whole - value) for name, value in without.items()}
        note = (
            f"How much worse {task.metric} is on {len(rows):,} {split} rows ({whole:.4g} with everything) while what "
            "was put into one block does nothing. The parts do not add up: the others stay."
        )
        chart = Bars(title, list(lost), {"lost": list(lost.values())}, "block", f"{task.metric} lost", note)
        return Result([], [chart] if all(map(math.isfinite, lost.values())) else [_table(title, without, note)])


def _states(before: Asked, now: Asked, rows: Rows) -> tuple[np.ndarray, np.ndarray, bool]:
    """Features before and now [rows, layers, hidden], and whether these are those of every layer, or the last one's."""
    try:
        return before.features(rows, layers=True), now.features(rows, layers=True), True
    except (RuntimeError, ModelError):  # layers of several sizes, which do not stack; or a model that shows none
        return before.features(rows)[:, None], now.features(rows)[:, None], False


def _weights(finished: Finished) -> Result:
    before, now = finished.before().model, finished.now.model
    found, foreign = changes.of_matrices(before, now)
    moved = changes.of_kinds(before, now)
    changed = sorted((one for one in found if one.size), key=lambda one: -one.relative)
    panels: list[Panel] = []
    if changed:
        panels += [_map(found, switches.names(before)), _list(changed)]
    lines: list[list[Cell]] = [
        [one.kind, one.changed, one.tensors, math.sqrt(one.size / one.weight) if one.weight else None] for one in moved
    ]
    note = (
        "Sizes of all changes together in the size of the weights, as Frobenius norms; the head, which is new, aside."
    )
    if foreign:
        note += f" {len(foreign)} matrices stand in layers of another library and are not read."
    panels.append(Table("How far weights moved", ["what", "changed", "of", "change / weight"], lines, note))
    size, weight = (math.sqrt(sum(getattr(one, name) ** 2 for one in found)) for name in ("size", "weight"))
    return Result([Figure("change_of_matrices", size / weight, "weights")] if weight else [], panels)


def _map(found: Sequence[Change], blocks: Mapping[str, str]) -> Heatmap:
    roles = list(dict.fromkeys(one.role for one in found))
    sums = {(name, role): [0.0, 0.0] for name in blocks.values() for role in roles}
    for one in found:
        name = next(name for block, name in blocks.items() if one.path.startswith(f"{block}."))
        for place, size in enumerate((one.size, one.weight)):
            sums[name, one.role][place] += size**2
    values = [
        [math.sqrt(sums[name, role][0] / sums[name, role][1]) if sums[name, role][1] else 0.0 for role in roles]
        for name in blocks.values()
    ]
    note = "||W - W0|| / ||W0||; 0 where nothing changed, or a block has no such matrix."
    return Heatmap("Change of weights by block", list(blocks.values()), roles, values, "matrix", "block", note)


def _list(changed: Sequence[Change]) -> Table:
    rows: list[list[Cell]] = []
    for one in changed[:SHOWN]:
        told: list[Cell] = [None, None, ""]
        if one.values is not None:
            largest = ", ".join(f"{value:.3g}" for value in one.values[:VALUES].tolist())
            told = [changes.effective_rank(one.values), len(one.values), largest]
        rows.append([one.path, one.role, one.relative, *told])
    note = f"{len(changed):,} matrices changed" + (f"; the {SHOWN} that changed most." if len(changed) > SHOWN else ".")
    if any(one.values is None for one in changed):
        note += f" Those wider than {changes.LARGEST:,} are not taken apart."
    columns = ["matrix", "for", "change / weight", "effective rank", "of at most", "largest singular values"]
    return Table("Matrices that changed", columns, rows, note)


def _table(title: str, without: Mapping[str, float], note: str) -> Table:
    return Table(title, ["block", "without it"], [[name, value] for name, value in without.items()], note)


def _drawn(rows: Rows, most: int, seed: int) -> Rows:
    """The rows, or `most` of them, drawn once for a seed."""
    if len(rows) <= most:
        return rows
    draw = np.random.default_rng(seed_of(seed, "drift"))
    return Mapped.from_list(take(rows, sorted(draw.choice(len(rows), most, replace=False).tolist())))
