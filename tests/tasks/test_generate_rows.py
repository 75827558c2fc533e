"""Rows in one cache by hand: what moves when they grow, leave and join."""

from __future__ import annotations

import torch

from tests.tasks.test_generate_batches import model
from tunesmith.tasks.generate_rows import SPARE, Decoder, Growing, Pairs, padded


def test_prompts_of_decoders_are_padded_on_the_left() -> None:
    ids, mask = padded([[5, 6], [7]], 2, left=True)
    assert ids.tolist() == [[5, 6], [2, 7]] and mask.tolist() == [[1, 1], [0, 1]]
    ids, mask = padded([[5, 6], [7]], 2, left=False)
    assert ids.tolist() == [[5, 6], [7, 2]] and mask.tolist() == [[1, 1], [1, 0]]


def states(rows: int, time: int, first: int = 0) -> torch.Tensor:
    """[rows, 1 head, time, 1], counted up."""
    return torch.arange(first, first + rows * time).view(rows, 1, time, 1).float()


def test_a_cache_grows_in_place() -> None:
    keys, new = states(2, 3), states(2, 1, 50)
    layer = Growing(keys, keys + 100)
    found, values = layer.update(new, new + 100)
    assert torch.equal(found, torch.cat([keys, new], dim=2)) and torch.equal(values, found + 100)
    assert layer.get_seq_length() == 4
    place = found.data_ptr()
    for _ in range(SPARE):
        found, _ = layer.update(new, new)
    assert found.data_ptr() == place  # nothing moved
    found, values = layer.update(new, new)
    assert found.data_ptr() != place and found.shape == (2, 1, 5 + SPARE, 1)
    assert torch.equal(found[:, :, :3], keys) and torch.equal(values[:, :, :4], torch.cat([keys, new], 2) + 100)


def test_rows_that_join_end_with_the_others() -> None:
    layer = Growing(states(1, 3), states(1, 3)).joined(states(2, 2, 10), states(2, 2, 10))
    assert layer.keys is not None
    assert layer.keys[:, 0, :, 0].tolist() == [[0, 1, 2], [0, 10, 11], [0, 12, 13]]
    part = layer.of(torch.tensor([2, 1]), 1)
    assert part.keys is not None and part.keys[:, 0, :, 0].tolist() == [[12, 13], [10, 11]]


def test_rows_of_a_decoder_have_the_scores_of_each_alone() -> None:
    # The reference: the whole text at once, without a cache.
    found = model("tiny-gpt2").double()
    texts = [[1, 7, 8], [1, 9], [1, 5, 6, 7, 8]]

    def alone(text: list[int]) -> torch.Tensor:
        scores: torch.Tensor = found(input_ids=torch.tensor([text])).logits[0, -1]
        return scores

    with torch.no_grad():
        rows = Decoder(found, 0)
        torch.testing.assert_close(rows.begin(texts[:2]), torch.stack([alone(text) for text in texts[:2]]))
        torch.testing.assert_close(rows.go_on(torch.tensor([4, 5]), [True, True])[1], alone([1, 9, 5]))
        torch.testing.assert_close(rows.begin(texts[2:])[0], alone(texts[2]))
        rows.keep([2, 1])
        both = rows.go_on(torch.tensor([11, 12]), [True, True])
        torch.testing.assert_close(both, torch.stack([alone([*texts[2], 11]), alone([1, 9, 5, 12])]))
        rows.keep([1])
        # The padding that only the longer row needed is gone.
        assert rows._mask.tolist() == [[1, 1, 1, 1]]
        torch.testing.assert_close(rows.go_on(torch.tensor([13]), [True])[0], alone([1, 9, 5, 12, 13]))


def test_rows_of_an_encoder_decoder_have_the_scores_of_each_alone() -> None:
    found = model("tiny-t5").double()
    texts = [[6, 7, 8], [9, 2]]

    def alone(text: list[int], written: list[int]) -> torch.Tensor:
        outputs = found(input_ids=torch.tensor([text]), decoder_input_ids=torch.tensor([written]))
        scores: torch.Tensor = outputs.logits[0, -1]
        return scores

    with torch.no_grad():
        rows = Pairs(found, 0, start=0)
        torch.testing.assert_close(rows.begin(texts), torch.stack([alone(text, [0]) for text in texts]))
        torch.testing.assert_close(rows.go_on(torch.tensor([4, 5]), [True, True])[0], alone(texts[0], [0, 4]))
        rows.keep([1])
        torch.testing.assert_close(rows.go_on(torch.tensor([6]), [True])[0], alone(texts[1], [0, 5, 6]))
