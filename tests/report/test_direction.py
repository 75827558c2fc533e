"""Whether more of a figure is better."""

from __future__ import annotations

from tunesmith.report.direction import HIGHER, LOWER, sign


def test_by_the_words_of_a_name() -> None:
    assert [sign(name) for name in ("accuracy_at_80", "macro_f1", "rougeL", "examples_per_second")] == [1] * 4
    assert [sign(name) for name in ("fpr_at_95", "adaptive_ece", "seconds_of_updates", "byte_perplexity")] == [-1] * 4
    assert [sign(name) for name in ("temperature", "change_of_matrices", "loudness")] == [0] * 3
    assert not HIGHER & LOWER
