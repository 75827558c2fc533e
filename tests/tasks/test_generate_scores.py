"""Scores of generated texts: by hand, equal to sacrebleu and rouge_score, and a corpus's from its texts' statistics."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from tunesmith.tasks.generate_scores import BLEU_COUNTS, COUNTS, corpus_bleu, corpus_chrf, scores, statistics, words

PIECES = ["oak", "table", "Tables", "the", "of", "3.5", "1,000", "isn't", "well-made", "(new)", "&amp;", "café", "",
          "a", "'x'", "\n", "木", "!", "...", "U.S.", "10-15", "<skipped>", "mid-\nline"]  # fmt: skip


def corpus(seed: int, count: int = 40, most: int = 3) -> tuple[list[str], list[tuple[str, ...]]]:
    """Texts and for each 1 to `most` references, some of them alike and some empty."""
    draw = random.Random(seed)
    texts, references = [], []
    for _ in range(count):
        base = [draw.choice(PIECES) for _ in range(draw.randrange(14))]
        near = [
            [one for one in base if draw.random() < 0.8] + [draw.choice(PIECES)] for _ in range(draw.randint(1, most))
        ]
        texts.append(" ".join(base))
        references.append(tuple(" ".join(one) for one in near))
    return texts, references


def together(texts: list[str], references: list[tuple[str, ...]]) -> np.ndarray:
    return np.stack([statistics(text, some) for text, some in zip(texts, references, strict=True)])


def streams(references: list[tuple[str, ...]]) -> list[list[str | None]]:
    """As sacrebleu takes several references: a list for each place, None where a text has fewer."""
    longest = max(map(len, references))
    return [[some[at] if at < len(some) else None for some in references] for at in range(longest)]


def test_by_hand() -> None:
    # Words: the oak table | the old oak table. All 3 words match, of 2 pairs 1 ("oak table"), the one triple does not.
    found = statistics("the oak table", ("the old oak table",))
    assert found[:BLEU_COUNTS].tolist() == [3, 4, 3, 1, 0, 0, 3, 2, 1, 0]
    # Precision and recall: of words 3/3 and 3/4, of pairs 1/2 and 1/3, of the subsequence 3/3 and 3/4.
    assert found[COUNTS:].tolist() == pytest.approx([6 / 7, 2 / 5, 6 / 7, 0.0])
    # Characters without white space: 11 in theoaktable, 14 in theoldoaktable, which holds all of the first one's.
    assert found[BLEU_COUNTS : BLEU_COUNTS + 3].tolist() == [11, 14, 11]
    # BLEU of the counts (2 of 3 words, 1 of 2 pairs) with c = 3, r = 4: the third order is smoothed to 1 / (2 * 1), and
    # the fourth, which has no n-gram, gives 0.
    assert corpus_bleu(found[:BLEU_COUNTS]) == 0.0
    longer = np.array([5, 5, 4, 2, 1, 0, 5, 4, 3, 2])
    expected = math.exp((math.log(4 / 5) + math.log(2 / 4) + math.log(1 / 3) + math.log(1 / (2 * 2))) / 4)
    assert corpus_bleu(longer) == pytest.approx(100 * expected)


def test_chrf_by_hand() -> None:
    # ab | abc: letters 2 of 2 and 2 of 3, pairs 1 of 1 and 1 of 2; the text has no longer n-grams.
    found = statistics("ab", ("abc",))[BLEU_COUNTS:COUNTS]
    assert found.reshape(6, 3)[:3].tolist() == [[2, 3, 2], [1, 2, 1], [0, 1, 0]]
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert corpus_chrf(found) == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert corpus_chrf(np.zeros(18)) == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_bleu_and_chrf_are_those_of_sacrebleu(seed: int) -> None:
    texts, references = corpus(seed)
    found = scores(together(texts, references))
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, streams(references)).score, rel=1e-12)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, streams(references)).score, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_rouge_is_that_of_rouge_score(seed: int) -> None:
    texts, references = corpus(seed)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for text, some in zip(texts, references, strict=True):
        expected = scorer.score_multi(some, text)
        found = statistics(text, some)[COUNTS:]
        assert found[:3].tolist() == pytest.approx([expected[f"rouge{kind}"].fmeasure for kind in "12L"])


def test_a_resampling_has_the_scores_of_its_own_corpus() -> None:
    texts, references = corpus(7)
    places = np.random.default_rng(0).integers(0, len(texts), len(texts)).tolist()
    found = scores(together(texts, references)[places])
    again = streams([references[place] for place in places])
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu([texts[place] for place in places], again).score)


def test_the_reference_itself_is_best() -> None:
    text = "We sand the oak table twice before we oil it."
    assert scores(together([text], [(text, "Another one.")])) == pytest.approx(
        {"bleu": 100, "chrf": 100, "rouge1": 1, "rouge2": 1, "rougeL": 1, "exact_match": 1}
    )


def test_nothing_said_scores_nothing() -> None:
    assert set(scores(together([""], [("a chair",)])).values()) == {0.0}
    assert all(math.isnan(value) for value in scores(np.zeros((0, COUNTS + 4))).values())


def test_exact_match_overlooks_white_space_at_the_ends_alone() -> None:
    for text, expected in ((" oak\n", 1.0), ("oak", 1.0), ("Oak", 0.0), ("o ak", 0.0)):
        assert statistics(text, ("ash", "oak "))[-1] == expected


def test_words_are_letters_and_digits() -> None:
    assert words("It's 10-15 cm, isn't IT? Café") == ["it", "s", "10", "15", "cm", "isn", "t", "it", "caf"]


def test_a_thousand_resamplings_take_little_time() -> None:
    found = together(*corpus(1, count=300, most=1))
    start = time.perf_counter()
    for _ in range(1000):
        scores(found)
    assert time.perf_counter() - start < 2
