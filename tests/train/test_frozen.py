"""Frozen lower blocks: computed once, the same numbers as transformers gives on padded batches."""

import copy
import logging

import pytest
import torch

from tests.train.half_frozen import BATCH, FAMILIES, batch_of, close, inside, model_of, step
from tunesmith.core import anatomy
from tunesmith.core.unpadded import unpadded
from tunesmith.train.frozen import frozen
from tunesmith.train.fused.blocks import Fused, fused


@pytest.mark.parametrize("trains", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_padded_model(family: str, trains: int) -> None:
    model, batch, other = model_of(family, trains), batch_of(*BATCH), batch_of(4, 9, 2, seed=1)
    expected = [step(model, batch), step(model, other)]
    with inside(model) as (report, counts):
        for _ in range(3):  # computed, then read
            close(step(model, batch), expected[0])
            close(step(model, other), expected[1])
    assert [len(count.tokens) for count in counts] == ([2, 2] if not trains else [2, 6])
    assert (report.blocks, report.of, report.kept, report.computed, report.read) == (2 - trains, 2, 9, 9, 18)
    # Of a head only one token a sequence is read, of 32 numbers of 4 bytes; else all 47 are.
    assert report.bytes == (9 if not trains else 47) * 32 * 4
    close(step(model, batch), expected[0])


@pytest.mark.parametrize("trains", [0, 1])
def test_beside_blocks_that_run_as_one_function(trains: int) -> None:
    model, batch, other = model_of("tiny-bert", trains), batch_of(*BATCH), batch_of(4, 9, 2, 3, seed=1)
    mixed = batch_of(4, 9, 3, 9, seed=1)
    mixed["input_ids"][2, :3] = batch["input_ids"][0, :3]  # three texts from the others, and a new one
    expected = [step(model, one) for one in (batch, other, mixed)]
    with unpadded(model), fused(model) as blocks, frozen(model, 8) as report:
        assert blocks.fused == 2
        for _ in range(2):
            for one, result in zip((batch, other, mixed), expected, strict=True):
                close(step(model, one), result, 1e-5)
        forwards = [block.forward for block in anatomy.blocks(model).values()]
    assert all(isinstance(forward, Fused) for forward in forwards)
    assert (report.computed, report.read) == (6 + 4 + 1, 3 + 14)


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_blocks_do_not_drop_out_and_the_others_do(family: str) -> None:
    model, batch = model_of(family, trains=1, dropout=0.3), batch_of(*BATCH)
    results, states = [], []
    for megabytes in (0, 8):
        with inside(model, megabytes) as (report, counts):
            for _ in range(2):
                torch.manual_seed(1)
                results.append(step(model, batch))
                states.append(torch.get_rng_state())
        assert counts[0].training == {False} and True in counts[1].training
        assert all(module.training for module in model.modules())
    assert len(counts[0].tokens) == 1 and report.read == 6
    for result, state in zip(results[1:], states[1:], strict=True):
        close(result, results[0])
        assert torch.equal(state, states[0])  # so that a run that is resumed, with nothing kept, draws the same
    torch.manual_seed(2)
    with inside(model) as _:
        assert not torch.allclose(step(model, batch)[""], results[0][""], atol=1e-6)


def test_what_is_frozen_drops_out_where_the_settings_say_so() -> None:
    model, batch = model_of("tiny-bert", trains=1, dropout=0.3), batch_of(*BATCH)
    with inside(model, dropout=True) as (report, counts):
        step(model, batch)
        step(model, batch)
    assert True in counts[0].training and len(counts[0].calls) == 2
    assert "frozen_dropout" in report.why


def test_no_graph_is_built_below_what_trains() -> None:
    model, seen = model_of("tiny-bert", trains=1), []
    upper = anatomy.blocks(model)["bert.encoder.layer.1"]
    upper.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with frozen(model, 0):
        step(model, batch_of(*BATCH))
    assert [(one.requires_grad, one.grad_fn) for one in seen] == [(False, None)] * len(seen) != []


def test_a_full_store_is_said_with_counts_and_the_rest_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of("tiny-bert", trains=1)
    batches = [batch_of(*[40] * 60, seed=seed) for seed in range(4)]  # 9,600 rows of 128 bytes; 8,192 fit
    expected = [step(model, batch) for batch in batches]
    with caplog.at_level(logging.INFO, "tunesmith"), inside(model, megabytes=1) as (report, counts):
        for _ in range(2):
            for batch, result in zip(batches, expected, strict=True):
                close(step(model, batch), result)
    assert (report.kept, report.read, report.computed) == (204, 204, 240 + 36)
    assert counts[0].tokens == [2400] * 4 + [36 * 40]
    assert sum("204 texts" in message for message in caplog.messages) == 1


def test_what_is_kept_by_a_measurement_is_read_by_training() -> None:
    model, batch = model_of("tiny-gpt2"), batch_of(*BATCH)
    expected = step(model, batch)
    with inside(model) as (report, _):
        model.eval()
        with torch.inference_mode():
            model(**batch)
        model.train()
        close(step(model, batch), expected)
        close(step(model, batch_of(4, 9, seed=1)), step(model, batch_of(4, 9, seed=1)))
    assert report.read == 8


def test_activation_checkpointing_above() -> None:
    model, batch = model_of("tiny-llama", trains=1), batch_of(*BATCH)
    expected = step(model, batch)
    model.activation_checkpointing_enable({"use_reentrant": False})
    with unpadded(model), frozen(model, 8) as report:
        for _ in range(2):
            close(step(model, batch), expected)
    assert report.read == 6


def test_micro_batches_add_up() -> None:
    model, batch = model_of("tiny-bert", trains=1), batch_of(*BATCH)
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 3), slice(3, 6))]
    expected = step(model, batch)
    with inside(model):
        for _ in range(2):
            model.zero_grad()
            losses = [model(**half).loss / 2 for half in halves]  # both forwards before a backward
            torch.stack(losses).sum().backward()
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-5, atol=1e-6)


def test_a_copy_is_a_plain_model_and_nothing_is_left_behind() -> None:
    model, batch = model_of("tiny-bert", dropout=0.3), batch_of(*BATCH)
    names = list(model.state_dict())
    with unpadded(model), frozen(model, 8) as report:
        step(model, batch)
        twin = copy.deepcopy(model)
        assert list(model.state_dict()) == list(twin.state_dict()) == names
        step(twin, batch)
        assert report.read == 0 and report.computed == 6
    model.eval(), twin.eval()
    close(step(model, batch), step(twin, batch))
    assert report.computed == 6


def test_a_call_that_fails_leaves_the_model_as_it_was() -> None:
    model, batch = model_of("tiny-bert", trains=1, dropout=0.3), batch_of(*BATCH)
    with unpadded(model), frozen(model, 8) as report:
        step(model, batch)
        with pytest.raises(ValueError):
            model(**{**batch, "labels": torch.zeros(2, dtype=torch.long)})
        with pytest.raises(RuntimeError):
            model.bert(**{name: value for name, value in batch.items() if name != "labels"}, position_ids=torch.ones(1))
        assert all(module.training and "forward" not in module.__dict__ for module in model.modules())
        step(model, batch)
        assert report.read >= 6


def test_a_run_that_goes_on_with_nothing_kept_ends_the_same() -> None:
    batches, results = [batch_of(*BATCH), batch_of(4, 9, 2, seed=1)], []
    for pauses in (False, True):
        model = model_of("tiny-bert", trains=1, dropout=0.2)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        torch.manual_seed(3)
        for epochs in (1, 2) if pauses else (3,):
            with inside(model) as (report, _):
                for batch in batches * epochs:
                    step(model, batch)
                    optimizer.step()
        assert report.read == (9 if pauses else 18)
        results.append({name: p.detach() for name, p in model.named_parameters()})
    close(results[1], results[0])
