"""Thin products in pieces, against one product."""

from __future__ import annotations

import pytest
import torch

from tunesmith.train.fused.thin import PIECE, across, add_up_, down


@pytest.mark.parametrize("tokens", [1, PIECE, PIECE + 1, 3 * PIECE - 5])
class TestPieces:
    def test_down(self, tokens: int) -> None:
        x, thin = torch.randn(tokens, 12), torch.randn(3, 12)
        assert torch.allclose(down(x, thin), x @ thin.t(), atol=1e-5)

    def test_add_up(self, tokens: int) -> None:
        y, small, thin = torch.randn(tokens, 12), torch.randn(tokens, 3), torch.randn(12, 3)
        expected = y + small @ thin.t()
        add_up_(y, small, thin)
        assert torch.allclose(y, expected, atol=1e-5)

    def test_across(self, tokens: int) -> None:
        small, x = torch.randn(tokens, 3), torch.randn(tokens, 12)
        assert torch.allclose(across(small, x), small.t() @ x, atol=1e-4)


def test_the_sum_over_pieces_is_in_float32() -> None:
    # In bfloat16, 256 + 1 is 256: a sum of the pieces in it would lose the second.
    small, x = torch.ones(PIECE + 1, 1).bfloat16(), torch.ones(PIECE + 1, 1).bfloat16()
    assert across(small, x).item() == PIECE + 1
