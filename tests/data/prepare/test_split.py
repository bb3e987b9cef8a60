"""Samples and splits: no group crosses a split, every class keeps its share, only seed and names decide."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.data.prepare.options import Shares, parse_shares
from ferray.data.prepare.split import split_groups
from ferray.data.sampling import draw_sample
from ferray.errors import DataError

SHARES = st.sampled_from([(0.7, 0.1, 0.2), (0.8, 0.0, 0.2), (0.0, 0.0, 1.0), (1 / 3, 1 / 3, 1 / 3), (0.9, 0.1, 0.0)])
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=150)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), min_size=1, max_size=120), SHARES, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_photograph_is_in_two_splits_and_no_face_in_a_split_not_asked_for(
    faces: list[tuple[int, int]], shares: Shares, seed: int
) -> None:
    groups = [f"{group}.jpg" for group, _ in faces]

    parts = split_groups(groups, [label for _, label in faces], shares, seed)

    assert all(shares[part] > 0 for part in parts)
    for group in set(groups):
        assert len({int(part) for part, name in zip(parts, groups, strict=True) if name == group}) == 1


@given(LABELS, SHARES, st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_with_one_face_a_photograph_every_class_misses_its_share_by_less_than_one_face(
    labels: list[int], shares: Shares, seed: int
) -> None:
    parts = split_groups([f"{number}.jpg" for number in range(len(labels))], labels, shares, seed)

    for label, total in Counter(labels).items():
        for split, share in enumerate(shares):
            have = sum(1 for part, each in zip(parts, labels, strict=True) if part == split and each == label)
            assert abs(have - share * total) < 1 + 1e-9


@given(LABELS, st.integers(0, 9), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_list_does_not_change_the_split(labels: list[int], seed: int, random: object) -> None:
    names = [f"{number}.jpg" for number in range(len(labels))]
    shuffled = list(zip(names, labels, strict=True))
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    before = dict(zip(names, split_groups(names, labels, (0.7, 0.1, 0.2), seed), strict=True))
    other = [name for name, _ in shuffled]
    after = dict(zip(other, split_groups(other, [label for _, label in shuffled], (0.7, 0.1, 0.2), seed), strict=True))

    assert before == after


def test_large_groups_leave_every_class_near_its_share() -> None:
    labels = [number % 7 for number in range(700)]
    groups = [f"{number // 5}.jpg" for number in range(700)]  # five faces of five classes each

    parts = split_groups(groups, labels, (0.7, 0.1, 0.2), seed=0)

    for label in range(7):
        for split, share in enumerate((0.7, 0.1, 0.2)):
            have = sum(1 for part, each in zip(parts, labels, strict=True) if part == split and each == label)
            assert abs(have - share * 100) <= 5


def test_another_seed_divides_differently_and_the_same_seed_equally() -> None:
    names = [f"{number}.jpg" for number in range(100)]
    one, again, two = (split_groups(names, [0] * 100, (0.7, 0.1, 0.2), seed).tolist() for seed in (1, 1, 2))

    assert one == again
    assert one != two


@given(LABELS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_sample_has_as_many_faces_as_asked_for_and_each_class_in_proportion(
    labels: list[int], data: st.DataObject
) -> None:
    num = data.draw(st.integers(1, len(labels)))

    chosen = draw_sample([str(number) for number in range(len(labels))], labels, num, seed=3)

    assert len(set(chosen)) == num
    drawn = Counter(labels[place] for place in chosen)
    for label, total in Counter(labels).items():
        assert abs(drawn[label] - num * total / len(labels)) < 1


def test_a_small_sample_of_one_class_lies_within_a_large_one() -> None:
    names = [str(number) for number in range(100)]

    assert set(draw_sample(names, [0] * 100, 10, seed=0)) < set(draw_sample(names, [0] * 100, 30, seed=0))


def test_shares_are_written_as_percent() -> None:
    assert parse_shares("70/10/20") == pytest.approx((0.7, 0.1, 0.2))
    assert parse_shares("0/0/100") == (0, 0, 1)


@pytest.mark.parametrize("text", ["70/30", "70/10/30", "a/b/c", "", "0.7/0.1/0.2", "120/-20/0", "nan/0/100", "inf/0/0"])
def test_other_shares_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(DataError, match="70/10/20"):
        parse_shares(text)
