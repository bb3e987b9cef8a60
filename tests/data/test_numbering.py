"""What the numbers of classes mean: proved by published counts, documented, or named; never guessed."""

from collections.abc import Mapping
from typing import Any

import pytest

from ferray.data.known_sets import KNOWN_SETS, WITH_CONTEMPT
from ferray.data.sources import affectnet, rafdb
from ferray.data.sources.numbering import Numbering, OrderName, choose_order
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError

ORDERS = {
    "rafdb": ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"),
    "affectnet": ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"),
    "alphabetical": ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    "fer2013": CLASS_NAMES,
}
PUBLISHED = {  # the counts of each set's own numbers, as its files have them
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
}
AFFECTNET_TRAIN = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)


def numbered(order: str, *, first: int, splits: tuple[str, ...] = ("train", "test")) -> dict[str, dict[int, int]]:
    """RAF-DB's pictures in folders that are numbered in an order."""
    counts = {}
    for split in splits:
        by_class = dict(zip(ORDERS["rafdb"], PUBLISHED[split], strict=True))
        counts[split] = {number: by_class[name] for number, name in enumerate(ORDERS[order], start=first)}
    return counts


def choose(counts: Mapping[str, Mapping[int, int]], **named: Any) -> Numbering:
    options = {"documented": None, "given": None, "readings": rafdb.READINGS}
    return choose_order(counts, CLASS_NAMES, rafdb.KNOWN, place="raf", what="folders", **(options | named))


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("order", ["rafdb", "affectnet", "alphabetical"])
@pytest.mark.parametrize("splits", [("train", "test"), ("test",)])
def test_the_published_counts_prove_the_order(order: OrderName, first: int, splits: tuple[str, ...]) -> None:
    numbering = choose(numbered(order, first=first, splits=splits))

    assert numbering.name == order
    assert numbering.is_proved
    assert numbering.classes == dict(enumerate(ORDERS[order], start=first))


def test_without_one_picture_nothing_is_proved_and_every_reading_is_named() -> None:
    counts = numbered("affectnet", first=0)
    counts["train"][3] -= 1
    counts["test"][3] -= 1

    with pytest.raises(DataError) as caught:
        choose(counts)

    text = str(caught.value)
    assert "not certain" in text
    assert "--order rafdb (0 surprise, 1 fear, 2 disgust, 3 happy, 4 sad, 5 angry, 6 neutral)" in text
    assert "--order affectnet (0 neutral, 1 happy, 2 sad, 3 surprise, 4 fear, 5 disgust, 6 angry)" in text
    assert "--order alphabetical (0 angry, 1 disgust" in text
    assert choose(counts, given="affectnet").classes[0] == "neutral"
    assert not choose(counts, given="affectnet").is_proved


def test_a_given_order_that_the_counts_contradict_is_refused() -> None:
    with pytest.raises(DataError, match="exactly RAF-DB's in the order affectnet, not rafdb"):
        choose(numbered("affectnet", first=0), given="rafdb")


def test_a_documented_order_is_taken_unless_counts_prove_another() -> None:
    few = {"train": dict.fromkeys(range(1, 8), 5)}

    assert choose(few, documented="rafdb").name == "rafdb"
    assert choose({"train": {2: 5, 6: 5}}, documented="rafdb").classes[2] == "fear"
    assert choose(numbered("alphabetical", first=1), documented="rafdb").name == "alphabetical"


def test_splits_in_unlike_orders_are_refused() -> None:
    counts = {"train": numbered("rafdb", first=0)["train"], "test": numbered("affectnet", first=0)["test"]}

    with pytest.raises(DataError, match="another order in each split: train as rafdb, test as affectnet"):
        choose(counts)


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 1, 2, 3, 4, 5), (2, 3, 4, 5, 6, 7, 8), (0, 1, 2, 3, 4, 5, 7)])
def test_numbers_that_are_not_those_of_seven_classes_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="which are not 7 classes"):
        choose({"train": dict.fromkeys(numbers, 5)})


@pytest.mark.parametrize("with_contempt", [True, False])
def test_an_affectnet_numbered_by_the_alphabet_is_recognized(with_contempt: bool) -> None:
    names = WITH_CONTEMPT if with_contempt else CLASS_NAMES
    own = dict(zip((*ORDERS["affectnet"], "contempt"), AFFECTNET_TRAIN, strict=True))
    counts = {"train": {number: own[name] for number, name in enumerate(sorted(names))}}
    counts["test"] = dict.fromkeys(counts["train"], 500)  # which proves nothing

    numbering = choose_order(
        counts, names, affectnet.KNOWN, readings=affectnet.READINGS, documented="affectnet", given=None,
        place="affectnet", what="labels",
    )  # fmt: skip

    assert numbering.name == "alphabetical"
    assert numbering.is_proved
    assert list(numbering.classes.values()) == sorted(names)


def test_affectnets_own_numbers_are_proved_too() -> None:
    counts = {"train": dict(enumerate(AFFECTNET_TRAIN))}

    numbering = choose_order(
        counts, WITH_CONTEMPT, affectnet.KNOWN, readings=affectnet.READINGS, documented="affectnet", given=None,
        place="affectnet", what="labels",
    )  # fmt: skip

    assert (numbering.name, numbering.is_proved) == ("affectnet", True)


def test_the_counts_of_these_tests_are_the_published_ones() -> None:
    known = next(known for known in KNOWN_SETS if known.name == "RAF-DB").in_order(ORDERS["rafdb"])

    assert known.parts == PUBLISHED
