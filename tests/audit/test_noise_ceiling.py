"""The noise ceiling: its figures equal those of counting pairs one by one, and its intervals have their coverage."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from ferray.audit.dataset.noise_ceiling import NoiseCeiling, measure_noise_ceiling

FACES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=2, max_size=40)


def measure(groups: list[int], labels: list[int]) -> NoiseCeiling | None:
    return measure_noise_ceiling(np.array(groups), np.array(labels))


@given(FACES)
@settings(max_examples=60, deadline=None)
def test_every_figure_is_that_of_counting_one_by_one(faces: list[tuple[int, int]]) -> None:
    members: dict[int, list[int]] = {}
    for group, label in faces:
        members.setdefault(group, []).append(label)
    copied = [labels for labels in members.values() if len(labels) > 1]

    found = measure([group for group, _ in faces], [label for _, label in faces])

    if not copied:
        assert found is None
        return
    assert found is not None
    pairs = [
        (one, other, 1 / (len(labels) * (len(labels) - 1)))
        for labels in copied
        for at, one in enumerate(labels)
        for place, other in enumerate(labels)
        if at != place
    ]
    agreement = sum(weight for one, other, weight in pairs if one == other) / len(copied)
    best = [Counter(labels).most_common(1)[0][1] / len(labels) for labels in copied]
    assert (found.num_groups, found.num_faces) == (len(copied), sum(map(len, copied)))
    assert found.agreement.value == pytest.approx(agreement)
    assert found.upper_bound.value == pytest.approx(agreement**0.5)
    assert found.best_constant.value == pytest.approx(float(np.mean(best)))
    assert found.conflicts.value == pytest.approx(np.mean([len(set(labels)) > 1 for labels in copied]))
    ones, others, weights = zip(*pairs, strict=True)
    if len(set(ones)) == 1:
        assert found.kappa is None
    else:
        assert found.kappa is not None
        assert found.kappa.value == pytest.approx(cohen_kappa_score(ones, others, sample_weight=weights))


def label_twice(num: int, noise: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two labels a face of seven classes; a label is drawn anew with probability `noise`."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num), 2)
    truth = generator.integers(0, 7, num)[groups]
    return groups, np.where(generator.random(2 * num) < noise, generator.integers(0, 7, 2 * num), truth)


def test_the_best_possible_accuracy_lies_between_the_agreement_and_its_root() -> None:
    found = measure_noise_ceiling(*label_twice(5_000, 0.4, seed=0))

    assert found is not None
    best_possible = 0.6 + 0.4 / 7  # always the truth
    assert found.agreement.value < best_possible < found.upper_bound.value


def test_intervals_hold_the_true_agreement_about_as_often_as_they_should() -> None:
    true = (0.7 + 0.3 / 7) ** 2 + 6 * (0.3 / 7) ** 2

    found = [measure_noise_ceiling(*label_twice(80, 0.3, seed)) for seed in range(60)]

    held = sum(one is not None and one.agreement.low <= true <= one.agreement.high for one in found)
    assert held >= 51  # 57 expected


def test_faces_without_copies_count_for_nothing() -> None:
    groups, labels = label_twice(50, 0.5, seed=1)
    more = np.concatenate([groups, np.arange(1000, 1100)]), np.concatenate([labels, np.arange(100) % 7])

    assert measure_noise_ceiling(*more) == measure_noise_ceiling(groups, labels)
    assert measure_noise_ceiling(np.arange(5), np.zeros(5, dtype=np.int64)) is None


def test_the_names_of_groups_do_not_matter_and_a_second_call_is_equal() -> None:
    groups, labels = label_twice(50, 0.5, seed=1)

    assert measure_noise_ceiling(groups * 17 + 3, labels) == measure_noise_ceiling(groups, labels)


def test_the_text_warns_of_few_groups_and_of_classes_that_were_cut() -> None:
    few, many = (
        measure_noise_ceiling(*label_twice(8, 0.3, seed=2)),
        measure_noise_ceiling(*label_twice(80, 0.3, seed=2)),
    )

    assert "Only 8 groups" in str(few)
    assert "Only" not in str(many)
    assert "If a class was cut" in str(many)
    assert measure([0, 0, 1, 1], [3, 3, 3, 3]) is not None
    assert "undefined: one label only" in str(measure([0, 0, 1, 1], [3, 3, 3, 3]))
