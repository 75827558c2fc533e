"""Greedy continuations, against transformers' own."""

from __future__ import annotations

import pytest
import torch

from tests import toy
from tunesmith.evaluate import continuations


@pytest.mark.parametrize("backbone", ["builtin:tiny-gpt2", "builtin:tiny-llama"])
def test_they_are_those_of_transformers(backbone: str) -> None:
    toyed = toy.prepared({"model": backbone, "task": "generate"})
    model, tokenizer = toyed.backbone.model.eval(), toyed.backbone.tokenizer
    given = continuations.prompts(tokenizer)
    assert tokenizer.decode(given[0]) == f"<s>{continuations.BEGINNINGS[0]}"
    found = continuations.greedy(model, tokenizer, given)
    for one, answer in zip(given, found, strict=True):
        ids = torch.tensor([one])
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=continuations.ROOM, do_sample=False
        )
        assert answer == written[0, len(one) :].tolist()
    sums = continuations.losses(model, tokenizer, given, found)
    assert sums[:, 1].tolist() == [len(answer) for answer in found]
    with torch.inference_mode():
        scores = model(input_ids=torch.tensor([[*given[0], *found[0]]])).logits[0].log_softmax(dim=-1)
    expected = -sum(scores[len(given[0]) - 1 + at, token].item() for at, token in enumerate(found[0]))
    assert sums[0, 0] == pytest.approx(expected, rel=1e-4)


def test_what_ends_a_text_ends_it() -> None:
    toyed = toy.prepared({"model": "builtin:tiny-gpt2", "task": "generate"})
    model, tokenizer = toyed.backbone.model.eval(), toyed.backbone.tokenizer
    given = continuations.prompts(tokenizer)
    first = continuations.greedy(model, tokenizer, given)[0]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(first[0])
    assert continuations.greedy(model, tokenizer, given)[0] == first[:1]
