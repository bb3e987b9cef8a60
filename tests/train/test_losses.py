"""The loss is a sum, so that parts add up to the whole."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from fixtures.train import small_recipe
from hypothesis import given
from hypothesis import strategies as st

from ferray.errors import DataError
from ferray.recipe import ClassBalance
from ferray.train.losses import TrainingLoss, build_training_loss, class_weights, cross_entropy_sum

LOGITS = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 5
IMBALANCED = np.repeat(np.arange(5), [1, 10, 100, 1000, 50])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_the_loss_of_two_parts_adds_up(label_smoothing: float) -> None:
    whole = cross_entropy_sum(LOGITS, LABELS, label_smoothing=label_smoothing)
    parts = [
        cross_entropy_sum(LOGITS[part], LABELS[part], label_smoothing=label_smoothing)
        for part in (slice(4), slice(4, 9))
    ]

    torch.testing.assert_close(parts[0] + parts[1], whole)


def test_smoothing_spreads_its_share_evenly_over_all_classes() -> None:
    targets = torch.full((9, 5), 0.3 / 5)
    targets[torch.arange(9), LABELS] += 0.7
    by_hand = -(targets * LOGITS.log_softmax(dim=1)).sum()

    torch.testing.assert_close(cross_entropy_sum(LOGITS, LABELS, label_smoothing=0.3), by_hand)


def test_a_guess_costs_the_logarithm_of_the_classes_and_no_face_nothing() -> None:
    assert float(cross_entropy_sum(torch.zeros(2, 7), torch.tensor([0, 6]))) == pytest.approx(2 * math.log(7))
    assert float(cross_entropy_sum(torch.zeros(0, 7), torch.empty(0, dtype=torch.int64))) == 0


def build(**settings: Any) -> TrainingLoss:
    """A recipe's loss where the classes have 1, 10, 100, 1,000 and 50 faces."""
    return build_training_loss(
        small_recipe(**settings), IMBALANCED, class_names=("a", "b", "c", "d", "e"), device=torch.device("cpu")
    )


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_recipe_that_asks_for_nothing_has_plain_cross_entropy_to_the_bit(label_smoothing: float) -> None:
    loss = build(label_smoothing=label_smoothing)(LOGITS, LABELS)

    assert torch.equal(loss, cross_entropy_sum(LOGITS, LABELS, label_smoothing=label_smoothing))


@given(
    counts=st.lists(st.integers(0, 10**6), min_size=2, max_size=8).filter(any),
    rule=st.sampled_from([name for name in get_args(ClassBalance) if name.endswith("_weights")]),
    beta=st.floats(0, 0.99999),
)
def test_weights_are_1_on_average_over_the_training_faces_and_never_larger_for_a_larger_class(
    counts: list[int], rule: str, beta: float
) -> None:
    weights = class_weights(np.array(counts), rule=rule, beta=beta)

    assert float(weights @ counts) == pytest.approx(sum(counts))
    assert all(weights[place] == 0 for place, count in enumerate(counts) if count == 0)
    present = sorted((count, -weight) for count, weight in zip(counts, weights, strict=True) if count)
    falling = [weight for _, weight in present]
    assert all(one <= other * (1 - 1e-9) for one, other in pairwise(falling))


def test_weights_are_those_of_their_formulas() -> None:
    counts = np.array([1, 10, 100, 1000, 50])

    def by_hand(weight: Callable[[int], float]) -> list[float]:
        raw = [weight(int(count)) for count in counts]
        scale = sum(counts) / sum(count * one for count, one in zip(counts, raw, strict=True))
        return [scale * one for one in raw]

    for rule, weight in (
        ("inverse_weights", lambda n: 1 / n),
        ("sqrt_inverse_weights", lambda n: 1 / math.sqrt(n)),
        ("effective_number_weights", lambda n: 1 / sum(0.99**i for i in range(n))),  # the sum that 1 - beta^n closes
    ):
        assert class_weights(counts, rule=rule, beta=0.99) == pytest.approx(by_hand(weight))
    assert class_weights(counts, rule="inverse_weights", beta=0) == pytest.approx(1161 / 5 / counts)
    assert class_weights(counts, rule="effective_number_weights", beta=0) == pytest.approx(1)


def test_weights_multiply_the_loss_of_each_face() -> None:
    weights = class_weights(np.bincount(IMBALANCED), rule="inverse_weights", beta=0)
    one_by_one = [
        weights[label] * float(cross_entropy_sum(LOGITS[[place]], LABELS[[place]], label_smoothing=0.1))
        for place, label in enumerate(LABELS.tolist())
    ]

    loss = build(class_balance="inverse_weights", label_smoothing=0.1)(LOGITS, LABELS)
    assert float(loss) == pytest.approx(sum(one_by_one), rel=1e-5)


def test_the_focal_loss_is_that_of_its_formula_and_leaves_unsure_faces_their_loss() -> None:
    p = LOGITS.double().softmax(dim=1)[torch.arange(9), LABELS].tolist()
    by_hand = sum(-((1 - one) ** 2.5) * math.log(one) for one in p)

    assert float(build(focal_gamma=2.5)(LOGITS, LABELS)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_the_focal_loss_of_a_face_that_is_sure_to_the_last_bit_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[80.0, 0, 0, 0, 0], [9.0, 0, 0, 0, 0], [0, 90.0, 0, 0, 0]], requires_grad=True)
    loss = build(focal_gamma=gamma)(logits, torch.tensor([0, 0, 0]))
    loss.backward()

    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert float(logits.grad[2, 0]) == pytest.approx(-1, rel=1e-3), "wrong and sure counts in full"


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjustment_is_that_of_its_formula(tau: float) -> None:
    priors = np.array([1, 10, 100, 1000, 50]) / 1161
    rows = zip(LOGITS.double().exp().numpy(), LABELS.tolist(), strict=True)
    by_hand = sum(-math.log(priors[y] ** tau * odds[y] / (priors**tau @ odds)) for odds, y in rows)

    found = build(class_balance="logit_adjustment", logit_adjustment_tau=tau)(LOGITS, LABELS)
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_logit_adjustment_needs_a_face_of_every_class() -> None:
    with pytest.raises(DataError, match="no training example is 'b': logit adjustment needs the share"):
        build_training_loss(
            small_recipe(class_balance="logit_adjustment"),
            np.array([0, 2, 2]),
            class_names=("a", "b", "c"),
            device=torch.device("cpu"),
        )


@pytest.mark.parametrize(
    "settings", [{"class_balance": name} for name in get_args(ClassBalance)] + [{"focal_gamma": 2.0}]
)
def test_every_training_loss_of_two_parts_adds_up(settings: dict[str, Any]) -> None:
    loss = build(**settings)

    torch.testing.assert_close(
        loss(LOGITS[:4], LABELS[:4]) + loss(LOGITS[4:], LABELS[4:]) + loss(LOGITS[9:], LABELS[9:]), loss(LOGITS, LABELS)
    )


VOTES = torch.rand(9, 5, generator=torch.Generator().manual_seed(1)).softmax(dim=1)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_votes_as_targets_are_cross_entropy_against_their_distribution(label_smoothing: float) -> None:
    targets = (1 - label_smoothing) * VOTES + label_smoothing / 5
    by_hand = -(targets * LOGITS.log_softmax(dim=1)).sum()

    torch.testing.assert_close(build(label_smoothing=label_smoothing)(LOGITS, LABELS, VOTES), by_hand)


@pytest.mark.parametrize(
    "settings",
    [{}, {"focal_gamma": 2.0}, {"class_balance": "inverse_weights"}, {"class_balance": "logit_adjustment"}],
)
def test_votes_that_all_agree_are_a_label(settings: dict[str, Any]) -> None:
    agreed = torch.nn.functional.one_hot(LABELS, 5).float()

    torch.testing.assert_close(build(**settings)(LOGITS, LABELS, agreed), build(**settings)(LOGITS, LABELS))


def test_the_label_and_not_the_votes_decides_the_weight_of_a_face() -> None:
    loss = build(class_balance="inverse_weights")
    assert loss.class_weights is not None

    losses = [loss(LOGITS[[row]], LABELS[[row]], VOTES[[row]]) for row in range(9)]

    for row, one in enumerate(losses):
        plain = cross_entropy_sum(LOGITS[[row]], VOTES[[row]])
        torch.testing.assert_close(one, plain * loss.class_weights[LABELS[row]])
