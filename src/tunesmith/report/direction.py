"""Whether more of a figure is better, by the words of its name."""

from __future__ import annotations

LOWER = {
    "aurc", "bits", "brier", "bytes", "changed", "ece", "error", "failed", "fpr", "latency", "loss", "memory", "nll",
    "parameters", "perplexity", "rmse", "seconds",
}  # fmt: skip
HIGHER = {
    "accuracy", "auroc", "bleu", "chrf", "exact", "f1", "matthews", "mrr", "pearson", "precision", "probe", "r2",
    "recall", "retention", "right", "rouge1", "rouge2", "rougel", "second", "similarity", "spearman",
}  # fmt: skip


def sign(name: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither is known.

    >>> sign("macro_f1"), sign("word_perplexity"), sign("examples_per_second"), sign("change_of_matrices")
    (1, -1, 1, 0)
    """
    words = set(name.lower().replace("_", " ").split())
    if words & LOWER:
        return -1
    return 1 if words & HIGHER else 0
