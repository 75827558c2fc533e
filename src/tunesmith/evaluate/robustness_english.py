"""What the changes of texts know of English: short forms, negation, names, and sentences that belong to nothing.

Every table holds only what can be changed without a look at the grammar of the whole sentence: "he's" is left alone (he
is, or he has), and so is a question that would have to be turned round ("Don't you have it?").
"""

from __future__ import annotations

import re
from random import Random

SENTENCES = (
    "The sky was grey this morning.",
    "A bird is sitting on the roof.",
    "There are seven days in a week.",
    "The river runs through the town.",
    "Somebody is playing the piano next door.",
    "The kettle is on the stove.",
    "Our street has three trees.",
    "The moon was up early yesterday.",
)
"""None says anything of what a text is about."""

NAMES = (
    ("Anna", "Maria", "Sofia", "Laura", "Julia", "Emma", "Clara", "Nadia", "Elena", "Ingrid", "Fatima", "Priya"),
    ("Thomas", "Peter", "Paul", "David", "Daniel", "Martin", "Simon", "Jonas", "Omar", "Ivan", "Pedro", "Kenji", "Tom"),
    ("London", "Paris", "Berlin", "Madrid", "Vienna", "Dublin", "Lisbon", "Oslo", "Prague", "Warsaw", "Athens"),
    ("Munich", "Hamburg", "Manchester", "Bristol", "Leeds", "Glasgow", "Toronto", "Chicago", "Boston", "Seattle"),
)
"""Rings of names: each stands in for the one before it, so that a name is changed alike wherever it stands. Names that
are words too (Rose, Mark, Will) are in none.
"""
NEXT = {name: ring[(place + 1) % len(ring)] for ring in NAMES for place, name in enumerate(ring)}
NAME = re.compile(rf"\b(?:{'|'.join(NEXT)})\b")

_FUNCTION = """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can cannot could did do does doing down during each either else ever every few for from further had has have
    having he her here hers him his how i if in into is it its just may me might more most much must my neither
    never no nobody none nor not nothing now of off on once only or other our ours out over own same shall she
    should since so some such than that the their theirs them then there these they this those through to too under
    until up us very was we were what when where whether which while who whom whose why will with within without
    would yet you your yours
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())
"""Words that carry the sentence, and words of negation: neither is put in the place of another word."""

_SUBJECT = r"(?:I|you|he|she|it|we|they|this|that|these|those|there|the|a|my|your|our|any\w*|some\w*)"
_STEM = r"(?:do|does|did|is|are|was|were|has|have|had|could|would|should|must|need)"
SHORT = re.compile(
    rf"\b(?:(?:{_STEM}n|can|won)['’]t\b(?! {_SUBJECT}\b)"
    r"|I['’]m|(?:you|we|they)['’]re|(?:I|you|we|they|he|she|it)['’]ll|(?:I|you|we|they)['’]ve)\b",
    re.IGNORECASE,
)
LONG = re.compile(
    rf"\b(?:(?:{_STEM}|can|will) not|cannot|(?:I am|(?:you|we|they) are|(?:I|you|we|they|he|she|it) will"
    r"|(?:it|that|there|what|where) is)(?= [a-z]))\b",
    re.IGNORECASE,
)
_LENGTHENED = {"m": "am", "re": "are", "ll": "will", "ve": "have"}
_SHORTENED = {word: end for end, word in _LENGTHENED.items()} | {"is": "s"}
_ODD = {"can": "can't", "will": "won't"}

AUXILIARY = r"(?:am|is|are|was|were|can|could|will|would|should|must|do|does|did|has|have|had)"
_DENIED = re.compile(rf"\b(?:({AUXILIARY})(?: not|n['’]t)|(can)(?:not|['’]t)|(wo)n['’]t)\b", re.IGNORECASE)
_DENIABLE = re.compile(
    rf"\b(?:(?:I['’]m|\w+['’](?:re|ve|ll)|(?:it|that|he|she)['’]s)(?= \w)"
    r"|(?:am|is|are|was|were|can|could|will|would|should|must|(?:has|have|had)(?= (?:been|got|had|made|paid|\w+ed)\b))"
    rf"(?= \w)(?! {_SUBJECT}\b))",
    re.IGNORECASE,
)
_WANTED = re.compile(r"\b(I|we|you|they) (want|need|like|love|wish|think|know|get|see|feel|have)\b", re.IGNORECASE)


def lengthened(short: str) -> str:
    """The long form of a match of SHORT.

    >>> lengthened("Don't"), lengthened("can't"), lengthened("WON’T"), lengthened("I'm")
    ('Do not', 'cannot', 'WILL NOT', 'I am')
    """
    word, end = re.split("['’]", short)
    if end.lower() != "t":
        return f"{word} {_like(_LENGTHENED[end.lower()], end)}"
    if word.lower() == "can":
        return f"{word}{_like('not', end)}"
    if word.lower() == "won":
        return f"{_like('will', word) if end.isupper() else word[0] + 'ill'} {_like('not', end)}"
    return f"{word[:-1]} {_like('not', end)}"


def shortened(long: str) -> str:
    """The short form of a match of LONG.

    >>> shortened("Do not"), shortened("Cannot"), shortened("will not"), shortened("I AM")
    ("Don't", "Can't", "won't", "I'M")
    """
    first, _, second = long.partition(" ")
    if not second:  # cannot
        return f"{first[:3]}'{_like('t', first[3:])}"
    if second.lower() != "not":
        return f"{first}'{_like(_SHORTENED[second.lower()], second)}"
    odd = _ODD.get(first.lower())
    if odd is None:
        return f"{first}{_like('n', second)}'{_like('t', second)}"
    return first[0] + _like(odd[1:], second)


def renamed(name: str, draw: Random) -> str:
    """Another name, the same one wherever this one stands."""
    return NEXT[name]


def negated(text: str) -> str | None:
    """The text with one statement turned into its opposite: the first "not" taken away, or one put in; None where no
    place for it is found.

    >>> negated("It is broken."), negated("I don't want it."), negated("I want it."), negated("Where?")
    ('It is not broken.', 'I do want it.', 'I do not want it.', None)
    """
    found = _DENIED.search(text)
    if found:
        word = found[1] or found[2] or ("Will" if found[3].istitle() else "will")
        return text[: found.start()] + word + text[found.end() :]
    found = _DENIABLE.search(text)
    if found:
        return f"{text[: found.end()]} not{text[found.end() :]}"
    changed = _WANTED.sub(r"\1 do not \2", text, count=1)
    return None if changed == text else changed


def _like(word: str, model: str) -> str:
    """The word in capitals where the model is in capitals."""
    return word.upper() if model.isupper() else word
