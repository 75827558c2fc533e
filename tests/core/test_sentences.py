"""Sentences of settings: what pydantic itself reads from a class."""

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.core import sentences


class Plain(BaseModel):
    """No setting is told here."""

    rate: float = 0.5
    """How fast,
    and over two lines.
    """
    bare: int = 1
    given: int = Field(2, description="Given by hand.")
    """Not this."""


class Own(Plain):
    """Another class."""

    bare: int = 3
    """Now told."""
    steps: int | None = None
    """How many."""


class Reference(Plain):
    """The same, read by pydantic."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    bare: int = 3
    """Now told."""
    steps: int | None = None
    """How many."""


def test_sentences_are_those_that_stand_below() -> None:
    found = {name: info.description for name, info in sentences.told(Own).items()}
    assert found == {
        "rate": "How fast,\nand over two lines.",
        "bare": "Now told.",
        "given": "Given by hand.",
        "steps": "How many.",
    }
    assert Own.model_fields["steps"].description == "How many."


def test_they_are_what_pydantic_reads() -> None:
    expected = {name: info.description for name, info in Reference.model_fields.items() if name in ("bare", "steps")}
    found = sentences.told(Own)
    assert expected == {name: found[name].description for name in expected}


def test_a_setting_without_a_sentence_has_none() -> None:
    assert sentences.told(Plain)["bare"].description is None
