"""No text becomes markup."""

from __future__ import annotations

import json

import pytest

from tests.report.sample import HOSTILE
from tunesmith.report.markup import Markup, data, escape, join, raw, tag


def test_a_child_and_an_attribute_are_escaped() -> None:
    assert tag("p", "1 < 2", title='"&') == '<p title="&quot;&amp;">1 &lt; 2</p>'


def test_markup_is_escaped_once() -> None:
    assert tag("p", tag("b", "<"), join(["<", Markup("<i>")])) == "<p><b>&lt;</b>&lt;\n<i></p>"
    assert escape(7) == "7"


def test_names_of_attributes() -> None:
    assert tag("meta", http_equiv="x", hidden=True, class_=None, id=False) == '<meta http-equiv="x" hidden>'


@pytest.mark.parametrize("text", [*HOSTILE, "\u2028\u2029", "<!-- <script>"])
def test_a_block_of_data_gives_back_the_text_and_cannot_be_ended_by_it(text: str) -> None:
    block = data({"text": text})
    inside = block.removeprefix('<script type="application/json">').removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(inside)
    assert json.loads(inside) == {"text": text}


def test_what_is_no_number_becomes_null() -> None:
    assert "[1.5,null,[null]]" in data([1.5, float("nan"), (float("inf"),)])


def test_raw_text_may_not_close_its_element() -> None:
    with pytest.raises(AssertionError, match="closes it"):
        raw("style", "a </STYLE>")
