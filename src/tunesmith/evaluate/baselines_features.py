"""What the backbone's features tell before any training: the nearest class, and the nearest training rows.

Features f [rows, hidden] have the mean of the training rows taken off and are divided by their length, as those of
many backbones all lie in one narrow cone: u = (f - m) / |f - m|. A cosine is then a product of two u.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.evaluate.baselines_ground import Ground, Missing, Outcome, Told, Which

NEIGHBOURS = (1, 3, 5, 15, 50)
USUAL = 5
CHUNK = 1024
"""Rows whose cosines with all training rows are held at once."""


def nearest_mean(ground: Ground) -> Outcome:
    """The class whose mean of u over the training rows is nearest (Euclid's distance)."""
    if why := ground.lacks("class", "rows"):
        return Missing("nearest_mean", why)
    train, asked = _units(ground, "train", "held out")
    answers = nearest_class(asked, train, ground.truths("train"))
    remark = "nearest mean of a class, of features before training"
    return Told("nearest_mean", ground.every, [answers], 0, len(train), remark, ("train", "held out"))


def neighbours(ground: Ground) -> Outcome:
    """The class most of the k most similar training rows have, or the mean of their numbers (cosine)."""
    if why := ground.lacks("answer", "rows"):
        return Missing("neighbours", why)
    apart: tuple[Which, ...] = () if ground.validation is None else ("validation",)
    train, asked, *others = _units(ground, "train", "held out", *apart)
    truths, classes = ground.truths("train"), len(ground.labels)
    known = [k for k in NEIGHBOURS if k <= len(train)]
    near = [nearest(one, train, known[-1]) for one in others]
    k, how = ground.chosen(known, min(USUAL, known[-1]), lambda k: agreed(truths[near[0][:, :k]], classes))
    answers = agreed(truths[nearest(asked, train, k)], classes)
    remark = f"k = {k}, {how}; cosine of features before training"
    return Told("neighbours", ground.every, [answers], 0, len(train), remark, ("train", "held out", *apart))


def units(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """u [rows, hidden] of features [rows, hidden] and the training rows' mean [hidden]."""
    moved = features.astype(np.float64) - mean
    found: np.ndarray = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)
    return found


def nearest_class(asked: np.ndarray, known: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """The number of the class with the nearest mean: of `asked` [rows, hidden], from known rows and their classes."""
    classes = np.unique(truths)
    means = np.stack([known[truths == one].mean(axis=0) for one in classes])
    # |a - m|^2 without the square of a, which is the same for all classes.
    found: np.ndarray = classes[((means**2).sum(axis=1) - 2 * asked @ means.T).argmin(axis=1)]
    return found


def nearest(asked: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """The places of the k known rows [known, hidden] most similar to each asked one, the most similar first [asked, k].
    Both have length 1.
    """
    found = []
    for start in range(0, len(asked), CHUNK):
        cosines = asked[start : start + CHUNK] @ known.T
        near = np.sort(np.argpartition(-cosines, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(cosines, near, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(near, order, axis=1))
    return np.concatenate(found)


def agreed(answers: np.ndarray, classes: int) -> np.ndarray:
    """What neighbours say together [rows] of their answers [rows, k]: the most frequent class, the first of equals;
    with 0 classes the mean.
    """
    if not classes:
        means: np.ndarray = answers.mean(axis=1, dtype=np.float64)
        return means
    votes = np.zeros((len(answers), classes), dtype=np.int64)
    np.add.at(votes, (np.arange(len(answers))[:, None], answers), 1)
    found: np.ndarray = votes.argmax(axis=1)
    return found


def _units(ground: Ground, *which: Which) -> Sequence[np.ndarray]:
    mean = ground.features("train").mean(axis=0, dtype=np.float64)
    return [units(ground.features(one), mean) for one in which]
