"""Promises of scales: every point has a class and a position, whatever its values."""

import dataclasses
import itertools
from typing import Any

import pytest
from fixtures.records import RECIPE, trial
from hypothesis import given
from hypothesis import strategies as st

from ferray.records.points import Point
from ferray.report.results.scales import MAX_RANGES, MAX_VALUES, Scale, make_scales


def points_with(name: str, values: list[Any]) -> list[Point]:
    return [
        Point(records=(trial(0.5, number=number, recipe=dataclasses.replace(RECIPE, **{name: value})),))
        for number, value in enumerate(values)
    ]


def scale_of(name: str, values: list[Any]) -> Scale:
    (scale,) = make_scales(points_with(name, values), [name])
    return scale


numbers = st.floats(1e-9, 1).map(lambda one: float(f"{one:.6g}"))


@given(st.lists(numbers, min_size=2, max_size=40).filter(lambda values: len(set(values)) > 1))
def test_every_number_lies_in_its_class_and_larger_ones_lie_higher(values: list[float]) -> None:
    scale = scale_of("learning_rate", values)
    by_value = sorted(zip(values, scale.places, scale.positions, strict=True))

    assert all(0 <= place < len(scale.texts) for place in scale.places)
    assert all(-1e-9 <= position <= 1 + 1e-9 for position in scale.positions)
    for one, other in itertools.pairwise(by_value):
        assert one[1] <= other[1]
        assert one[2] <= other[2] + 1e-12
    assert len(scale.texts) <= max(MAX_VALUES, MAX_RANGES + 4)
    assert len(set(scale.texts)) == len(scale.texts)


@pytest.mark.parametrize(
    "values, texts",
    [
        ([1e-5 * 3**power for power in range(9)], ("1e-5 to 1e-4", "1e-4 to 1e-3", "1e-3 to 1e-2", "1e-2 to 0.1")),
        ([0.01 * number for number in range(1, 60, 2)], tuple(f"{n / 10:g} to {(n + 1) / 10:g}" for n in range(6))),
    ],
)  # fmt: skip
def test_many_numbers_are_put_into_ranges_between_round_numbers(values: list[float], texts: tuple[str, ...]) -> None:
    assert scale_of("learning_rate", values).texts == texts


def test_few_numbers_words_and_none_are_classes_of_their_own() -> None:
    assert scale_of("batch_size", [32, 128, 32, 64]).texts == ("32", "64", "128")
    assert scale_of("augmentation", ["light", "none", "light"]).texts == ("none", "light")
    assert scale_of("hidden_units", [None, 256, 64]).texts == ("64", "256", "none")


def test_words_stand_in_their_own_order_or_that_of_the_alphabet_and_none_last() -> None:
    policies = ["strong", "none", "standard", "light"]

    assert scale_of("augmentation", policies).texts == ("none", "light", "standard", "strong")
    assert scale_of("freeze", ["trunk", "none", "blocks1-3"]).texts == ("none", "blocks1-3", "trunk")
    assert scale_of("backbone", ["vgg16", "resnet18"]).texts == ("resnet18", "vgg16")


def test_a_setting_with_one_value_has_no_scale() -> None:
    assert make_scales(points_with("batch_size", [32, 32]), ["batch_size", "dropout"]) == []
    assert make_scales([], ["batch_size"]) == []
