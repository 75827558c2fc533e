"""What a setting says of itself: the sentence below it in its class."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@cache
def told(settings: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of a class by name, each with its sentence as `description`.

    The sentences are read from the source of the class when they are first asked for: to read those of every class at
    every start would take a tenth of it.
    """
    found: dict[str, str] = {}
    for one in reversed(settings.__mro__):
        if issubclass(one, BaseModel) and one is not BaseModel:
            found |= _sentences(one)
    for name, info in settings.model_fields.items():
        info.description = info.description or found.get(name)
    return dict(settings.model_fields)


def _sentences(settings: type[BaseModel]) -> dict[str, str]:
    parsed = ast.parse(textwrap.dedent(inspect.getsource(settings))).body[0]
    assert isinstance(parsed, ast.ClassDef)
    return {
        setting.target.id: inspect.cleandoc(text.value.value)
        for setting, text in pairwise(parsed.body)
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }
