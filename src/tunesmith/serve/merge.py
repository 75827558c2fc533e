"""Finished runs in, one model or delta out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.core import arithmetic, sharing, soup
from tunesmith.core.errors import DivergedError, ModelError, RecipeError, nearest, raise_faults
from tunesmith.core.files import writing_folder
from tunesmith.core.linear import exact
from tunesmith.core.notes import note
from tunesmith.core.part import Task
from tunesmith.core.seeding import generator
from tunesmith.models import artifact, quantise
from tunesmith.models.load import Backbone
from tunesmith.recipe import Recipe
from tunesmith.serve import attach, card, difference
from tunesmith.serve.attach import Attached
from tunesmith.serve.folder import check_free

DENSITY = 0.2


@dataclass(frozen=True)
class Mix:
    """How what several runs learned is put together.

    soup: a name in `soup.SOUPS`: the mean, of all or of those that a validation split chooses (`serve/soup.py`).

    how: a name in `arithmetic.WAYS`. weights: one a run; where none are given 1 for one run, 1 / runs for linear and
    dare, and 1 where signs are elected, which takes a mean by itself. density: the share of entries that ties and dare
    keep, 0.2 where none is given. seed: for dare's draws.
    """

    how: str = "linear"
    weights: tuple[float, ...] = ()
    density: float | None = None
    seed: int | None = None
    soup: str | None = None

    def settled(self, runs: int) -> Mix:
        """With everything filled in for so many runs. What does not go together raises one RecipeError."""
        raise_faults(RecipeError, "The runs can't be merged like this:", self._faults(runs))
        common = 1.0 if self.how in arithmetic.ELECTING else 1 / runs
        density = 1.0 if self.how not in arithmetic.THINNING else DENSITY if self.density is None else self.density
        return Mix(self.how, self.weights or (common,) * runs, density, self.seed or 0)

    @property
    def plain(self) -> bool:
        """Whether one run comes out as it went in."""
        return self.weights == (1.0,) and self.density == 1.0

    def _faults(self, runs: int) -> list[str]:
        faults = []
        if not runs:
            faults.append("no run is given")
        if self.soup is not None:
            return [*faults, *self._faults_of_a_soup(runs)]
        if self.how not in arithmetic.WAYS:
            return [*faults, f"--how '{self.how}' is unknown. {nearest(self.how, arithmetic.WAYS)}"]
        if self.weights and len(self.weights) != runs:
            faults.append(f"--weights: {len(self.weights)} given for {runs} {'run' if runs == 1 else 'runs'}")
        if not all(math.isfinite(weight) for weight in self.weights):
            faults.append("--weights: not all are finite numbers")
        if self.density is not None and not 0 < self.density <= 1:
            faults.append(f"--density {self.density:g} is not above 0 and at most 1")
        for name, value, ways in (
            ("density", self.density, arithmetic.THINNING), ("seed", self.seed, arithmetic.DRAWING)
        ):  # fmt: skip
            if value is not None and self.how not in ways:
                faults.append(f"--{name} goes with --how {', '.join(ways)}, not with {self.how}")
        return faults

    def _faults_of_a_soup(self, runs: int) -> list[str]:
        if self.soup not in soup.SOUPS:
            return [f"--soup '{self.soup}' is unknown. {nearest(str(self.soup), soup.SOUPS)}"]
        faults = [f"--soup takes the mean of several runs, {runs} is given"] if runs == 1 else []
        if replace(self, soup=None) != Mix():
            faults.append("--soup takes the plain mean: leave --how, --weights, --density and --seed out")
        return faults


def mix_of(how: Sequence[str], weights: Sequence[float]) -> Mix:
    """The mix that words of the command line say: a way, `density=D`, `seed=S`, `soup=WHICH`; others: RecipeError."""
    settings: dict[str, Any] = {"weights": tuple(weights)}
    for word in how:
        key, equals, value = word.partition("=")
        try:
            settings |= {key: {"density": float, "seed": int, "soup": str}[key](value)} if equals else {"how": word}
        except (KeyError, ValueError):
            raise RecipeError(
                f"--how: {word!r} is neither density=NUMBER nor seed=WHOLE NUMBER.", hint="For example: density=0.2."
            ) from None
    return Mix(**settings)


def merge(runs: Sequence[Path], out: Path, mix: Mix, as_delta: str | None = None) -> dict[str, Any]:
    """Put together what runs on one backbone learned, and write it to `out`: a plain transformers model, or with
    `as_delta` ("exact", "rank=N") its difference to the backbone, in a folder that works as a run does.

    Every run is first folded into plain weights w_i, and its outputs are compared; the result is w0 + f(w_1 - w0, ...)
    with w0 the backbone's. Returns what was done and measured. Raises RecipeError, ModelError, RunFolderError for what
    can't be, ArtifactError where folding changes outputs; nothing is written then.
    """
    mix = mix.settled(len(runs))
    check_way_out(out, as_delta)
    found = gather(runs, "cpu", alone=mix.plain and as_delta is None)
    model = found.models[0] if mix.plain else combine(found, mix)
    told: dict[str, Any] = {
        "runs": found.told, "how": mix.how, "weights": list(mix.weights), "density": mix.density, "seed": mix.seed,
        "largest_difference_of_merging": found.changed,
    }  # fmt: skip
    return write(found, model, out, as_delta, told)


@dataclass(frozen=True)
class Gathered:
    """Runs on one backbone, each folded into a plain model; `changed` is the most that folding changed an output.

    base: the backbone; None where there is one run, which holds its whole model, and nobody asked for it.
    """

    runs: Sequence[Attached]
    models: Sequence[PreTrainedModel]
    base: Backbone | None
    changed: float

    @property
    def told(self) -> list[dict[str, str]]:
        """The runs by their folders and methods."""
        return [{"folder": str(run.folder), "method": run.recipe.method.word()} for run in self.runs]

    def some(self, numbers: Sequence[int]) -> Gathered:
        """The runs with these numbers."""
        return replace(self, runs=[self.runs[n] for n in numbers], models=[self.models[n] for n in numbers])


def gather(runs: Sequence[Path], device: str, alone: bool = False) -> Gathered:
    """Load runs beside each other and fold each; raises what `merge` does. alone: one whole model needs no backbone."""
    first, base = attach.first(runs[0], device)
    if base is None and not alone:
        base = attach.backbone_of(first)
    attached = [first, *(attach.beside(folder, base) for folder in runs[1:] if base is not None)]
    folded = [fold(run) for run in attached]
    return Gathered(attached, [model for model, _ in folded], base, max(changed for _, changed in folded))


def check_way_out(out: Path, as_delta: str | None) -> None:
    """Refuse, before any work is done, a folder that is taken, and an unknown way to write."""
    if as_delta is not None:
        difference.parse(as_delta)
    check_free(out)


def write(
    found: Gathered, model: PreTrainedModel, out: Path, as_delta: str | None, told: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what came of the runs, as a plain model or as its difference to the backbone, under the first run's task.
    Returns `told` with what was written and measured.
    """
    first, base = found.runs[0], found.base
    if as_delta is not None and base is not None and model.dtype != base.model.dtype:
        raise ModelError(
            f"--as-delta: the merged model is in float32, its backbone in {base.model.dtype}: no bits can be compared.",
            hint="Leave --as-delta out, or train with model.dtype float32.",
        )
    if as_delta is not None and base is not None:
        return {"delta": str(out), **difference.write(first, model, base, out, difference.parse(as_delta), told)}
    _write(model, first, out, told)
    return {"model": str(out), "largest_difference": found.changed, **told}


def told(done: Mapping[str, Any]) -> str:
    """What `merge` returned, in a line or two."""
    if "model" in done:
        return f"merged model: {done['model']} (largest difference of its outputs: {done['largest_difference']:.2g})"
    share = done["bytes"] / max(1, done["bytes_of_the_model"])
    return (
        f"difference to the backbone: {done['delta']} ({done['bytes']:,} bytes, {100 * share:.1f} % of the model)\n"
        f"relative error of its weights: {done['relative_error']:.3g}, "
        f"largest difference of its outputs: {done['largest_difference']:.3g}"
    )


def write_one(run: Attached, out: Path) -> float:
    """Write a run as a plain transformers model; returns the largest difference that folding made to its outputs."""
    check_free(out)
    model, changed = fold(run)
    _write(model, run, out, {"runs": [{"folder": str(run.folder)}], "largest_difference_of_merging": changed})
    return changed


def fold(run: Attached) -> tuple[PreTrainedModel, float]:
    """A plain model with the run's delta in its weights, and its largest difference to the run's outputs on its probe.

    The run's own model stays: what is not touched is shared with it. What was put into a backbone of lower precision is
    merged, compared and kept in float32: rounded again it would be another model. A method that can't merge raises
    ModelError, a difference that matters ArtifactError.
    """
    batches = run.probe()
    model = sharing.skeleton(run.backbone.model)
    if run.recipe.method.keeps_backbone and model.dtype != torch.float32:
        note(f"The backbone is in {str(model.dtype).removeprefix('torch.')}: the merged model is in float32.")
        model = model.float()
    if run.temperature != 1:
        note(
            f"The run {run.folder} keeps a temperature, which a merged model does not: divide its scores by "
            f"{run.temperature:.4g} for calibrated confidences."
        )
    before = artifact.outputs(model, batches)
    artifact.merge(model, run.recipe.method.shipped(), run.backbone.below)
    return model, artifact.prove(before, artifact.outputs(model, batches), "The merged model")


def _write(model: PreTrainedModel, run: Attached, out: Path, told: Mapping[str, Any]) -> None:
    with writing_folder(out) as temporary:
        model.save_pretrained(temporary)
        artifact.accompany(run.backbone, run.recipe.task, temporary)
        card.write_merged(temporary, told)


@torch.no_grad()
def combine(found: Gathered, mix: Mix) -> PreTrainedModel:
    """The first of the models with the weights that come of all; those that were gathered stay as they are. Outputs
    that are no numbers raise DivergedError, models that can't be told from the backbone tensor by tensor ModelError.
    """
    assert found.base is not None
    runs, model = found.runs, sharing.skeleton(found.models[0])
    models = [model, *found.models[1:]]
    plain = sharing.skeleton(found.base.model)
    quantise.dequantise(plain)
    zero, trained = sharing.named(plain), [sharing.named(model) for model in models]
    heads = sharing.in_head(models[0])
    _check_alike(runs, models, zero)
    fresh: dict[int, Tensor] = {}
    for name, place in trained[0].items():
        if name in heads or id(place) in fresh or not place.is_floating_point() or name not in zero:
            continue
        vectors = [exact(one[name]) - exact(zero[name]) for one in trained]
        if any(vector.any() for vector in vectors):
            way = arithmetic.WAYS[mix.how]
            change = way(vectors, mix.weights, mix.density or 1.0, generator(mix.seed or 0, name))
            fresh[id(place)] = _like(place, exact(zero[name]) + change)
    if same_task([run.recipe for run in runs]):
        for name in heads:
            mean = arithmetic.mean_of_heads([exact(one[name]) for one in trained], mix.weights)
            fresh[id(trained[0][name])] = _like(trained[0][name], mean)
    else:
        note(f"The runs have other tasks or classes: the head is that of {runs[0].folder}.")
    sharing.substitute(model, fresh)
    _check_finite(model, runs[0])
    return model


def _check_alike(runs: Sequence[Attached], models: Sequence[PreTrainedModel], zero: dict[str, Tensor]) -> None:
    """Refuse models whose tensors can't be told from the backbone's one by one."""
    shared = [set(sharing.named(model)) & set(zero) for model in models]
    for run, model, names in zip(runs, models, shared, strict=True):
        own = sharing.named(model)
        wrong = sorted(shared[0] ^ names) or [name for name in names if own[name].shape != zero[name].shape]
        wrong = [name for name in wrong if name not in sharing.in_head(model) | sharing.in_head(models[0])]
        if wrong or sharing.ties(model) != sharing.ties(models[0]):
            what = f"{wrong[0]} is not in all, or of another shape" if wrong else "they share other weights"
            raise ModelError(
                f"The runs {runs[0].folder} and {run.folder} can't be put together: {what}.",
                hint="Merge runs of one kind of task on one backbone.",
            )


def same_task(recipes: Sequence[Recipe]) -> bool:
    """Whether all heads mean the same: the same classes, or where there are none the same scale. What a task settles on
    its validation answers is no part of it.
    """
    first, *others = [recipe.task for recipe in recipes]
    return all(
        (other.word(), other.head()) == (first.word(), first.head())
        and ("id2label" in first.head() or type(first).settle is not Task.settle or other.state() == first.state())
        for other in others
    )


def _check_finite(model: PreTrainedModel, run: Attached) -> None:
    if not all(output.isfinite().all() for output in artifact.outputs(model, run.probe())):
        raise DivergedError(
            "The outputs of what comes of the runs are not finite numbers.", hint="Give smaller --weights."
        )


def _like(place: Tensor, values: Tensor) -> Tensor:
    kept = values.to(place.dtype).contiguous()
    return torch.nn.Parameter(kept, requires_grad=False) if isinstance(place, torch.nn.Parameter) else kept
