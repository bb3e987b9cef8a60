import csv
import io
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from ferray.commands import report
from ferray.errors import DataError
from ferray.metrics.intervals import Bootstrap
from ferray.metrics.labeled import LabeledPredictions
from ferray.report.slices import (
    MIN_FACES,
    Slice,
    read_recorded_predictions,
    score_slices,
    slices_csv,
    worst_in_words,
    worst_slice,
    worst_to_json,
)


def make_faces(num: int = 1200, *, seed: int = 0) -> dict[str, Any]:
    """Faces of three classes; class 2 is hard. Slice "easy" has few of it, "weak" is worse in every class."""
    generator = np.random.default_rng(seed)
    kind = generator.choice(["plain", "easy", "weak"], size=num, p=[0.6, 0.25, 0.15])
    shares = {"plain": [0.3, 0.3, 0.4], "easy": [0.45, 0.45, 0.1], "weak": [0.3, 0.3, 0.4]}
    labels = np.array([generator.choice(3, p=shares[name]) for name in kind])
    chance = np.array([0.9, 0.8, 0.3])[labels] - 0.25 * (kind == "weak")
    predicted = np.where(generator.random(num) < chance, labels, (labels + 1) % 3)
    return {"kind": kind, "labels": labels, "predicted": predicted, "groups": np.arange(num) // 2}


def cut(faces: dict[str, Any], by: str | None = None, **columns: Any) -> list[Slice]:
    table = pandas.DataFrame({"source": "x.jpg", "label": faces["labels"], "kind": faces["kind"], **columns})
    predictions = LabeledPredictions(
        class_names=("0", "1", "2"),
        labels=faces["labels"],
        predicted=faces["predicted"],
        probabilities=None,
        groups=faces["groups"],
    )
    return score_slices(table, predictions, by=by, bootstrap=Bootstrap(resamples=500))


def test_a_slice_of_easy_labels_is_not_better_once_it_is_brought_to_the_labels_of_all() -> None:
    faces = make_faces()
    slices = {one.value: one for one in cut(faces)}
    inside = faces["kind"] == "easy"
    right = faces["labels"] == faces["predicted"]

    assert slices["easy"].accuracy == np.mean(right[inside])
    assert slices["easy"].accuracy - np.mean(right) > 0.1
    assert abs(slices["easy"].gap) < 0.05
    shares = np.bincount(faces["labels"]) / len(right)
    by_hand = sum(shares[label] * right[inside & (faces["labels"] == label)].mean() for label in range(3))
    assert slices["easy"].standardized == pytest.approx(by_hand)
    assert slices["easy"].gap == pytest.approx(by_hand - np.mean(right))


def test_the_worst_slice_is_named_and_judged_for_all_that_were_looked_at() -> None:
    slices = cut(make_faces())
    worst = worst_slice(slices)

    assert worst is not None
    assert (worst.value, worst.num_compared, worst.beyond_noise) == ("weak", 3, True)
    assert "larger than chance explains among so many slices" in worst_in_words(worst)
    gap_error = next(one.gap_error for one in slices if one.value == "weak")
    assert worst.gap_interval[0] < worst.gap - 1.96 * gap_error
    assert worst_to_json(slices) == asdict(next(one for one in slices if one.value == "weak")) | {
        "interval": worst.gap_interval,
        "slices": 3,
        "beyond_noise": True,
    }


def test_one_slice_is_not_the_worst_of_many() -> None:
    for of_slices in (cut(make_faces()), cut(make_faces(), kind=np.where(np.arange(1200) % 4, "all", "rare"))):
        told = worst_in_words(worst_slice(of_slices[:1]))
        assert told.startswith("The only slice that can be compared is **")
        assert "slices" not in told
        assert "so many" not in told


def test_among_many_slices_of_nothing_the_worst_is_seldom_called_worse() -> None:
    alarms = 0
    for seed in range(20):
        faces, generator = make_faces(400, seed=seed), np.random.default_rng(seed)
        faces["kind"] = generator.choice(["a", "b"], 400)
        more = {f"column_{number}": generator.choice(["c", "d", "e"], 400) for number in range(4)}
        worst = worst_slice(cut(faces, **more))
        alarms += worst is not None and worst.beyond_noise

    assert alarms <= 3  # 1 expected


def test_an_empty_class_is_left_out_on_both_sides_and_said() -> None:
    faces = make_faces()
    faces["kind"] = np.where((faces["kind"] == "easy") & (faces["labels"] == 2), "plain", faces["kind"])
    easy = next(one for one in cut(faces) if one.value == "easy")
    right, two = faces["labels"] == faces["predicted"], faces["labels"] < 2
    shares = np.bincount(faces["labels"][two]) / two.sum()
    of_all = sum(shares[label] * right[faces["labels"] == label].mean() for label in range(2))

    assert easy.covered == pytest.approx(np.mean(two))
    assert easy.standardized - easy.gap == pytest.approx(of_all)
    assert worst_slice([easy]) is None
    assert "No slice" in worst_in_words(None)


def test_the_interval_of_a_slice_is_that_of_a_slow_bootstrap_of_whole_groups() -> None:
    faces = make_faces()
    weak = next(one for one in cut(faces) if one.value == "weak")
    inside = np.flatnonzero(faces["kind"] == "weak")
    right, groups = (faces["labels"] == faces["predicted"])[inside], faces["groups"][inside]
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    generator = np.random.default_rng(3)
    drawn = [
        right[np.concatenate([members[at] for at in generator.integers(0, len(members), len(members))])].mean()
        for _ in range(800)
    ]

    assert weak.interval == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.015)
    assert weak.groups == len(members)


def test_numbers_are_cut_into_equally_full_ranges_that_hold_every_face_once() -> None:
    faces = make_faces()
    sizes = np.random.default_rng(0).integers(46, 400, 1200)
    slices = cut(faces, by="face_px", face_px=sizes)

    assert len(slices) == 4
    assert sum(one.n for one in slices) == 1200
    assert all(one.n == pytest.approx(300, abs=12) for one in slices)
    assert slices[0].value.startswith("46 to ")
    assert slices[-1].value.endswith(f" to {sizes.max()}")


def test_search_words_are_merged_and_never_called_a_property_of_people() -> None:
    faces = make_faces()
    faces["predicted"] = np.where(np.arange(1200) % 4 == 0, (faces["labels"] + 1) % 3, faces["labels"])
    words = np.array(["grandfather", "African", "wife", "xylophone"])[np.arange(1200) % 4]
    slices = cut(faces, by="subject_word", subject_word=words)

    assert {one.value: one.n for one in slices} == {"woman, girl": 300, "man, boy": 300, "older": 300, "origin": 300}
    told = worst_in_words(worst_slice(slices))
    assert "queries" in told
    assert "no claim about groups of people" in told
    assert "queries" not in worst_in_words(worst_slice(cut(make_faces())))


def test_small_slices_whole_ones_and_names_are_not_shown() -> None:
    faces = make_faces()
    rare = np.where(np.arange(1200) < MIN_FACES - 1, "rare", "common")
    names = [f"photo {number}" for number in range(1200)]
    cuts = cut(faces, rare=rare, constant="same", name=names, same_face=np.arange(1200))
    values = {(one.column, one.value) for one in cuts}

    assert ("rare", "common") in values
    assert not values & {("rare", "rare"), ("constant", "same")}
    assert {column for column, _ in values} == {"kind", "rare"}


def test_an_unknown_column_is_named_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"colour[\s\S]*Known: kind"):
        cut(make_faces(), by="colour")


def test_a_folder_without_predictions_names_the_command_that_writes_them(tmp_path: Path) -> None:
    best = tmp_path / "my best"
    best.mkdir()
    with pytest.raises(DataError) as caught:
        read_recorded_predictions(best)
    words = shlex.split(caught.value.args[2].partition(": ")[2])

    assert words[:3] == ["python", "-m", "ferray.report"]
    options = report._parse(words[3:], "report")
    assert options.predictions == best / "predictions.csv"  # type: ignore[union-attr]


def test_the_table_of_slices_is_csv_with_a_header() -> None:
    slices = cut(make_faces())
    rows = list(csv.DictReader(io.StringIO(slices_csv(slices))))

    assert [row["value"] for row in rows] == [one.value for one in slices]
    assert float(rows[0]["gap"]) == pytest.approx(slices[0].gap, abs=1e-4)


@pytest.mark.parametrize("num_wrong", [1, 2])
def test_many_faces_of_one_person_are_no_worst_slice_and_their_accuracy_is_not_certain(num_wrong: int) -> None:
    faces = make_faces()
    person = np.where(np.arange(1200) < 40, "one", "others")
    faces["groups"] = np.where(person == "one", 0, 1 + np.arange(1200))
    faces["predicted"] = np.where(
        (person == "one") & (np.arange(1200) % num_wrong == 0), (faces["labels"] + 1) % 3, faces["predicted"]
    )
    slices = cut(faces, by="person", person=person)
    one, worst = next(each for each in slices if each.value == "one"), worst_slice(slices)

    assert one.groups == 1
    assert one.interval[1] - one.interval[0] > 0.7
    assert worst is not None
    assert worst.value == "others"
