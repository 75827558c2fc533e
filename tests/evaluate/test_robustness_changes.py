"""Changes of texts: none at strength 0, more at a greater strength, and nothing that a reader could not read."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from tunesmith.evaluate.robustness_changes import CHANGES, Edit, applied, changed, edits, moved

TEXT = (
    "Hello, I am Anna from London. I do not want the 85 lamps that you'll send, they can't be \"Mended\" without a "
    "carpenter, and nobody answered my letter yesterday."
)
GRADED = [name for name, change in CHANGES.items() if not change.whole]
HARD = {
    "emoji": "Wonderful 👩‍👩‍👧‍👦 lamps 🔥🔥 thanks👍🏽 everyone",
    "right to left": "אני רוצה לבטל את ההזמנה שלי בבקשה مرحبا بالعالم",
    "combining": "cafe\u0301s re\u0301sume\u0301 nai\u0308vete\u0301 e\u0301\u0301\u0301 नमस्ते दुनिया",
    "html": '<p class="letter">My <b>table</b> &amp; chairs</p> <br/> https://example.org/tables a.b@example.org',
    "very long word": "a" * 100_000,
    "very long other word": "<" * 5000 + "@" * 5000 + "!" * 5000 + "x",
    "no letters": "?!… 12 34",
    "one letter": "I",
    "Chinese": "我想取消我的订单谢谢",
    "blanks": "  two  blanks \t and\nlines  ",
    "words joined by signs": "re-order #lampshade @carpenter don’t",
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_acts_and_strength_0_changes_nothing(name: str) -> None:
    assert changed(name, TEXT, 1.0, Random(0)) != TEXT
    assert changed(name, TEXT, 0.0, Random(0)) == TEXT


@pytest.mark.parametrize("name", CHANGES)
def test_one_seed_gives_one_text(name: str) -> None:
    assert changed(name, TEXT, 0.5, Random(7)) == changed(name, TEXT, 0.5, Random(7))


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("text", HARD.values(), ids=list(HARD))
def test_any_text_survives(name: str, text: str) -> None:
    new = changed(name, text, 1.0, Random(3))
    new.encode("utf-8")
    assert new.strip()
    # Nothing is taken from a letter, nor is anything put between a letter and its marks.
    for marks in (
        "e\u0301",
        "i\u0308",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "न",
        "a.b@example.org",
        '<p class="letter">',
        "&amp;",
        "#lampshade",
    ):
        assert marks not in text or marks in new, (name, new[:200])


@pytest.mark.parametrize("name", GRADED)
def test_a_greater_strength_changes_the_same_places_and_more(name: str) -> None:
    change = CHANGES[name]
    found = [set(edits(change, TEXT, strength, Random(5))) for strength in (0.0, 0.1, 0.3, 0.5, 1.0)]
    assert all(weak <= strong for weak, strong in pairwise(found))
    assert len(found[-1]) == len(change.find(TEXT)) > len(found[1])


def test_the_share_of_places_is_the_strength_on_average() -> None:
    text = "three words changed"  # 3 places: 0.9 of them at a strength of 0.3
    counts = [len(edits(CHANGES["dropped"], text, 0.3, Random(seed))) for seed in range(2000)]
    assert set(counts) == {0, 1}
    assert sum(counts) / 2000 == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("name", ["keyboard", "swapped", "dropped", "doubled"])
def test_first_and_last_letters_and_short_words_stay(name: str) -> None:
    for seed in range(50):
        new = changed(name, "Please cancel the order now", 1.0, Random(seed)).split()
        assert [new[2], new[4]] == ["the", "now"]
        for word, other in zip(["Please", "cancel", "order"], [new[0], new[1], new[3]], strict=True):
            assert (other[0], other[-1]) == (word[0], word[-1]) and other != word


def test_letters_by_hand() -> None:
    # A word of four letters has two inner ones.
    assert {changed("dropped", "Lamp", 1.0, Random(seed)) for seed in range(20)} == {"Lmp", "Lap"}
    assert {changed("doubled", "Lamp", 1.0, Random(seed)) for seed in range(20)} == {"Laamp", "Lammp"}
    assert changed("swapped", "Lamp", 1.0, Random(0)) == "Lmap"
    # Beside a stands s, beside m only n.
    assert {changed("keyboard", "LAMP", 1.0, Random(seed)) for seed in range(20)} == {"LSMP", "LANP"}
    # None differs from its neighbour: there is nothing to swap.
    assert changed("swapped", "Loop", 1.0, Random(0)) == "Loop"
    assert changed("look_alikes", "tunt", 1.0, Random(0)) == "tunt"
    new = changed("look_alikes", "lamp", 1.0, Random(0))
    assert new != "lamp" and new.encode("ascii", "replace").decode().count("?") == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("lower", "Dear BEN, it's Élan", "dear ben, it's élan"),
        ("upper", "Dear Ben, it's 2nd", "DEAR BEN, IT'S 2nd"),
        ("heads", "a lamp, don't", "A Lamp, Don't"),
        ("wide", "a b  c", "a  b  c"),
        ("joined", "wooden table is a long wooden thing", "woodentable is a longwoodenthing"),
        ("unclosed", "Where is it?! ", "Where is it "),
        ("unclosed", "???", "???"),
        ("closed", "Where is it? ", "Where is it?? "),
        ("closed", "Thanks", "Thanks."),
        ("closed", "Thanks.", "Thanks..."),
        ("short_forms", "I do not know, it is late and I am here", "I don't know, it's late and I'm here"),
        ("short_forms", "Yes I am. Here it is.", "Yes I am. Here it is."),
        ("long_forms", "I don't know, I can’t, you're late", "I do not know, I cannot, you are late"),
        ("long_forms", "Don't you know? He's late.", "Don't you know? He's late."),
        ("names", "Anna and Maria's Anna in Berlin", "Maria and Sofia's Maria in Madrid"),
        ("names", "Annabel", "Annabel"),
        ("numbers", "60 of the 85 euros, 85", "61 of the 84 euros, 84"),
        ("numbers", "at 10:30, 3 chairs, 12/5, 4 out of 10, 99 out of 100, 1.25, B12", None),
    ],
)
def test_changes_by_hand(name: str, text: str, expected: str | None) -> None:
    assert changed(name, text, 1.0, Random(0)) == (text if expected is None else expected)


def test_a_further_sentence_begins_behind_a_full_stop() -> None:
    assert changed("sentence", "It came", 1.0, Random(0)).startswith("It came. ")
    assert changed("sentence", "It came?", 1.0, Random(0)).startswith("It came? ")


def test_what_is_kept_stays_and_is_found_again() -> None:
    text = "The Wooden table Stands beside the Long window"
    kept = (text.index("table"), text.index("table") + 5)
    for name in GRADED:
        for seed in range(20):
            found = edits(CHANGES[name], text, 1.0, Random(seed), [kept])
            start, end = moved(found, kept[0]), moved(found, kept[1])
            assert found and applied(text, found)[start:end] == "table", name


def test_places_of_edits_by_hand() -> None:
    found = [Edit(0, 1, "xyz"), Edit(4, 6, "")]
    assert applied("abcdefgh", found) == "xyzbcdgh"
    assert [moved(found, place) for place in (0, 1, 3, 6, 8)] == [0, 3, 5, 6, 8]


def test_kept_places_may_lie_in_each_other() -> None:
    text = "wooden tables carry heavy books"
    assert edits(CHANGES["upper"], text, 1.0, Random(0), [(0, 19), (2, 4)]) == [
        Edit(20, 25, "HEAVY"),
        Edit(26, 31, "BOOKS"),
    ]
