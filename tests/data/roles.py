"""The roles that tests of this folder read."""

from __future__ import annotations

from tunesmith.core.column import Column, label, labels, number, text

TEXT = Column("text", None, ("text", "sentence"), text)
LABEL = Column("label", None, ("label", "intent"), label, target=True, classes=True)
SCORE = Column("score", None, ("score",), number, storage="number", target=True)
TAGS = Column("label", None, ("label",), labels, storage="texts", target=True, classes=True)
