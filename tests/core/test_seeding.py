"""One seed for a run, one stream for each part."""

import random

import numpy as np
import torch

from tunesmith.core.seeding import generator, seed_everything, seed_of


def test_a_seed_is_the_same_in_every_process_and_fits_in_63_bits() -> None:
    # SHA-256 of "0:lora", its first eight bytes, halved: computed with sha256sum.
    assert seed_of(0, "lora") == 0x1F00A2B99972FEBD >> 1
    assert all(0 <= seed_of(seed, "order 3") < 2**63 for seed in range(1000))


def test_names_and_seeds_give_streams_of_their_own() -> None:
    draws = {
        (seed, name): tuple(torch.rand(4, generator=generator(seed, name)).tolist())
        for seed in (0, 1)
        for name in ("lora", "mixout", "")
    }
    assert len(set(draws.values())) == len(draws)
    assert torch.equal(torch.rand(4, generator=generator(0, "lora")), torch.tensor(draws[0, "lora"]))


def test_a_stream_leaves_the_global_one_alone() -> None:
    seed_everything(3)
    expected = torch.rand(4)
    seed_everything(3)
    torch.rand(100, generator=generator(3, "lora"))
    assert torch.equal(torch.rand(4), expected)


def test_all_global_generators_are_seeded() -> None:
    seed_everything(2**40)
    first = random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(2**40)
    assert first == (random.random(), np.random.rand(), torch.rand(1).item())
    seed_everything(1)
    assert first[2] != torch.rand(1).item()
