"""Mixup: pairs and shares by place alone, the same on any number of ranks, inputs and losses mixed alike."""

import numpy as np
import pytest
import torch
from fixtures.train import small_recipe
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ferray.train.losses import TrainingLoss
from ferray.train.mixup import RankBatch, split_batches
from ferray.train.ranks import ALONE, Ranks

BATCHES = [np.array([4, 9, 2, 7, 0]), np.array([3, 1, 8, 5, 10]), np.array([6])]


def mixed(alpha: float = 1.0, *, seed: int = 0, epoch: int = 1, ranks: Ranks = ALONE) -> list[RankBatch]:
    return split_batches(BATCHES, recipe=small_recipe(mixup_alpha=alpha, seed=seed), epoch=epoch, ranks=ranks)


def test_without_mixup_a_rank_batch_has_this_ranks_rows_alone() -> None:
    ranks = Ranks(1, 2)
    inputs = torch.randn(3, 2, 1, 1).half()
    for batch, portion in zip(BATCHES, mixed(0.0, ranks=ranks), strict=True):
        np.testing.assert_array_equal(portion.rows, batch[ranks.own_part(len(batch))])
        np.testing.assert_array_equal(portion.reads, portion.rows)
        assert portion.mix(inputs) is inputs


@given(alpha=st.floats(1e-3, 10), seed=st.integers(0, 99), epoch=st.integers(1, 9), world=st.integers(1, 4))
def test_the_batches_of_all_ranks_together_are_those_of_one(alpha: float, seed: int, epoch: int, world: int) -> None:
    whole = mixed(alpha, seed=seed, epoch=epoch)
    parts = [mixed(alpha, seed=seed, epoch=epoch, ranks=Ranks(rank, world)) for rank in range(world)]

    for step, (batch, portion) in enumerate(zip(BATCHES, whole, strict=True)):
        np.testing.assert_array_equal(portion.rows, batch)
        assert sorted(portion.partners) == sorted(batch)
        assert 0.5 <= portion.share <= 1
        for name in ("rows", "partners"):
            together = np.concatenate([getattr(part[step], name) for part in parts])
            np.testing.assert_array_equal(together, getattr(portion, name))
        assert {part[step].share for part in parts} == {portion.share}


def test_every_seed_epoch_and_step_has_pairs_and_shares_of_its_own() -> None:
    shares = [portion.share for place in ((0, 1), (0, 2), (1, 1)) for portion in mixed(seed=place[0], epoch=place[1])]

    assert len(set(shares)) == 9


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_those_of_a_beta_distribution_the_larger_for_the_face_itself(alpha: float) -> None:
    shares = [portion.share for epoch in range(1, 301) for portion in mixed(alpha, epoch=epoch)]
    folded = stats.kstest(shares, lambda share: 1 - 2 * stats.beta.sf(share, alpha, alpha))

    assert folded.pvalue > 1e-3


def test_inputs_and_losses_are_mixed_by_the_same_shares() -> None:
    portion = RankBatch(np.array([4, 9, 9, 0]), np.array([9, 4, 2, 0]), 0.7)  # balanced sampling draws some rows twice
    inputs = torch.arange(10.0)[:, None, None, None].expand(10, 2, 1, 1).half()
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    found = portion.mix(inputs[torch.from_numpy(portion.reads)])

    by_hand = torch.tensor([0.7 * row + 0.3 * other for row, other in zip([4, 9, 9, 0], [9, 4, 2, 0], strict=True)])
    torch.testing.assert_close(found, by_hand[:, None, None, None].expand(4, 2, 1, 1))

    targets = torch.zeros(4, 3)
    for place in range(4):
        targets[place, labels[portion.rows[place]]] += 0.7
        targets[place, labels[portion.partners[place]]] += 0.3
    soft = -(targets * logits.log_softmax(dim=1)).sum()
    torch.testing.assert_close(portion.loss(TrainingLoss(), logits, labels), soft)


def test_votes_are_mixed_by_the_same_shares_as_inputs() -> None:
    generator = np.random.default_rng(0)
    labels, votes = generator.integers(0, 4, 11), generator.dirichlet(np.ones(4), 11).astype(np.float32)
    (portion, *_) = mixed(1.0)
    assert portion.share < 1
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))

    target = portion.share * votes[portion.rows] + (1 - portion.share) * votes[portion.partners]
    by_hand = -(torch.from_numpy(target) * logits.log_softmax(dim=1)).sum()

    torch.testing.assert_close(portion.loss(TrainingLoss(), logits, labels, votes), by_hand)
