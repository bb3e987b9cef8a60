"""Can scores on a data set be trusted? Its counts, its copies, its leaks, its noise ceiling, and every fault found.

    report = check_dataset(scan_dataset(Path("fer2013"), Threads()))
    print(format_report(report))

Begin at `check_dataset`; the checks are in `ferray.audit.dataset.faults`, one function each.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ferray.audit.dataset.faults import find_faults
from ferray.audit.dataset.faults.leaks import find_leakage
from ferray.audit.dataset.noise_ceiling import NoiseCeiling, measure_noise_ceiling
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import Finding
from ferray.data.copies.find import Copies
from ferray.data.subject import SubjectName

DEPENDENT_LABELS = {
    "classes-balanced-by-copies",
    "augmented-copies-across-splits",
    "validation-from-copies-of-training",
    "siblings-overwritten",
    "labels-shifted-by-one-row",
}
"""With one of these findings, the labels of copies are not independent, so that they do not show the label noise."""


@dataclass(frozen=True, kw_only=True)
class LeakCount:
    """Number of faces of a split that match a face of an earlier split."""

    earlier: str
    later: str
    num: int
    """Number of faces of the later split that have a match."""
    num_later: int
    """Number of all faces of the later split."""


@dataclass(frozen=True, kw_only=True)
class CopyCounts:
    """Number of copies."""

    num_groups: int
    """Groups of two pictures or more."""
    num_pictures: int
    """Pictures in those groups."""
    pairs: dict[str, int]
    """Pairs by kind; n equal files count as n - 1 pairs."""
    mirrored: int
    """Pairs in which one picture is the mirror image of the other."""
    borderline: int
    """Pairs that are nearly copies; they are not counted."""
    capped: int
    """Pictures that resemble so many others that only the most similar were compared."""
    chained: int
    """Pictures that resemble others in chains, and were not taken for copies."""


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """The result of all checks."""

    place: str
    form: str
    subject: SubjectName
    """What the pictures show."""
    num_faces: int
    num_photographs: int
    counts: dict[str, dict[str, int]]
    """Number of faces by split and class; the split is `whole` where there is none."""
    copies: CopyCounts | None
    """Among faces; None for faces drawn by code, which resemble each other without being copies."""
    photograph_copies: CopyCounts | None
    """Among whole photographs, where these hold several faces."""
    leaks: tuple[LeakCount, ...]
    ceiling: NoiseCeiling | None
    """None without copies, or where the labels of copies are not independent."""
    findings: tuple[Finding, ...]
    """The most severe first."""

    @property
    def has_fault(self) -> bool:
        """Whether scores on this data would be wrong."""
        return any(finding.severity == "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The same content as JSON values."""
        return asdict(self)


def check_dataset(dataset: ScannedDataset) -> DatasetReport:
    """Run all checks on a data set."""
    findings = find_faults(dataset)
    return DatasetReport(
        place=dataset.place,
        form=dataset.form,
        subject=dataset.subject.name,
        num_faces=dataset.num_faces,
        num_photographs=len(set(dataset.names)),
        counts={
            split: dict(zip(dataset.class_names, dataset.count_classes(rows).tolist(), strict=True))
            for split, rows in dataset.parts.items()
        },
        copies=_count_copies(dataset.copies),
        photograph_copies=_count_copies(dataset.photograph_copies),
        leaks=tuple(
            LeakCount(earlier=each.earlier, later=each.later, num=len(each.rows), num_later=each.num_later)
            for each in find_leakage(dataset)
        ),
        ceiling=_measure_ceiling(dataset) if DEPENDENT_LABELS.isdisjoint(each.id for each in findings) else None,
        findings=findings,
    )


def _count_copies(copies: Copies | None) -> CopyCounts | None:
    if copies is None:
        return None
    _, sizes = np.unique(copies.groups, return_counts=True)
    return CopyCounts(
        num_groups=int((sizes > 1).sum()),
        num_pictures=int(sizes[sizes > 1].sum()),
        pairs=dict(Counter[str](pair.kind for pair in copies.pairs)),
        mirrored=sum(pair.mirrored for pair in copies.pairs),
        borderline=len(copies.borderline),
        capped=len(copies.capped),
        chained=len(copies.chained),
    )


def _measure_ceiling(dataset: ScannedDataset) -> NoiseCeiling | None:
    if dataset.copies is None:
        return None
    is_picture = ~dataset.is_flat
    return measure_noise_ceiling(dataset.groups[is_picture], dataset.labels[is_picture])
