"""Classification of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PrivateAttr, field_validator
from torch import Tensor

from tunesmith.core import column
from tunesmith.core.column import Column, Row
from tunesmith.core.errors import ModelError
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Panel, Tokens
from tunesmith.core.part import Reader, Task
from tunesmith.core.rows import Rows, each
from tunesmith.core.step import Batch, Step
from tunesmith.tasks import classes, image_files
from tunesmith.tasks.image_changes import LARGEST, Change, changed

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

IMAGE_NAMES = ("image", "path", "file", "image_path", "file_name", "filename", "picture", "photo")
LABEL_NAMES = ("label", "class", "category", "target", "tag")
WHOLE = 0.98
MUCH = 0.7
"""The shares of an image's area from which it counts as seen whole, and below which its loss is warned of."""


class ClassifyImage(Task):
    """Give an image one class out of several.

    Formula: p(y | x) = softmax(head(backbone(x))), loss -log p(y | x).
    Symbols: x the image as the backbone's own processor makes it: resized, cropped and normalised as in pre-training; y
    the class. Shapes: x [batch, channels, height, width], logits [batch, classes].
    Paper: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", 2021,
    section 3.2. The head is transformers' own. Shifts with a padded edge and mirror images are those of He et al.,
    "Deep Residual Learning for Image Recognition", 2016, section 4.2; they pad with zeros, we with the edge. No change
    is made unless the recipe asks for it: a mirrored digit or arrow is of another class, or of none.
    """

    metric: ClassVar[str] = "accuracy"
    defines: ClassVar[Mapping[str, str]] = classes.DEFINES
    auto_classes: ClassVar[tuple[str, ...]] = ("AutoModelForImageClassification",)
    reads: ClassVar[Literal["text", "images"]] = "images"

    image: str | None = None
    """Column of the images' paths, from the folder of the rows' file on; found among the usual names where not given.
    """
    label: str | None = None
    """Column of the class; found among the usual names where not given."""
    augment: dict[Change, float] = Field(default_factory=dict)
    """Changes of training images, drawn anew in every epoch: `flip` with its probability, `shift` and `brightness` with
    the largest share by which they move an image or its values; none where not given.
    """
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """`balanced` weighs every class by rows / (classes * rows of the class); or a weight a class (others 1)."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share e of the target spread evenly over the classes."""

    _classes: list[str] = PrivateAttr(default_factory=list)
    _shares: list[float] = PrivateAttr(default_factory=list)
    _weights: Tensor | None = PrivateAttr(default=None)

    @field_validator("augment")
    @classmethod
    def _possible(cls, strengths: dict[Change, float]) -> dict[Change, float]:
        for name, strength in strengths.items():
            if not 0 < strength <= LARGEST[name]:
                raise ValueError(f"{name} is {strength:g}: it must be above 0 and at most {LARGEST[name]:g}")
        return strengths

    @classmethod
    def suits(cls, names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any] | None:
        """A column named like an image whose values mostly end as files of images do, and one named like a class."""
        lower = {name.lower(): name for name in names}
        image = next((lower[name] for name in IMAGE_NAMES if name in lower), None)
        label = next((lower[name] for name in LABEL_NAMES if name in lower), None)
        if image is None or label is None:
            return None
        files = sum(str(row.get(image)).lower().endswith(column.IMAGE_ENDINGS) for row in rows)
        return {"image": image, "label": label} if 2 * files > len(rows) else None

    def columns(self) -> list[Column]:
        """Image and class."""
        return [
            Column("image", self.image, IMAGE_NAMES, image_files.checked, path=True),
            Column("label", self.label, LABEL_NAMES, column.label, target=True, classes=True),
        ]

    def learn(self, rows: Iterable[Row]) -> None:
        """Learn the classes, in the order of their names, how frequent each is, and their weights."""
        self._classes, self._shares = classes.counted([row["label"]] for row in rows)
        self._weights = classes.weigh(self.class_weights, self._classes, self._shares)

    def adopt(self, config: Any, rows: Iterable[Row]) -> None:
        """The classes in the order of the head; from rows how frequent each is."""
        self._classes = classes.of_head(config)
        self._shares = classes.shares(([row["label"]] for row in rows), self._classes)

    def head(self) -> dict[str, Any]:
        """One output a class, with the classes' names."""
        return classes.head(self._classes)

    def arrange(self, rows: Rows, tokenizer: Reader, limit: int) -> Rows:
        """The rows as they are, once it was said what becomes of the images: their size, what is converted, what is cut
        off. A processor that gives images of several sizes, which make no batch, raises ModelError.
        """
        looks = {row["image"]: image_files.look(row["image"]) for row in each(rows)}
        mode = image_files.MODES[image_files.channels_of(tokenizer)]
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in image_files.kinds(looks, mode).items())
        if kinds:
            note(f"Images of the training split that are not {mode} are converted to it: {kinds}.")
        moving = [path for path, look in looks.items() if look.moving]
        if moving:
            warn(f"{len(moving):,} images have several frames, such as {moving[0]}: only the first is seen.")
        _say_cuts(looks, tokenizer)
        return rows

    def encode(self, rows: Sequence[Row], tokenizer: Reader, limit: int) -> list[dict[str, Any]]:
        """The path of the image, which is opened with its batch, and the number of the class."""
        examples: list[dict[str, Any]] = [{"image": row["image"], "cut": False} for row in rows]
        if rows and "label" in rows[0]:
            for example, target in zip(examples, self.truths(rows).tolist(), strict=True):
                example["target"] = target
        return examples

    def size(self, example: Mapping[str, Any]) -> int:
        """1: images are all alike."""
        return 1

    def seen(self, example: Mapping[str, Any], tokenizer: Reader) -> list[Tokens]:
        """The image's name and kind, and the size in which the model sees it."""
        look = image_files.look(example["image"])
        (height, width), share = image_files.let_through(tokenizer, look.width, look.height)
        told = [Path(example["image"]).name, f"{look.width} x {look.height} pixels, {look.mode}"]
        told.append(f"seen as {width} x {height}" + (f", {share:.0%} of its area" if share < WHOLE else ""))
        return [Tokens("image", told, [False] * len(told))]

    def collate(self, examples: Sequence[Mapping[str, Any]], tokenizer: BaseImageProcessor) -> Batch:
        """Pixels [batch, channels, height, width], changed where they train; targets [batch]."""
        channels = image_files.channels_of(tokenizer)
        images = [image_files.opened(example["image"], channels) for example in examples]
        images = [
            changed(image, self.augment, example["seed"]) if "seed" in example else image
            for image, example in zip(images, examples, strict=True)
        ]
        pixels = tokenizer(images=images, return_tensors="pt")["pixel_values"]
        known = "target" in examples[0]
        fields = {"targets": torch.tensor([example["target"] for example in examples])} if known else {}
        rows = [example.get("row", position) for position, example in enumerate(examples)]
        return Batch({"pixel_values": pixels}, fields, rows)

    def targets(self, batch: Batch) -> float:
        """Examples, or the sum of their weights where classes are weighted."""
        if self._weights is None:
            return float(len(batch.fields["targets"]))
        return float(self._weights[batch.fields["targets"].cpu()].sum())

    def loss(self, step: Step) -> Tensor:
        """Summed cross-entropy."""
        logits, targets = step.outputs.logits, step.batch.fields["targets"]
        weights = None if self._weights is None else self._weights.to(logits.device)
        return classes.cross_entropy(logits, targets, weights, self.label_smoothing)

    def decode(self, step: Step, tokenizer: Reader) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Numbers of classes [batch], and the likeliest classes by name."""
        scores = step.outputs.logits.float().softmax(dim=-1).cpu().numpy()  # [batch, classes]
        answers = scores.argmax(axis=-1)
        lines = [
            {
                "prediction": self._classes[answer],
                "confidence": round(float(score[answer]), 6),
                "scores": classes.likeliest(score, self._classes),
            }
            for answer, score in zip(answers, scores, strict=True)
        ]
        return answers, lines

    def reread(self, lines: Sequence[Row]) -> np.ndarray:
        """Numbers of classes [rows]."""
        return self.truths({"label": line["prediction"]} for line in lines)

    def scores(self, step: Step) -> Tensor:
        """The logits [batch, classes]."""
        logits: Tensor = step.outputs.logits
        return logits

    def truths(self, rows: Iterable[Row]) -> np.ndarray:
        """Numbers of the rows' classes [rows]; an unknown class raises DataError."""
        number = {name: position for position, name in enumerate(self._classes)}
        try:
            return np.array([number[row["label"]] for row in rows], dtype=np.int64)
        except KeyError as error:
            raise classes.unknown(str(error.args[0]), number) from None

    def metrics(self, truths: np.ndarray, answers: np.ndarray) -> dict[str, float]:
        """Accuracy, F1 averaged over classes, and Matthews' coefficient."""
        return classes.metrics(truths, answers, len(self._classes))

    def constant(self) -> tuple[str, Any]:
        """The most frequent class of the training split."""
        return "most frequent class", int(np.argmax(self._shares))

    def panels(self, truths: np.ndarray, answers: np.ndarray) -> list[Panel]:
        """Precision, recall and F1 a class, and the confusion matrix."""
        return classes.panels(truths, answers, self._classes)

    def mistakes(self, truths: np.ndarray, answers: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """Wrong answers, the most confident first."""
        return classes.worst(truths != answers, confidences)

    def state(self) -> dict[str, Any]:
        """The classes and how frequent they are."""
        return {"classes": self._classes, "shares": self._shares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back the classes."""
        self._classes, self._shares = list(state["classes"]), list(state["shares"])
        self._weights = classes.weigh(self.class_weights, self._classes, self._shares)


def _say_cuts(looks: Mapping[str, image_files.Look], processor: Reader) -> None:
    """Say to what size images are brought and how many lose an edge; several sizes raise ModelError."""
    tried: dict[float, tuple[tuple[int, int], float]] = {}
    shares = {}
    for path, look in looks.items():
        form = round(look.width / look.height, 2)
        if form not in tried:
            tried[form] = image_files.let_through(processor, look.width, look.height)
        shares[path] = tried[form][1]
    sizes = sorted({size for size, _ in tried.values()})
    if len(sizes) > 1:
        told = " and ".join(f"{width} x {height}" for height, width in sizes[:3])
        raise ModelError(
            f"The image processor of this model gives images of several sizes, such as {told}: they make no batch.",
            hint="Give it one size in preprocessor_config.json, such as size: {height: 224, width: 224}.",
        )
    note(f"Images are seen as {sizes[0][1]} x {sizes[0][0]} pixels.")
    cut = [path for path, share in shares.items() if share < WHOLE]
    if cut:
        least = min(cut, key=shares.__getitem__)
        say = warn if shares[least] < MUCH else note
        say(
            f"{len(cut):,} of {len(looks):,} training images lose an edge to the image processor, which crops them; of "
            f"{least} {shares[least]:.0%} is seen."
        )
