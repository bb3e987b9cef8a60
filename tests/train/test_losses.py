"""The loss is a sum, so that parts add up to the whole."""

import math

import pytest
import torch

from ferray.train.losses import cross_entropy_sum

LOGITS = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 5


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
