import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferray.audit.score.claims import read_claim, top_1_of_binary, top_1_of_one_vs_rest
from ferray.metrics.intervals import wilson_interval
from ferray.metrics.names import one_vs_rest_accuracy


@pytest.mark.parametrize(
    "reported, top_1", [(0.857, 0.4995), (0.90, 0.65), (0.91, 0.685), (0.92, 0.72), (0.93, 0.755), (0.98, 0.93)]
)
def test_a_one_vs_rest_accuracy_of_seven_classes_is_turned_back_into_top_1(reported: float, top_1: float) -> None:
    assert top_1_of_one_vs_rest(reported, num_classes=7) == pytest.approx(top_1)
    assert one_vs_rest_accuracy(top_1, num_classes=7) == pytest.approx(reported)


@given(st.integers(2, 9), st.lists(st.sampled_from(["right", "wrong", "unsure right", "unsure wrong"]), min_size=1))
def test_no_mixture_of_faces_leaves_the_range_of_a_binary_accuracy(num_classes: int, faces: list[str]) -> None:
    cells = {"right": num_classes, "wrong": num_classes - 2}  # of an unsure face, all but the label's
    binary = np.mean([cells.get(face, num_classes - 1) for face in faces]) / num_classes
    top_1 = np.mean([face.endswith("right") for face in faces])
    low, high = top_1_of_binary(float(binary), num_classes=num_classes) or (2.0, -1.0)

    assert low - 1e-9 <= top_1 <= high + 1e-9


def test_the_range_of_a_binary_accuracy_is_reached_at_both_ends() -> None:
    assert top_1_of_binary(0.91, num_classes=7) == pytest.approx((0.37, 1.0))
    assert top_1_of_binary(1.0, num_classes=7) == (1.0, 1.0)
    assert top_1_of_binary(6 / 7, num_classes=7) == pytest.approx((0.0, 1.0))
    assert top_1_of_binary(5 / 7, num_classes=7) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert top_1_of_binary(0.7, num_classes=7) is None
    assert top_1_of_one_vs_rest(0.7, num_classes=7) is None


def test_a_claim_is_read_with_the_unit_of_its_last_digit() -> None:
    assert (read_claim("91%", num_classes=7).value, read_claim("91%", num_classes=7).unit) == (0.91, 0.01)
    assert (read_claim(" 0.9092", num_classes=7).value, read_claim("0.9092", num_classes=7).unit) == (0.9092, 1e-4)


def test_a_claim_that_no_number_of_faces_gives_is_impossible() -> None:
    possible = {f"{right / 37:.3f}" for right in range(38)}
    for thousandths in range(0, 1001, 7):
        text = f"{thousandths / 1000:.3f}"
        assert read_claim(text, num_classes=7, n=37).is_possible == (text in possible), text
    assert read_claim("0.913", num_classes=7).is_possible


def test_the_interval_of_91_percent_of_7200_faces_is_two_thirds_of_a_point_wide_to_each_side() -> None:
    low, high = wilson_interval(0.91, 7200)

    assert (high - low) / 2 == pytest.approx(0.0066, abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.722, 1.0), abs=1e-3)
