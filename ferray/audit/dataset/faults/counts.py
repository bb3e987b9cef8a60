"""Counts of rows and classes beside those of the public set that the data is said to be.

Begin at any `find_`; `ferray.audit.dataset.known_sets` has the sets.
"""

import numpy as np

from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.dataset.known_sets import KNOWN, Counts, KnownSet
from ferray.audit.finding import Finding, listed, percent

CLOSE = 0.005
"""Relative difference of two numbers of rows that are said to be close."""
LEAST_MOVED = 0.1
"""Part of the faces that would have to change class to have the set's own shares; of 500 drawn at random, 0.04."""


def find_foreign_count(evidence: Evidence) -> list[Finding]:
    """A number of rows that belongs to another public set than the one that this is said to be."""
    total = evidence.num + len(evidence.faults)
    claimed = claimed_set(evidence)
    for known in KNOWN:
        what = known.totals().get(total)
        if what is None or (known is claimed and what in known.counts()):
            continue
        return [_foreign(known, what, total, claimed)]
    if claimed is None or evidence.sample is not None:
        return []
    for known in KNOWN:
        close = sum(known.counts().get("whole", ()))
        if known is not claimed and abs(total - close) <= CLOSE * close:
            return [_close(known, close, total, claimed)]
    return []


def find_known_order(evidence: Evidence) -> list[Finding]:
    """The class counts of a public set, on the wrong classes."""
    parts = {**evidence.parts, "whole": np.arange(evidence.num)}
    for split, rows in parts.items():
        counts = tuple(int(n) for n in evidence.counts(rows))
        for known in KNOWN:
            for part, own in known.counts().items():
                if sorted(own) == sorted(counts) and own != counts:
                    return [_wrong_classes(evidence, split, counts, known, part, own)]
    return []


def find_too_many(evidence: Evidence) -> list[Finding]:
    """More faces of a class than the public set has: some must be copies, or not from it."""
    claimed = claimed_set(evidence)
    if claimed is None:
        return []
    counts, whole = evidence.counts(np.arange(evidence.num)).tolist(), _whole(claimed)
    more = [
        f"{name} {here:,} instead of {there:,}"
        for name, here, there in zip(evidence.class_names, counts, whole, strict=True)
        if here > there
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
            num=sum(max(here - there, 0) for here, there in zip(counts, whole, strict=True)),
        )
    ]


def find_cut_classes(evidence: Evidence) -> list[Finding]:
    """Class shares that are not those of the public set: a part that was not drawn at random."""
    claimed = claimed_set(evidence)
    if claimed is None:
        return []
    here = evidence.counts(np.arange(evidence.num)) / evidence.num
    there = np.asarray(_whole(claimed)) / sum(_whole(claimed))
    if np.abs(here - there).sum() / 2 < LEAST_MOVED:
        return []
    label = int(np.argmax(np.abs(here - there)))
    return [
        Finding(
            id="class-shares-unlike-the-set",
            severity="note",
            seen=f"This is said to be {claimed.name}, where {evidence.class_names[label]} makes up "
            f"{percent(there[label])}; here it is {percent(here[label])}. Classes were cut or drawn on purpose.",
            matters=f"Scores on it cannot be compared with published ones of {claimed.name}, and where classes were "
            "cut from a list, their agreeing copies are missing: the noise ceiling above is then too low.",
            advice="Say how the part was drawn wherever a score is given, and compare balanced accuracy.",
        )
    ]


def claimed_set(evidence: Evidence) -> KnownSet | None:
    """The public set that the data is said to be, by its layout or its folder's name."""
    words = ["expw"] if evidence.form == "expw" else [evidence.dataset]
    words += [word.translate(str.maketrans("", "", "-_ .")) for word in evidence.place.casefold().split("/")[-2:]]
    if evidence.dataset == "demo":
        return None
    return next((known for word in words for known in KNOWN if word in known.aliases), None)


def _whole(known: KnownSet) -> Counts:
    """Faces of each class in all of a set."""
    counts = known.counts()
    return counts["whole"] if "whole" in counts else next(iter(counts.values()))


def _foreign(known: KnownSet, what: str, total: int, claimed: KnownSet | None) -> Finding:
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


def _close(known: KnownSet, close: int, total: int, claimed: KnownSet) -> Finding:
    return Finding(
        id="row-count-of-another-set",
        severity="warning",
        seen=f"This is said to be {claimed.name}, but its {total:,} rows are within {percent(CLOSE)} of the {close:,} "
        f"of {known.name} and are no number of {claimed.name}'s own.",
        matters="Two sets are easily mixed up, and scores on one say nothing of the other.",
        advice="Check where the files came from; if it is a sample, say so and how it was drawn.",
        num=total,
    )


def _wrong_classes(evidence: Evidence, split: str, counts: Counts, known: KnownSet, part: str, own: Counts) -> Finding:
    moved = [
        f"{name} {here:,} instead of {there:,}"
        for name, here, there in zip(evidence.class_names, counts, own, strict=True)
        if here != there
    ]
    return Finding(
        id="class-order-against-known-counts",
        severity="fault",
        seen=f"{split} has exactly the class counts of {known.name} ({part}), but on other classes: {listed(moved)}.",
        matters="The numbers of the labels were read in another order than they were written (folders are often "
        "numbered by the alphabet, lists are not), so that faces carry another class's name. Accuracy may look right "
        "all the same; every statement about a class is wrong.",
        advice=f"Compare the list of class names with {known.name}'s own, and look at some faces of each class.",
        num=len(moved),
    )
