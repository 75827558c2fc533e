"""Prompts that fit, likelihoods against transformers' own loss, and calibration by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith.evaluate import baselines_prompts as prompts
from tunesmith.evaluate import perplexity
from tunesmith.evaluate.baselines_prompts import Encoder, Wording
from tunesmith.models.builtin import tiny_configs, tiny_tokenizer

WORDS = ["good", "very bad", "a"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


def model(name: str) -> Any:
    torch.manual_seed(3)
    made = AutoModelForCausalLM.from_config(tiny_configs()[name]).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_a_likelihood_is_minus_the_loss_of_transformers(name: str, tokenizer: Any, monkeypatch: Any) -> None:
    made, encoder = model(name), Encoder(tokenizer, 100, WORDS)
    pairs = [
        pair for text in ("Text: x\nLabel:", "Text: a longer one\nLabel:") for pair in encoder.prompt([], text).pairs
    ]
    expected = []
    for before, after in pairs:
        labels = torch.tensor([[-100] * len(before) + after])
        expected.append(-made(input_ids=torch.tensor([before + after]), labels=labels).loss.item())
    np.testing.assert_allclose(prompts.likelihoods(made, tokenizer, pairs), expected, rtol=1e-4)
    assert np.ptp(expected) > 0.05
    # In portions of other sizes, and so with other padding, they are the same.
    monkeypatch.setattr(perplexity, "SCORES", 60 * made.config.vocab_size)
    np.testing.assert_allclose(prompts.likelihoods(made, tokenizer, pairs), expected, rtol=1e-4)


def test_inputs_that_are_the_same_are_read_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = model("tiny-gpt2"), []
    plain = perplexity.logits
    monkeypatch.setattr(perplexity, "logits", lambda *args: seen.append(len(args[1]["input_ids"])) or plain(*args))
    found = prompts.likelihoods(made, tokenizer, [([5, 6, 7], [8]), ([5, 6, 7], [9]), ([5, 6, 7], [8, 9])])
    assert seen == [2]
    shares = plain(made, {"input_ids": torch.tensor([[5, 6, 7]])})[0, -1].log_softmax(-1)
    np.testing.assert_allclose(found[:2], shares[[8, 9]].detach(), rtol=1e-5)


def test_a_prompt_and_its_label_are_what_the_tokenizer_makes_of_both(tokenizer: Any) -> None:
    found = Encoder(tokenizer, 200, WORDS).prompt(["Text: b\nLabel: good"], "Text: c\nLabel:")
    for word, (before, after) in zip(WORDS, found.pairs, strict=True):
        whole = f"Text: b\nLabel: good\n\nText: c\nLabel: {word}"
        assert before + after == tokenizer(whole, add_special_tokens=True)["input_ids"][: len(before + after)]
        assert tokenizer.decode(after).strip() == word
    assert found.kept == ("Text: b\nLabel: good",) and not found.cut


def test_examples_are_dropped_from_the_front_and_then_the_beginning_of_the_row(tokenizer: Any) -> None:
    examples, asked = ["first example good", "second example bad"], "third"

    def longest(kept: list[str]) -> int:
        found = Encoder(tokenizer, 10_000, WORDS).prompt(kept, asked)
        return max(len(before) + len(after) for before, after in found.pairs)

    assert Encoder(tokenizer, longest(examples), WORDS).prompt(examples, asked).kept == tuple(examples)
    one_less = Encoder(tokenizer, longest(examples) - 1, WORDS).prompt(examples, asked)
    assert one_less.kept == ("second example bad",) and not one_less.cut
    none = Encoder(tokenizer, longest([]), WORDS).prompt(examples, asked)
    assert none.kept == () and not none.cut
    cut = Encoder(tokenizer, longest([]) - 2, WORDS).prompt(examples, asked)
    assert cut.cut and max(len(before) + len(after) for before, after in cut.pairs) == longest([]) - 2
    assert [after for _, after in cut.pairs] == [after for _, after in none.pairs]


def test_contextual_calibration_by_hand() -> None:
    # p = (0.8, 0.2), without content (0.9, 0.1): 0.8 / 0.9 = 0.889, 0.2 / 0.1 = 2.
    found = prompts.calibrated(np.log([[0.8, 0.2]]), np.log([[0.9, 0.1]]))
    expected = np.exp([8 / 9, 2.0]) / np.exp([8 / 9, 2.0]).sum()
    np.testing.assert_allclose(found, [expected])
    assert expected.argmax() == 1
    # Scores count up to what all of them share.
    np.testing.assert_allclose(prompts.calibrated(np.log([[0.8, 0.2]]) - 5, np.log([[0.9, 0.1]]) + 3), [expected])
    assert np.isfinite(prompts.calibrated(np.array([[0.0, -900.0]]), np.array([[-900.0, 0.0]]))).all()


def test_wording() -> None:
    assert prompts.worded(["on_time", "LABEL_1"], {"LABEL_1": "late"}) == ["on time", "late"]
    wording = Wording(prompts.TEMPLATES["text", "pair"], ["yes", "no"])
    row = {"text": "a {pair} b", "pair": "c"}
    assert wording.shown(row, 1) == "First text: a {pair} b\nSecond text: c\nLabel: no"
    assert wording.blank() == "First text: N/A\nSecond text: N/A\nLabel:"
    assert prompts.fields("{{x}} {text} {pair}") == {"text", "pair"}
