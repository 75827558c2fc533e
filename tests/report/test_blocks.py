"""Tables, charts, facts."""

from __future__ import annotations

from tunesmith.core.panel import Heatmap, Marked, Table, Tokens
from tunesmith.report.blocks import SHOWN_ROWS, absent, chart, facts, folded, panel, table


def test_a_table_names_itself_its_columns_and_its_rows() -> None:
    written = table("Per <class>", ["class", "rows"], [["a", 1200], ["b", None]], "A note.")
    assert '<caption dir="auto">Per &lt;class&gt;</caption>' in written
    assert '<th scope="col" dir="auto" class="number">rows</th>' in written
    assert '<th scope="row" dir="auto">a</th>\n' not in written and '<th scope="row" dir="auto">a</th>' in written
    assert '<td class="number">1,200</td>' in written and '<td dir="auto"></td>' in written
    assert "A note." in written


def test_a_number_may_name_a_row() -> None:
    assert '<th scope="row" dir="auto">12</th>' in table("t", ["layer"], [[12]])


def test_a_very_long_table_is_cut_and_says_so() -> None:
    written = table("t", ["row"], [[str(number)] for number in range(SHOWN_ROWS + 5)])
    assert written.count("<tr>") == SHOWN_ROWS + 1 and "The first 1,000 of 1,005 rows." in written


def test_a_table_of_long_texts_takes_the_whole_width() -> None:
    assert 'class="card wide"' in table("t", ["text"], [["long " * 60]])
    cells = table("t", ["name", "how"], [["a" * 50, "b" * 50], ["a", "b" * 40]])
    assert cells.count('class="long"') == 1 and f'<td dir="auto" class="long">{"b" * 50}' in cells
    assert 'class="card"' in table("t", ["text"], [["short"]])


def test_a_chart_carries_its_data_and_a_name() -> None:
    written = chart("Title", {"data": [], "layout": {"height": 300}}, "A note.")
    assert 'role="img" aria-label="Title"' in written and '{"data":[],"layout":{"height":300}}' in written
    assert "tabindex" not in written
    assert 'tabindex="0"' in chart("Title", {"data": [], "layout": {"height": 900}})


def test_panels() -> None:
    assert "<table>" in panel(Table("t", ["a"], [[1]]))
    names = [str(number) for number in range(20)]
    assert 'class="card wide"' in panel(Heatmap("t", names, names, [[0.0] * 20] * 20))


def test_small_pieces() -> None:
    assert "<dt>seed</dt>" in facts({"seed": 0})
    assert "&lt;b&gt;</pre>" in folded("more", "<b>")
    assert "no data.json" in absent("data.json")


def test_tokens_that_carry_loss_are_marked_and_escaped() -> None:
    written = panel(Marked("Seen", ["line 2"], [[Tokens("input", ["<s>", "yes"], [False, True])]], "A note."))
    assert "<span>&lt;s&gt;</span>" in written and "<mark>yes</mark>" in written and "A note." in written
    again = Marked("Seen", ["line 2"], [[{"name": "input", "tokens": ["a"], "loss": [True]}]])  # type: ignore[list-item]
    assert "<mark>a</mark>" in panel(again)  # as it is read from a file
