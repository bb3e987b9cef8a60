"""Optimizers and the course of the learning rate."""

from typing import Any

import pytest
import torch
from fixtures.train import small_recipe
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Adam, AdamW

from ferray.model.classifier import build_free, trunk_tensors
from ferray.model.weights import Weights
from ferray.train.optim import build_optimizer, learning_rate_factor, set_learning_rate


def course(steps_per_epoch: int, **settings: Any) -> list[float]:
    recipe = small_recipe(**settings)
    return [
        learning_rate_factor(recipe, step=step, steps_per_epoch=steps_per_epoch)
        for step in range(recipe.epochs * steps_per_epoch)
    ]


def test_constant_stays() -> None:
    assert course(4, epochs=2) == [1.0] * 8


def test_warm_up_rises_in_equal_steps_to_the_peak() -> None:
    assert course(4, epochs=3, warmup_epochs=1.0) == pytest.approx([0.25, 0.5, 0.75] + [1.0] * 9)


def test_cosine_begins_at_the_peak_is_at_half_of_it_midway_and_ends_above_0() -> None:
    factors = course(4, epochs=5, warmup_epochs=1.0, schedule="cosine")

    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(0.0096, abs=1e-4)
    assert factors[4:] == sorted(factors[4:], reverse=True)


def test_step_falls_after_every_so_many_epochs() -> None:
    factors = course(2, epochs=5, schedule="step", step_epochs=2, step_factor=0.5)

    assert factors == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25])


@given(
    schedule=st.sampled_from(["constant", "cosine", "step"]),
    warmup=st.floats(0, 2.9),
    steps_per_epoch=st.integers(1, 50),
)
def test_the_factor_stays_above_0_and_never_exceeds_1(schedule: str, warmup: float, steps_per_epoch: int) -> None:
    factors = course(steps_per_epoch, schedule=schedule, warmup_epochs=warmup, step_epochs=1)

    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize("name, kind", [("adam", Adam), ("adamw", AdamW), ("sgd", SGD)])
def test_the_head_and_the_trunks_free_layers_have_rates_of_their_own(name: str, kind: type, weights: Weights) -> None:
    recipe = small_recipe(
        freeze="blocks1-4", optimizer=name, learning_rate=0.1, trunk_lr_factor=0.2, weight_decay=0.03, schedule="step",
        step_epochs=1, step_factor=0.5,
    )  # fmt: skip
    free = build_free(recipe, trunk_tensors(recipe, weights), num_classes=7)
    optimizer = build_optimizer(free, recipe)
    rate = set_learning_rate(optimizer, recipe, step=5, steps_per_epoch=5)

    assert type(optimizer) is kind
    assert rate == pytest.approx(0.05)
    head, trunk = optimizer.param_groups
    assert set(head["params"]) == set(free.head.parameters())
    assert set(trunk["params"]) == set(free.features.parameters())
    assert (head["lr"], trunk["lr"]) == pytest.approx((0.05, 0.01))
    assert head["weight_decay"] == trunk["weight_decay"] == 0.03


def test_a_head_alone_is_one_group(weights: Weights) -> None:
    recipe = small_recipe()
    free = build_free(recipe, {}, num_classes=7)

    assert len(build_optimizer(free, recipe).param_groups) == 1


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_uses_its_momentum(momentum: float, weights: Weights) -> None:
    recipe = small_recipe(optimizer="sgd", momentum=momentum, learning_rate=0.5)
    free = build_free(recipe, {}, num_classes=7)
    optimizer = build_optimizer(free, recipe)
    begin = free.head.output.bias.detach().clone()
    for _ in range(2):
        free.head.output.bias.grad = torch.ones(7)
        optimizer.step()

    torch.testing.assert_close(begin - free.head.output.bias.detach(), torch.full((7,), 0.5 * (2 + momentum)))
