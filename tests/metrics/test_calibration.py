import numpy as np
import pytest
from fixtures.report import draw_predictions, make_predictions
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss

from ferray.metrics.calibration import MAX_TEMPERATURE, apply_temperature, calibrate, fit_temperature, measure
from ferray.metrics.intervals import Bootstrap


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness: float) -> None:
    labels, probabilities = draw_predictions(20_000, sharpness=sharpness)

    assert fit_temperature(labels, probabilities) == pytest.approx(sharpness, rel=0.03)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.6, 1.0, 2.5]))
def test_the_temperature_is_the_one_that_a_minimizer_finds(seed: int, sharpness: float) -> None:
    labels, probabilities = draw_predictions(80, sharpness=sharpness, seed=seed)

    def loss(log_t: float) -> float:
        return float(log_loss(labels, apply_temperature(probabilities, np.exp(log_t)), labels=range(7)))

    found = minimize_scalar(
        loss, bounds=(-np.log(MAX_TEMPERATURE), np.log(MAX_TEMPERATURE)), method="bounded", options={"xatol": 1e-6}
    )
    assert loss(np.log(fit_temperature(labels, probabilities))) <= found.fun + 1e-9


def test_predictions_that_are_all_correct_get_the_lowest_temperature_and_not_zero() -> None:
    labels = np.arange(7)
    probabilities = (np.eye(7)[labels] + 0.1) / 1.7

    assert fit_temperature(labels, probabilities) == pytest.approx(1 / MAX_TEMPERATURE)


def test_a_temperature_changes_no_predicted_class_and_keeps_sums_of_one_also_where_a_probability_is_zero() -> None:
    probabilities = np.array([[1.0, 0.0, 0.0], [0.6, 0.4, 0.0]], dtype=np.float32)
    cooled = apply_temperature(probabilities, 2.0)

    assert (cooled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert cooled.sum(axis=1) == pytest.approx(1)
    assert cooled[1, 0] == pytest.approx(0.6**0.5 / (0.6**0.5 + 0.4**0.5))


def slow_ece(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Bin by bin, as Guo et al. write it."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 60), st.integers(0, 1000))
def test_the_measures_are_those_of_scikit_learn_and_of_a_loop_over_bins(num_faces: int, seed: int) -> None:
    labels, probabilities = draw_predictions(num_faces, sharpness=2.0, seed=seed)
    quality = measure(labels, probabilities, np.arange(num_faces), bootstrap=Bootstrap(resamples=5))

    assert quality.ece == pytest.approx(slow_ece(labels, probabilities))
    assert quality.nll == pytest.approx(log_loss(labels, probabilities, labels=range(7)))
    brier = sum(brier_score_loss(labels == label, probabilities[:, label]) for label in range(7))
    assert quality.brier == pytest.approx(brier)
    assert sum(row.faces for row in quality.bins) == num_faces


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_error() -> None:
    labels, calibrated = draw_predictions(5000, skill=2.0)
    _, overconfident = draw_predictions(5000, skill=2.0, sharpness=4.0)
    fitted, tested = (make_predictions(labels[rows], overconfident[rows]) for rows in (slice(2000), slice(2000, None)))
    found = calibrate(fitted, tested)

    assert measure(labels, calibrated, np.arange(5000), bootstrap=Bootstrap(resamples=2)).ece < 0.03
    assert found.before.ece > 0.15
    assert found.after.ece < 0.04
    assert found.after.nll < found.before.nll
    assert found.after.brier < found.before.brier
    assert (found.fitted_on, found.n) == (2000, 3000)


def test_intervals_are_those_of_a_slow_bootstrap_of_whole_groups() -> None:
    labels, probabilities = draw_predictions(240, sharpness=2.0)
    groups = np.arange(240) // 3
    quality = measure(labels, probabilities, groups, bootstrap=Bootstrap(resamples=3000))
    generator, drawn = np.random.default_rng(1), []
    for _ in range(1000):
        rows = (3 * generator.integers(0, 80, 80)[:, None] + np.arange(3)).ravel()
        nll = -np.log(probabilities[rows, labels[rows]]).mean()
        drawn.append((slow_ece(labels[rows], probabilities[rows]), nll))
    for place, name in enumerate(("ece", "nll")):
        expected = np.quantile([row[place] for row in drawn], [0.025, 0.975])
        assert quality.intervals[name] == pytest.approx(tuple(expected), rel=0.08)
