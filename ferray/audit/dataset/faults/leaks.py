"""Leaks: faces of a later split that a model has met in an earlier one.

Each face of validation or test that has a relative in an earlier split is counted once, under the closest kind of
kinship: the same file, a frame of one series, an altered copy, any other copy. Begin at `find_relatives`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.dataset.faults.series import find_series
from ferray.audit.finding import NUM_EXAMPLES, Finding, Severity, listed, percent
from ferray.data.store.manifest import SPLITS

GRAVE = 0.005
"""Share of a split's faces with a relative in an earlier split from which a leak is a fault: it may add as much to the
score, and half a point is what methods are compared by. Below, it is a warning."""
ALTERED = 0.3
"""Share of leaking faces whose relatives are mirrored or named after them from which the copies were made on purpose:
of the copies that are in public sets by accident some 2 % are mirrored (6 of 275 pairs in a part of ExpW)."""
LEAST_ALTERED = 5
CHOSEN = 0.2
"""Share of validation faces that are copies of training faces from which validation was drawn after copies were made;
public sets that leak by accident stay far below."""

SAME, SERIES, ALIKE = 1, 2, 3
"""Kinds of kinship, the closest first."""


@dataclass(frozen=True, kw_only=True)
class Relatives:
    """Faces of one split with a relative in another, earlier one."""

    earlier: str
    later: str
    num_later: int
    """Faces of the later split."""
    rows: NDArray[np.int64]
    """Those with a relative, shape (n,)."""
    partners: NDArray[np.int64]
    """The closest relative of each in the earlier split, shape (n,)."""
    kinds: NDArray[np.int64]
    """`SAME`, `SERIES` or `ALIKE`, shape (n,)."""
    altered: NDArray[np.bool_]
    """Whether a relative is mirrored or named after the face, or the other way round, shape (n,)."""

    @property
    def share(self) -> float:
        """Of the later split's faces that have a relative."""
        return len(self.rows) / self.num_later


def find_relatives(evidence: Evidence) -> list[Relatives]:
    """For each pair of splits, the earlier first: train and validation, train and test, validation and test."""
    places = evidence.split_places
    if len(places) < 2:
        return []
    series = find_series(evidence)
    mirrored = [(pair.first, pair.second) for pair in evidence.pairs if pair.mirrored]
    altered = {pair for first, second in mirrored for pair in ((first, second), (second, first))}
    return [
        _relatives(evidence, series, altered, earlier, later)
        for later in places[1:]
        for earlier in places
        if earlier < later
    ]


def find_leaks(evidence: Evidence) -> list[Finding]:
    """Every kind of leak, one finding each, whichever splits it joins."""
    leaks: dict[str, list[_Leak]] = {}
    for relatives in find_relatives(evidence):
        for kind, rows in (("same", SAME), ("series", SERIES), ("alike", ALIKE)):
            chosen = np.flatnonzero(relatives.kinds == rows)
            if len(chosen):
                leak = _Leak(relatives=relatives, chosen=chosen)
                leaks.setdefault(_name_alike(leak) if kind == "alike" else kind, []).append(leak)
    return [_finding(evidence, kind, leaks[kind]) for kind in _WORDS if kind in leaks]


def _relatives(
    evidence: Evidence, series: NDArray[np.int64], mirrored: set[tuple[int, int]], earlier: int, later: int
) -> Relatives:
    by_digest: dict[bytes, int] = {}
    by_group: dict[int, list[int]] = {}
    by_series: dict[int, int] = {}
    by_photograph: dict[int, int] = {}
    stems: dict[str, int] = {}
    for row in np.flatnonzero(evidence.splits == earlier).tolist():
        by_digest.setdefault(evidence.digests[row], row)
        by_group.setdefault(int(evidence.groups[row]), []).append(row)
        by_photograph.setdefault(int(evidence.photographs[row]), row)
        stems.setdefault(evidence.stems[row], row)
        if series[row] >= 0:
            by_series.setdefault(int(series[row]), row)
    rows_later = np.flatnonzero(evidence.splits == later)
    found: list[tuple[int, int, int, bool]] = []
    for row in rows_later.tolist():
        group = by_group.get(int(evidence.groups[row]), [])
        twin = by_digest.get(evidence.digests[row], by_photograph.get(int(evidence.photographs[row])))
        namesakes = [other for other in group if _is_derived(evidence.stems[row], evidence.stems[other])]
        flipped = [other for other in group if (row, other) in mirrored]
        is_altered = bool(namesakes or flipped)
        if twin is not None:
            found.append((row, twin, SAME, is_altered))
        elif (frame := by_series.get(int(series[row]))) is not None:
            found.append((row, frame, SERIES, is_altered))
        elif group:
            found.append((row, [*flipped, *namesakes, *group][0], ALIKE, is_altered))
    columns = np.asarray(found, dtype=np.int64).reshape(-1, 4)
    return Relatives(
        earlier=SPLITS[earlier],
        later=SPLITS[later],
        num_later=len(rows_later),
        rows=columns[:, 0],
        partners=columns[:, 1],
        kinds=columns[:, 2],
        altered=columns[:, 3].astype(np.bool_),
    )


def _is_derived(stem: str, other: str) -> bool:
    """Whether one name is the other with an ending, as programs that alter pictures write them: `7` and `7_flip`."""
    short, long = sorted((stem, other), key=len)
    return len(long) > len(short) and long.startswith(short) and not long[len(short)].isalnum()


@dataclass(frozen=True, kw_only=True)
class _Leak:
    """Faces of one kind of kinship between two splits."""

    relatives: Relatives
    chosen: NDArray[np.int64]
    """Places in `relatives.rows`."""

    @property
    def num_altered(self) -> int:
        """Those with a relative that is mirrored or named after them."""
        return int(self.relatives.altered[self.chosen].sum())

    @property
    def severity(self) -> Severity:
        """By the share of the later split."""
        return "fault" if len(self.chosen) >= GRAVE * self.relatives.num_later else "warning"

    def __str__(self) -> str:
        relatives = self.relatives
        num, total = len(self.chosen), relatives.num_later
        whose = f"{relatives.later} faces ({percent(num / total)})"
        return f"{num:,} of {total:,} {whose} have one in {relatives.earlier}"


def _name_alike(leak: _Leak) -> str:
    """What made near-copies: accident, augmentation before the split, or a validation split drawn from copies."""
    num, num_later = len(leak.chosen), leak.relatives.num_later
    is_altered = leak.num_altered >= max(LEAST_ALTERED, ALTERED * num)
    is_chosen = num >= max(LEAST_ALTERED, CHOSEN * num_later)
    if leak.relatives.later == "validation" and (is_altered or is_chosen):
        return "validation"
    return "altered" if is_altered else "near"


_WORDS = {
    "same": (
        "same-photograph-across-splits",
        "Photographs lie in two splits, byte for byte: {shares}.",
        "The model has been taught the answers to these faces, so accuracy comes out too high, by up to that share.",
    ),
    "altered": (
        "augmented-copies-across-splits",
        "Altered copies lie in two splits: {shares}; {altered:,} of them are mirrored or carry the other's name with "
        "an ending, so they were made by augmentation.",
        "Pictures were altered first and split afterwards: train holds altered copies of the faces that the model is "
        "scored on. The score then measures memory, and can lie tens of points too high.",
    ),
    "validation": (
        "validation-from-copies-of-training",
        "Validation holds copies of training faces: {shares}. It was drawn after copies had been made.",
        "Validation then rewards memory: early stopping comes too late, the search picks the settings that overfit "
        "most, and validation accuracy lies far above test accuracy.",
    ),
    "near": (
        "copies-across-splits",
        "Near-copies lie in two splits, the same picture in another size, quality or framing: {shares}; {altered:,} of "
        "them mirrored or named after each other.",
        "A model that remembers a picture knows its copy, too: accuracy comes out too high, and says less about new "
        "faces than it seems to.",
    ),
    "series": (
        "series-across-splits",
        "Frames of one series lie in two splits, with names that differ in a running number only and nearly equal "
        "pictures: {shares}.",
        "It is the same person in the same light with the same expression, a moment later. The score then says how "
        "well the model knows these people, not how it does on others.",
    ),
}
"""Kind to the finding's id, what was seen and why it matters; the gravest usually first."""


def _finding(evidence: Evidence, kind: str, leaks: list[_Leak]) -> Finding:
    name, seen, matters = _WORDS[kind]
    gravest = kind == "validation" or any(leak.severity == "fault" for leak in leaks)
    return Finding(
        id=name,
        severity="fault" if gravest else "warning",
        seen=seen.format(shares=listed([str(leak) for leak in leaks]), altered=sum(leak.num_altered for leak in leaks)),
        matters=matters,
        advice=_advise(evidence, kind, leaks),
        num=sum(len(leak.chosen) for leak in leaks),
        examples=_name_some(evidence, leaks),
    )


def _advise(evidence: Evidence, kind: str, leaks: list[_Leak]) -> str:
    if kind == "series":
        return "Split by person: all frames of one person into one split. Of a series, a few frames are enough."
    first = "Split the original photographs first; alter and copy afterwards, in train alone. "
    first = first if kind in ("altered", "validation") else ""
    if evidence.is_tree:
        return (
            f"{first}To clean this split: python -m ferray.data prepare folders --images DIR --out STORE --drop-leaks "
            "takes the copies out of the earlier split and leaves the later as it is."
        )
    earlier = listed(sorted({leak.relatives.earlier for leak in leaks}))
    return f"{first}Take these faces out of {earlier}, or split again with all copies of a photograph on one side."


def _name_some(evidence: Evidence, leaks: list[_Leak]) -> tuple[str, ...]:
    """A few by name, at even distances, so that they are of several splits and classes."""
    pairs = [
        (relatives.rows[at], relatives.partners[at])
        for relatives, chosen in ((leak.relatives, leak.chosen) for leak in leaks)
        for at in chosen.tolist()
    ]
    some = np.linspace(0, len(pairs) - 1, min(NUM_EXAMPLES, len(pairs))).round().astype(np.int64)
    return tuple(f"{evidence.describe(pairs[at][0])} = {evidence.describe(pairs[at][1])}" for at in some.tolist())
