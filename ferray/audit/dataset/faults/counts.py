"""Numbers of rows and classes, compared with the public data set that the data claims to be.

Begin at any `find_`; `ferray.data.known_sets` has the sets.
"""

import numpy as np

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import Finding, listed, percent
from ferray.data.known_sets import KnownSet, OrderSlip, find_order_slip, sets_of_classes

MAX_SIZE_DIFFERENCE = 0.005
"""Largest relative difference of two numbers of rows that are reported as similar."""
MIN_DIFFERENCE = 0.1
"""Smallest part of the faces that would have to change class to give the public set's shares, from which the difference
is reported. For 500 faces drawn at random it is 0.04."""


def find_foreign_count(dataset: ScannedDataset) -> list[Finding]:
    """A number of rows that is the size of another public set than the claimed one."""
    total = dataset.num_faces + len(dataset.faults)
    claimed = claimed_set(dataset)
    for known in sets_of_classes(dataset.class_names):
        what = known.totals().get(total)
        if what is None or (known == claimed and what in known.counts()):
            continue
        return [_foreign_size(known, what, total, claimed)]
    if claimed is None or dataset.sample is not None:
        return []
    for known in sets_of_classes(dataset.class_names):
        close = sum(known.counts().get("whole", ()))
        if known != claimed and abs(total - close) <= MAX_SIZE_DIFFERENCE * close:
            return [_similar_size(known, close, total, claimed)]
    return []


def find_known_order(dataset: ScannedDataset) -> list[Finding]:
    """The class counts of a public set, assigned to the wrong classes."""
    parts = {**dataset.parts, "whole": np.arange(dataset.num_faces)}
    for split, rows in parts.items():
        slip = find_order_slip(dataset.class_names, dataset.count_classes(rows).tolist())
        if slip is not None:
            return [_wrong_classes(split, slip)]
    return []


def find_too_many(dataset: ScannedDataset) -> list[Finding]:
    """More faces of a class than the claimed public set has: some must be copies, or from elsewhere."""
    claimed = claimed_set(dataset)
    if claimed is None:
        return []
    counts, whole = dataset.count_classes().tolist(), claimed.whole
    more = [
        f"{name} {num:,} instead of {expected:,}"
        for name, num, expected in zip(dataset.class_names, counts, whole, strict=True)
        if num > expected
    ]
    if not more:
        return []
    return [
        Finding(
            id="more-faces-than-the-set-has",
            severity="fault",
            seen=f"This is said to be {claimed.name}, but holds more faces of a class than that: {listed(more)}.",
            matters="The surplus can only be copies, altered or not, or faces from elsewhere. If they were made before "
            "the split, test faces have copies in train, and the rarest class is recalled best.",
            advice="Find the step that made them, and split before it; say what the data is wherever a score is given.",
            num=sum(max(num - expected, 0) for num, expected in zip(counts, whole, strict=True)),
        )
    ]


def find_cut_classes(dataset: ScannedDataset) -> list[Finding]:
    """Class shares that differ from the claimed public set: a part of it that was not drawn at random."""
    claimed = claimed_set(dataset)
    if claimed is None:
        return []
    shares = dataset.count_classes() / dataset.num_faces
    expected = np.asarray(claimed.whole) / sum(claimed.whole)
    if np.abs(shares - expected).sum() / 2 < MIN_DIFFERENCE:
        return []
    label = int(np.argmax(np.abs(shares - expected)))
    return [
        Finding(
            id="class-shares-unlike-the-set",
            severity="note",
            seen=f"This is said to be {claimed.name}, where {dataset.class_names[label]} makes up "
            f"{percent(expected[label])}; here it is {percent(shares[label])}. Classes were cut or drawn on purpose.",
            matters=f"Scores on it cannot be compared with published ones of {claimed.name}, and where classes were "
            "cut from a list, their agreeing copies are missing: the noise ceiling above is then too low.",
            advice="Say how the part was drawn wherever a score is given, and compare balanced accuracy.",
        )
    ]


def claimed_set(dataset: ScannedDataset) -> KnownSet | None:
    """The public set that the data claims to be, by its layout or its folder's name, as far as it has its classes."""
    if dataset.dataset == "demo":
        return None
    words = ["expw"] if dataset.form == "expw" else [dataset.dataset]
    if words[0] in ("", "csv"):
        words += [word.translate(str.maketrans("", "", "-_ .")) for word in dataset.place.casefold().split("/")[-2:]]
    known_sets = list(sets_of_classes(dataset.class_names))
    return next((known for word in words for known in known_sets if word in known.aliases), None)


def _foreign_size(known: KnownSet, what: str, total: int, claimed: KnownSet | None) -> Finding:
    of = f"the size of {known.name} ({what})"
    if claimed is None:
        return Finding(
            id="row-count-of-another-set",
            severity="note",
            seen=f"{total:,} rows are exactly {of}.",
            matters=f"If this is {known.name}, its published results can be compared with; if it is said to be "
            "another set, a folder was mixed up.",
            advice="Say which set it is wherever a score is given.",
            num=total,
        )
    sizes = listed([f"{n:,} ({name})" for n, name in claimed.totals().items()], "or")
    return Finding(
        id="row-count-of-another-set",
        severity="fault",
        seen=f"This is said to be {claimed.name}, which has {sizes}. It has {total:,} rows, exactly {of}.",
        matters=f"Scores would be reported for {claimed.name} and come from something else.",
        advice="Check where the files came from, look at some of them (ferray.data show), and name the set that they "
        "are.",
        num=total,
    )


def _similar_size(known: KnownSet, close: int, total: int, claimed: KnownSet) -> Finding:
    return Finding(
        id="row-count-of-another-set",
        severity="warning",
        seen=f"This is said to be {claimed.name}, but its {total:,} rows are within {percent(MAX_SIZE_DIFFERENCE)} "
        f"of the {close:,} of {known.name} and are no number of {claimed.name}'s own.",
        matters="Two sets are easily mixed up, and scores on one say nothing of the other.",
        advice="Check where the files came from; if it is a sample, say so and how it was drawn.",
        num=total,
    )


def _wrong_classes(split: str, slip: OrderSlip) -> Finding:
    return Finding(
        id="class-order-against-known-counts",
        severity="fault",
        seen=f"{split} has exactly the class counts of {slip.known.name} ({slip.part}), but on other classes: "
        f"{listed(slip.moved)}.",
        matters="The numbers of the labels were read in another order than they were written (folders are often "
        "numbered by the alphabet, lists are not), so that faces carry another class's name. Accuracy may look right "
        "all the same; every statement about a class is wrong.",
        advice=f"Compare the list of class names with {slip.known.name}'s own, and look at some faces of each class.",
        num=len(slip.moved),
    )
