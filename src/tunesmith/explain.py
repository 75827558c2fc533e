"""What a part does and which settings it has; and what a recipe's run does, step by step."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tunesmith import stages
from tunesmith.core import registry, sentences
from tunesmith.core.errors import RecipeError, nearest
from tunesmith.core.part import Part
from tunesmith.data.settings import DataSettings
from tunesmith.joint import Joint
from tunesmith.models.settings import ModelSettings
from tunesmith.recipe import Recipe
from tunesmith.train.settings import TrainSettings
from tunesmith.train.speed import SpeedSettings

SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "speed": SpeedSettings,
}

STEPS = {
    "modify": "the model is changed, once",
    "setup": "before step 0",
    "batches": "the stream of updates is wrapped",
    "loss": "every micro-batch: a term of the loss",
    "after_step": "after every optimizer step",
    "after_eval": "after every evaluation on the validation split",
}


@dataclass(frozen=True)
class Setting:
    """One setting of a part."""

    name: str
    type: str
    default: str
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """A title, a text, the settings of a part, or the steps of a loop with the parts that act at each."""

    title: str
    text: str = ""
    settings: list[Setting] = field(default_factory=list)
    steps: list[tuple[str, str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def explain(name: str) -> Explanation:
    """Explain a part, a section of the recipe, or a recipe file. An unknown name raises RecipeError."""
    if name.endswith((".yaml", ".yml")):
        found = stages.read(name)
        return of_recipe(found) if isinstance(found, Joint) else of_stages([of_recipe(stage) for stage in found])
    if name in SECTIONS:
        return of_settings(f"section {name}", SECTIONS[name])
    for kind, word in registry.KINDS.items():
        if name in registry.names(kind):
            return of_settings(f"{word} {name}", registry.load(kind, name))
    known = [*SECTIONS, *(part for kind in registry.KINDS for part in registry.names(kind))]
    raise RecipeError(f"Nothing is called '{name}'. {nearest(name, known)}")


def of_stages(found: list[Explanation]) -> Explanation:
    """One explanation of all stages of a recipe, numbered where there are several."""
    if len(found) == 1:
        return found[0]
    steps = [(f"{number}. {hook}", when, who) for number, one in enumerate(found, 1) for hook, when, who in one.steps]
    return Explanation(", then ".join(one.title for one in found), "\n\n".join(one.text for one in found), [], steps)


def of_settings(title: str, settings: type[BaseModel]) -> Explanation:
    """The docstring and the settings of a part or a section."""
    return Explanation(title, inspect.getdoc(settings) or "", settings_of(settings))


def settings_of(settings: type[BaseModel]) -> list[Setting]:
    """Every setting: name, type, default, sentence; those of a group under the group's name."""
    return [
        Setting(
            name, _type(info.annotation), "" if info.is_required() else repr(info.get_default()), info.description or ""
        )
        for name, info in fields_of(settings)
    ]


def fields_of(settings: type[BaseModel], before: str = "") -> list[tuple[str, FieldInfo]]:
    """Settings by name, those of a group one by one: `sampling.beams`."""
    found = []
    for name, info in sentences.told(settings).items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            found += fields_of(group, f"{before}{name}.")
        else:
            found.append((before + name, info))
    return found


def of_recipe(stage: Recipe | Joint) -> Explanation:
    """The loop's hooks in order, each with the parts of the recipe that act there."""
    parts = (stage.first if isinstance(stage, Joint) else stage).parts
    steps = []
    for hook, sentence in STEPS.items():
        acting = [part.word() for part in parts if getattr(type(part), hook) is not getattr(Part, hook)]
        steps.append((hook, sentence, ", ".join(acting) or "-"))
    return Explanation(stage.title, stage.text(), [], steps)


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
