"""Faults that counts and names alone show: data sets without pictures."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.audit.dataset.faults.balance import find_differing_shares
from ferray.audit.dataset.faults.class_order import fit_class_order
from ferray.audit.dataset.faults.counts import find_cut_classes, find_foreign_count, find_known_order, find_too_many
from ferray.audit.dataset.faults.files import find_overwritten_siblings
from ferray.audit.dataset.faults.names import halves_by_name, predict_by_words
from ferray.audit.dataset.faults.thumbnail_classifier import predict_labels
from ferray.audit.dataset.scan.dataset import Form, ScannedDataset
from ferray.data.copies.find import Copies
from ferray.data.known_sets import KNOWN_SETS, find_order_slip
from ferray.data.subject import CLASS_NAMES

FER2013 = next(known for known in KNOWN_SETS if known.name == "FER2013")
EXPW = next(known for known in KNOWN_SETS if known.name == "ExpW")


def dataset_of(
    counts: tuple[int, ...],
    *,
    splits: np.ndarray | None = None,
    form: Form = "folders",
    place: str = "/somewhere",
    dataset: str = "",
    class_names: tuple[str, ...] = CLASS_NAMES,
) -> ScannedDataset:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    num = len(labels)
    none = Copies(groups=np.arange(num), pairs=(), borderline=(), num_compared=0, capped=(), flat=())
    return ScannedDataset(
        form=form,
        place=place,
        dataset=dataset,
        class_names=class_names,
        labels=labels,
        splits=np.full(num, -1) if splits is None else splits,
        names=tuple(f"{row}.png" for row in range(num)),
        face_ids=np.zeros(num, dtype=np.int64),
        thumbnails=np.broadcast_to(np.uint8(0), (num, 32, 32)),
        contrast=np.full(num, 50, dtype=np.float32),
        digests=tuple(row.to_bytes(4, "big") for row in range(num)),
        copies=none,
    )


@pytest.mark.parametrize(
    "name, part, total",
    [
        ("ExpW", "whole", 91_793),
        ("FER2013", "Training", 28_709),
        ("FER2013", "PublicTest", 3_589),
        ("FER2013", "PrivateTest", 3_589),
        ("FER2013", "PublicTest and PrivateTest", 7_178),
        ("FER2013", "whole", 35_887),
        ("RAF-DB", "train", 12_271),
        ("RAF-DB", "test", 3_068),
        ("RAF-DB", "whole", 15_339),
        ("AffectNet", "train of seven classes", 283_901),
        ("AffectNet", "whole", 287_401),
        ("CK+", "three frames of 327 sequences", 981),
    ],
)
def test_known_counts_add_up_to_the_published_sizes(name: str, part: str, total: int) -> None:
    known = next(known for known in KNOWN_SETS if known.name == name)

    assert sum(known.counts()[part]) == total


def test_known_counts_on_the_wrong_classes_are_found() -> None:
    angry, disgust, fear, happy, sad, surprise, neutral = FER2013.parts["PrivateTest"]
    as_printed = (angry, 416, 626, 594, 879, 55, 528)  # the slip of a published table
    assert sorted(as_printed) == sorted(FER2013.parts["PrivateTest"])

    (finding,) = find_known_order(dataset_of(as_printed))

    assert finding.id == "class-order-against-known-counts"
    assert finding.severity == "fault"
    assert "disgust 416 instead of 55" in finding.seen
    assert not find_known_order(dataset_of((angry, disgust, fear, happy, sad, surprise, neutral)))


def test_another_sets_number_of_rows_under_a_sets_name_is_a_fault() -> None:
    (finding,) = find_foreign_count(dataset_of(FER2013.counts()["whole"], place="/data/expw"))

    assert finding.severity == "fault"
    assert "said to be ExpW" in finding.seen
    assert "35,887" in finding.seen


def test_a_known_number_of_rows_without_a_claim_is_a_note() -> None:
    (finding,) = find_foreign_count(dataset_of(FER2013.counts()["whole"]))

    assert finding.severity == "note"


def test_expws_number_of_photographs_instead_of_faces_is_a_fault() -> None:
    (finding,) = find_foreign_count(dataset_of((68_090, 1, 1, 1, 1, 1, 1), place="/data/expw", form="expw"))

    assert "photographs, not faces" in finding.seen
    assert finding.severity == "fault"


def test_36000_rows_of_expw_are_a_warning_unless_they_were_asked_for() -> None:
    dataset = dataset_of((5_142, 5_143, 5_143, 5_143, 5_143, 5_143, 5_143), place="/data/expw", form="expw")

    (finding,) = find_foreign_count(dataset)

    assert finding.severity == "warning"
    assert not find_foreign_count(replace(dataset, sample=36_000))


def test_a_balanced_expw_of_36000_faces_must_hold_copies() -> None:
    dataset = dataset_of((5_142, 5_143, 5_143, 5_143, 5_143, 5_143, 5_143), form="expw")

    (finding,) = find_too_many(dataset)

    assert "fear 5,143 instead of 1,088" in finding.seen
    assert finding.severity == "fault"
    assert finding.num == 1_471 + 1_148 + 4_055


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_only_a_part_that_was_not_drawn_at_random_has_other_class_shares(seed: int) -> None:
    counts = np.random.default_rng(seed).multivariate_hypergeometric(EXPW.parts["whole"], 500)

    assert not find_cut_classes(dataset_of(tuple(counts.tolist()), form="expw"))
    assert find_cut_classes(dataset_of((80, 80, 80, 80, 80, 80, 80), form="expw"))


def test_a_slip_among_eight_classes_is_found_whatever_their_order() -> None:
    known = next(known for known in KNOWN_SETS if known.name == "AffectNet" and len(known.class_names) == 8)
    names = tuple(sorted(known.class_names))
    counts = dict(zip(known.class_names, known.whole, strict=True))
    assert sum(counts.values()) == 291_651
    right = [counts[name] for name in names]

    assert find_order_slip(names, right) is None
    slip = find_order_slip(names, [right[1], right[0], *right[2:]])

    assert slip is not None
    assert (slip.known.name, slip.part) == ("AffectNet", "whole")
    assert slip.moved == ("angry 4,250 instead of 25,382", "contempt 25,382 instead of 4,250")


def test_a_set_with_other_classes_than_the_known_one_is_not_compared_with_it() -> None:
    dataset = dataset_of((5,) * 8, place="/data/fer2013", class_names=(*CLASS_NAMES, "contempt"))

    assert not [*find_foreign_count(dataset), *find_too_many(dataset), *find_cut_classes(dataset)]


def test_a_balanced_number_of_rows_is_not_taken_for_a_balanced_set() -> None:
    assert not find_foreign_count(dataset_of((500,) * 7, place="/data/rafdb"))


def test_what_a_store_says_it_is_counts_more_than_the_name_of_its_folder() -> None:
    labels = dataset_of(FER2013.parts["PublicTest"], place="/data/rafdb", form="store", dataset="fer2013")

    assert not find_foreign_count(labels)


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: f"{known.name} {len(known.class_names)}")
def test_a_set_of_its_own_size_is_no_finding(known: object) -> None:
    assert isinstance(known, type(EXPW))
    for counts in (known.counts().get("whole"), *known.parts.values()):
        if counts is not None and sum(counts) < 100_000:
            dataset = dataset_of(counts, place=f"/data/{known.aliases[0]}", class_names=known.class_names)
            assert not [*find_foreign_count(dataset), *find_too_many(dataset), *find_known_order(dataset)]


def test_siblings_with_the_same_pixels_are_found_in_a_store() -> None:
    clean = dataset_of((4, 4, 4, 4, 4, 4, 4), form="store")
    names = tuple(f"photograph_{row // 2}.jpg" for row in range(clean.num_faces))
    siblings = replace(clean, names=names, face_ids=np.arange(clean.num_faces) % 2)

    assert not find_overwritten_siblings(siblings)

    (finding,) = find_overwritten_siblings(replace(siblings, digests=tuple(name.encode() for name in names)))
    assert finding.num == 14


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), num=st.integers(30, 3_000))
def test_random_splits_are_not_reported_as_different(seed: int, num: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.multinomial(num, [0.04, 0.044, 0.012, 0.333, 0.115, 0.077, 0.379])
    splits = random.choice(3, size=num, p=[0.7, 0.1, 0.2])

    assert not find_differing_shares(dataset_of(tuple(int(n) for n in counts), splits=splits))


def test_a_balanced_test_split_of_an_unbalanced_set_is_reported_as_different() -> None:
    counts = (400, 440, 120, 3_300, 1_150, 770, 3_800)
    splits = np.concatenate([np.repeat([0, 2], [n - 60, 60]) for n in counts])

    (finding,) = find_differing_shares(dataset_of(counts, splits=splits))

    assert "test" in finding.seen
    assert finding.severity == "warning"


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_words_without_a_meaning_predict_no_label(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(7, size=400)
    words = [frozenset({f"word{random.integers(30)}", f"place{random.integers(10)}"}) for _ in labels]

    right, guess = predict_by_words(words, labels, random.integers(2, size=400))

    assert right.mean() - guess < 0.1


def test_a_word_seen_in_one_half_only_predicts_nothing() -> None:
    labels = np.arange(400) % 7
    words = [frozenset({f"only{row}"}) for row in range(400)]

    right, guess = predict_by_words(words, labels, np.arange(400) // 200)

    assert right.mean() <= guess + 0.01


def test_one_photograph_is_in_one_half() -> None:
    dataset = dataset_of((9, 9, 9, 9, 9, 9, 9))
    halves = halves_by_name(replace(dataset, names=("a.jpg",) * 9 + tuple(f"{row}.jpg" for row in range(54))))

    assert len(set(halves[:9].tolist())) == 1
    assert set(halves.tolist()) == {0, 1}


def test_the_small_classifier_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    labels = random.integers(3, size=200)
    features = (random.normal(size=(200, 20)) + labels[:, None] * random.normal(size=20)).astype(np.float32)
    weights = (len(labels) / (3 * np.bincount(labels)))[labels]
    scaler = StandardScaler().fit(features)
    ones = np.ones((200, 1))
    inputs = np.concatenate([scaler.transform(features), ones], axis=1)
    reference = Ridge(alpha=10.0, fit_intercept=False).fit(inputs, np.eye(3)[labels], sample_weight=weights)

    assert (predict_labels(features, labels, features, 3) == reference.predict(inputs).argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("seed", range(20))
def test_random_predictions_have_no_other_order_of_classes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(7))
    labels, answers = generator.choice(7, 5000, p=shares), generator.choice(7, 5000, p=generator.dirichlet(np.ones(7)))
    assert not fit_class_order(labels, answers, 7).is_mixed


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_predictions_in_another_order_are_found(share: float) -> None:
    generator = np.random.default_rng(0)
    order = np.array([0, 2, 1, 3, 5, 4, 6])
    labels = generator.integers(0, 7, 5000)
    answers = np.where(generator.random(5000) < share, order[labels], generator.integers(0, 7, 5000))
    read = fit_class_order(labels, answers, 7)
    assert read.is_mixed
    assert share < 0.5 or read.order.tolist() == order.tolist()
