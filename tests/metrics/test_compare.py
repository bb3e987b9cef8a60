import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from ferray.metrics.compare import compare_paired, correct_selection_bias
from ferray.metrics.intervals import Bootstrap, normal_interval


def draw_models(
    num_faces: int, better: float, *, seeds: int = 3, seed: int = 0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether two models are right; both err mostly on the same hard faces, the first a little less."""
    generator = np.random.default_rng(seed)
    hardness = generator.random(num_faces)
    noise = generator.normal(0, 0.15, (2, seeds, num_faces))
    return 0.5 + better + noise[0] > hardness, 0.5 + noise[1] > hardness


def test_a_model_against_itself_differs_by_nothing() -> None:
    right, _ = draw_models(300, 0.0)
    found = compare_paired(right, right, np.arange(300))

    assert (found.difference, found.interval, found.p, found.conclusion) == (0.0, (0.0, 0.0), 1.0, "within noise")


def test_the_other_way_round_the_difference_changes_its_sign_alone() -> None:
    a, b = draw_models(500, 0.02)
    there, back = compare_paired(a, b, np.arange(500)), compare_paired(b, a, np.arange(500))

    assert back.difference == -there.difference
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), abs=0.002)


def test_a_difference_that_two_separate_intervals_hide_is_seen_face_by_face() -> None:
    a, b = draw_models(2000, 0.03, seeds=1)
    found = compare_paired(a[0], b[0], np.arange(2000))
    (low_a, _), (_, high_b) = (normal_interval(each.mean(), each.std() / 2000**0.5) for each in (a, b))

    assert low_a < high_b
    assert found.conclusion == "beyond noise"
    assert found.p < 0.05


def test_equal_models_are_found_different_one_time_in_twenty_at_most() -> None:
    comparisons = [
        compare_paired(*draw_models(300, 0.0, seed=seed), np.arange(300), bootstrap=Bootstrap(resamples=400))
        for seed in range(100)
    ]

    assert (
        sum(each.conclusion == "beyond noise" for each in comparisons) <= 9
    )  # 5 expected; the bootstrap of two crossed draws errs on the wide side


def test_the_interval_of_one_seed_is_that_of_a_slow_bootstrap_of_whole_groups() -> None:
    a, b = draw_models(400, 0.03, seeds=1)
    groups = np.arange(400) // 4
    found = compare_paired(a, b, groups, bootstrap=Bootstrap(resamples=4000))
    generator = np.random.default_rng(5)
    gains = (a[0].astype(float) - b[0]).reshape(100, 4).mean(axis=1)
    drawn = [gains[generator.integers(0, 100, 100)].mean() for _ in range(2000)]

    assert found.interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006)
    assert (found.groups, found.seeds) == (100, 1)


def test_seeds_that_disagree_widen_the_interval() -> None:
    faces = np.arange(1000)
    equal = np.tile(faces % 2 == 0, (3, 1))
    steady, shaky = equal.copy(), equal.copy()
    steady[:, :100] = True
    for number, gain in enumerate((10, 50, 240)):
        shaky[number, :gain] = True
    of_steady, of_shaky = (compare_paired(some, equal, faces) for some in (steady, shaky))

    assert of_shaky.difference == pytest.approx(of_steady.difference, abs=0.001)
    assert np.diff(of_shaky.interval) > 2 * np.diff(of_steady.interval)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        compare_paired(np.ones((2, 5)), np.ones((3, 5)), np.arange(5))
    with pytest.raises(ValueError, match="standard error"):
        correct_selection_bias([0.5], 0.0)


def truths(kind: str, generator: np.random.Generator) -> NDArray[np.float64]:
    spread = {"equal": 0.0, "alike": 0.012, "failed": 0.004, "apart": 0.05}[kind]
    scores = 0.5 + spread * generator.standard_normal(24)
    if kind == "failed":
        scores[:6] = 0.2
    return scores


@pytest.mark.parametrize("kind", ["equal", "alike", "failed", "apart"])
def test_the_corrected_best_score_is_right_on_average_whatever_the_true_scores_are(kind: str) -> None:
    error, generator = 0.012, np.random.default_rng(7)
    naive, corrected, covered = [], [], []
    for _ in range(40):
        true = truths(kind, generator)
        measured = true + error * generator.standard_normal(24)
        result = correct_selection_bias(measured.tolist(), error)
        winner = true[measured.argmax()]
        naive.append(result.best - winner)
        corrected.append(result.corrected - winner)
        covered.append(result.interval[0] <= winner <= result.interval[1])

    by_chance = 3 * np.std(corrected) / 40**0.5
    assert abs(np.mean(corrected)) < 0.2 * abs(np.mean(naive)) + by_chance
    assert np.mean(naive) > 0.01 or kind == "apart"
    assert np.mean(covered) >= 0.85


def test_the_common_error_of_trials_is_no_selection_bias() -> None:
    scores = np.random.default_rng(0).normal(0.5, 0.015, 20).tolist()
    alone, together = correct_selection_bias(scores, 0.012), correct_selection_bias(scores, 0.012, correlation=0.7)

    assert 0 < together.bias < alone.bias
    assert np.diff(together.interval) == pytest.approx(np.diff(alone.interval))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(1e-4, 0.1))
def test_the_corrected_score_lies_among_the_scores(scores: list[float], error: float) -> None:
    result = correct_selection_bias(scores, error)

    assert min(scores) - 1e-9 <= result.corrected <= max(scores) + 1e-9
    assert result.best == max(scores)


def test_one_trial_has_no_selection_bias() -> None:
    assert correct_selection_bias([0.61], 0.01).bias == pytest.approx(0)


def test_the_interval_of_a_corrected_score_holds_no_score_that_there_cannot_be() -> None:
    assert correct_selection_bias([0.92, 0.67], 0.06).interval[1] == 1
    low, high = correct_selection_bias([0.92, 0.67], 0.06, bounds=(-math.inf, math.inf)).interval
    assert low < 0.92 < 1 < high


@pytest.mark.parametrize("num, conclusion", [(1, "within noise"), (5, "within noise"), (6, "beyond noise")])
def test_models_that_differ_on_fewer_than_six_photographs_cannot_be_told_apart(num: int, conclusion: str) -> None:
    faces = np.arange(4 * num)  # four of each photograph
    found = compare_paired(faces >= 0, faces < 0, faces // 4)

    assert found.difference == 1
    assert found.conclusion == conclusion
    assert found.p >= binomtest(num, num).pvalue


def test_faces_on_which_both_are_right_do_not_make_five_others_a_proof() -> None:
    better = np.ones(500, dtype=np.bool_)
    found = compare_paired(better, np.arange(500) >= 5, np.arange(500))

    assert found.interval[0] == 0
    assert found.p >= 0.05
