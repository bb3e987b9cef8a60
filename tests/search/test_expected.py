"""How many epochs successive halving is expected to leave, against its own rule with scores drawn at random."""

import random
import statistics

import numpy as np
import pytest

from ferray.search.expected import chance_to_go_on, epochs_to_come
from ferray.space import Hyperband


def halved(num_trials: int, halving: Hyperband, generator: random.Random) -> int:
    """Epochs of trials one after the other, stopped by Ray Tune's rule, with scores of random order."""
    recorded: dict[int, list[float]] = {rung: [] for rung in halving.rungs}
    total = 0
    for _ in range(num_trials):
        score, epochs = generator.random(), halving.max_epochs
        for rung in halving.rungs:
            cutoff = np.percentile(recorded[rung], 100 * (1 - 1 / halving.eta)) if recorded[rung] else -1.0
            recorded[rung].append(score)
            if score < cutoff:
                epochs = rung
                break
        total += epochs
    return total


@pytest.mark.parametrize(
    "num_trials, halving",
    [
        (30, Hyperband(rungs=(2, 6), max_epochs=18, eta=3.0)),
        (40, Hyperband(rungs=(10, 20, 40), max_epochs=80, eta=2.0)),
        (5, Hyperband(rungs=(1,), max_epochs=10, eta=4.0)),
    ],
)
def test_the_expected_epochs_are_near_the_mean_of_many_searches(num_trials: int, halving: Hyperband) -> None:
    generator = random.Random(0)
    mean = statistics.fmean(halved(num_trials, halving, generator) for _ in range(300))
    assert epochs_to_come(num_trials, halving.max_epochs, halving) == pytest.approx(mean, rel=0.16)


def test_the_first_trial_goes_on_and_the_hundredth_about_once_in_eta_times() -> None:
    assert chance_to_go_on(0, 3.0) == 1.0
    assert chance_to_go_on(1, 3.0) == pytest.approx(0.5)
    assert chance_to_go_on(100, 3.0) == pytest.approx(1 / 3, abs=0.01)


def test_without_a_rule_every_trial_is_trained_to_its_end() -> None:
    assert epochs_to_come(3, 10, None, running=[4, 0], ended=[10]) == 30 + 6 + 10


def test_a_trial_beyond_a_rung_is_not_judged_there_again() -> None:
    halving = Hyperband(rungs=(2, 6), max_epochs=18, eta=3.0)
    assert epochs_to_come(0, 18, halving, running=[7]) == 11
    assert epochs_to_come(0, 18, halving, running=[3], ended=[6]) == pytest.approx(3 + 12 * 0.5)
