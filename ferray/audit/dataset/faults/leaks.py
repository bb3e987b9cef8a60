"""Leaks: faces of a later split that match a face of an earlier one.

A face of validation or test that matches a face of an earlier split is counted once, under the closest kind of match:
the same photograph, a frame of the same series, a near-copy. Begin at `find_leakage`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.series import find_series
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import NUM_EXAMPLES, Finding, listed, percent
from ferray.data.sampling import evenly_spaced
from ferray.data.store.manifest import SPLITS

MIN_FAULT_LEAK = 0.005
"""Share of a split's faces with a match in an earlier split from which a leak is a fault. It may raise the score by as
much, and methods are compared by differences of half a point. Below, it is a warning."""
MIN_ALTERED_SHARE = 0.3
"""Share of the matches that are mirrored, or named after each other, from which the copies were made on purpose. Of the
copies that are in public sets by accident, some 2 % are mirrored (6 of 275 pairs in a part of ExpW)."""
MIN_ALTERED = 5
MIN_COPIED_VALIDATION = 0.2
"""Share of validation faces that are copies of training faces from which validation was drawn after copies were made;
public sets that leak by accident have far smaller shares."""

SAME_PHOTOGRAPH, SAME_SERIES, NEAR_COPY = 1, 2, 3
"""Kinds of matches, the closest first."""


@dataclass(frozen=True, kw_only=True)
class SplitLeakage:
    """The faces of one split that match a face of an earlier split."""

    earlier: str
    later: str
    num_later: int
    """Number of faces of the later split."""
    rows: NDArray[np.int64]
    """The faces of the later split that have a match, shape (n,)."""
    partners: NDArray[np.int64]
    """The closest match of each in the earlier split, shape (n,)."""
    kinds: NDArray[np.int64]
    """`SAME_PHOTOGRAPH`, `SAME_SERIES` or `NEAR_COPY`, shape (n,)."""
    is_altered: NDArray[np.bool_]
    """Whether a match is mirrored, or one of the two is named after the other, shape (n,)."""


def find_leakage(dataset: ScannedDataset) -> list[SplitLeakage]:
    """Match each pair of splits: train and validation, train and test, validation and test."""
    places = dataset.split_places
    if len(places) < 2:
        return []
    series = find_series(dataset)
    mirrored = {pair.places for pair in dataset.pairs if pair.mirrored}
    mirrored |= {(second, first) for first, second in mirrored}
    return [
        _match_splits(dataset, series, mirrored, earlier, later)
        for later in places[1:]
        for earlier in places
        if earlier < later
    ]


def find_leaks(dataset: ScannedDataset) -> list[Finding]:
    """One finding for each kind of leak, over all pairs of splits."""
    leaks: dict[str, list[_Leak]] = {}
    for leakage in find_leakage(dataset):
        for match, kind in ((SAME_PHOTOGRAPH, "same"), (SAME_SERIES, "series"), (NEAR_COPY, "near")):
            chosen = np.flatnonzero(leakage.kinds == match)
            if len(chosen):
                leak = _Leak(leakage=leakage, chosen=chosen)
                leaks.setdefault(_kind_of_near_copies(leak) if match == NEAR_COPY else kind, []).append(leak)
    return [_make_finding(dataset, kind, leaks[kind]) for kind in _TEXTS if kind in leaks]


def _match_splits(
    dataset: ScannedDataset, series: NDArray[np.int64], mirrored: set[tuple[int, int]], earlier: int, later: int
) -> SplitLeakage:
    """Find the closest match of each face of a later split in an earlier one."""
    by_digest: dict[bytes, int] = {}
    by_group: dict[int, list[int]] = {}
    by_series: dict[int, int] = {}
    by_photograph: dict[int, int] = {}
    for row in np.flatnonzero(dataset.splits == earlier).tolist():
        by_digest.setdefault(dataset.digests[row], row)
        by_group.setdefault(int(dataset.groups[row]), []).append(row)
        by_photograph.setdefault(int(dataset.photographs[row]), row)
        if series[row] >= 0:
            by_series.setdefault(int(series[row]), row)
    rows_later = np.flatnonzero(dataset.splits == later)
    found: list[tuple[int, int, int, bool]] = []
    for row in rows_later.tolist():
        copies = by_group.get(int(dataset.groups[row]), [])
        same = by_digest.get(dataset.digests[row], by_photograph.get(int(dataset.photographs[row])))
        frame = by_series.get(int(series[row]))
        derived = [other for other in copies if _is_derived(dataset.stems[row], dataset.stems[other])]
        flipped = [other for other in copies if (row, other) in mirrored]
        is_altered = bool(derived or flipped)
        if same is not None:
            found.append((row, same, SAME_PHOTOGRAPH, is_altered))
        elif frame is not None:
            found.append((row, frame, SAME_SERIES, is_altered))
        elif copies:
            found.append((row, [*flipped, *derived, *copies][0], NEAR_COPY, is_altered))
    columns = np.asarray(found, dtype=np.int64).reshape(-1, 4)
    return SplitLeakage(
        earlier=SPLITS[earlier],
        later=SPLITS[later],
        num_later=len(rows_later),
        rows=columns[:, 0],
        partners=columns[:, 1],
        kinds=columns[:, 2],
        is_altered=columns[:, 3].astype(np.bool_),
    )


def _is_derived(stem: str, other: str) -> bool:
    """Whether one name is the other with an ending, as programs that alter pictures write them: `7` and `7_flip`."""
    short, long = sorted((stem, other), key=len)
    return len(long) > len(short) and long.startswith(short) and not long[len(short)].isalnum()


@dataclass(frozen=True, kw_only=True)
class _Leak:
    """The matches of one kind between two splits."""

    leakage: SplitLeakage
    chosen: NDArray[np.int64]
    """Places in `leakage.rows`."""

    @property
    def num_altered(self) -> int:
        """Number of altered copies among them."""
        return int(self.leakage.is_altered[self.chosen].sum())

    @property
    def is_fault(self) -> bool:
        """Whether the matches are a large enough share of the later split."""
        return len(self.chosen) >= MIN_FAULT_LEAK * self.leakage.num_later

    def __str__(self) -> str:
        num, total = len(self.chosen), self.leakage.num_later
        whose = f"{self.leakage.later} faces ({percent(num / total)})"
        return f"{num:,} of {total:,} {whose} have one in {self.leakage.earlier}"


def _kind_of_near_copies(leak: _Leak) -> str:
    """The origin of near-copies: accident, augmentation before the split, or a validation split drawn from copies."""
    num, num_later = len(leak.chosen), leak.leakage.num_later
    is_altered = leak.num_altered >= max(MIN_ALTERED, MIN_ALTERED_SHARE * num)
    is_large = num >= max(MIN_ALTERED, MIN_COPIED_VALIDATION * num_later)
    if leak.leakage.later == "validation" and (is_altered or is_large):
        return "validation"
    return "altered" if is_altered else "near"


_TEXTS = {
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
"""By kind: the finding's id, what was seen and why it matters; usually the most severe first."""


def _make_finding(dataset: ScannedDataset, kind: str, leaks: list[_Leak]) -> Finding:
    name, seen, matters = _TEXTS[kind]
    is_fault = kind == "validation" or any(leak.is_fault for leak in leaks)
    return Finding(
        id=name,
        severity="fault" if is_fault else "warning",
        seen=seen.format(shares=listed([str(leak) for leak in leaks]), altered=sum(leak.num_altered for leak in leaks)),
        matters=matters,
        advice=_advise(dataset, kind, leaks),
        num=sum(len(leak.chosen) for leak in leaks),
        examples=_name_examples(dataset, leaks),
    )


def _advise(dataset: ScannedDataset, kind: str, leaks: list[_Leak]) -> str:
    if kind == "series":
        return "Split by person: all frames of one person into one split. Of a series, a few frames are enough."
    first = "Split the original photographs first; alter and copy afterwards, in train alone. "
    first = first if kind in ("altered", "validation") else ""
    if dataset.is_tree:
        return (
            f"{first}To clean this split: python -m ferray.data prepare folders --images DIR --out STORE --drop-leaks "
            "takes the copies out of the earlier split and leaves the later as it is."
        )
    earlier = listed(sorted({leak.leakage.earlier for leak in leaks}))
    return f"{first}Take these faces out of {earlier}, or split again with all copies of a photograph on one side."


def _name_examples(dataset: ScannedDataset, leaks: list[_Leak]) -> tuple[str, ...]:
    """A few pairs by name, at even distances, so that they come from several splits and classes."""
    pairs = [
        (int(leak.leakage.rows[at]), int(leak.leakage.partners[at])) for leak in leaks for at in leak.chosen.tolist()
    ]
    some = [pairs[at] for at in evenly_spaced(np.arange(len(pairs)), NUM_EXAMPLES).tolist()]
    return tuple(f"{dataset.describe(row)} = {dataset.describe(partner)}" for row, partner in some)
