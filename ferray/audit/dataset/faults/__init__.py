"""Faults of data sets that have made scores wrong; each check is one function of a `ScannedDataset`.

Begin at `CHECKS`.
"""

from collections.abc import Callable
from dataclasses import replace

from ferray.audit.dataset.faults.balance import find_balancing, find_differing_shares, find_missing_classes
from ferray.audit.dataset.faults.class_order import find_mixed_order
from ferray.audit.dataset.faults.counts import find_cut_classes, find_foreign_count, find_known_order, find_too_many
from ferray.audit.dataset.faults.files import (
    find_constant_pictures,
    find_overwritten_siblings,
    find_unreadable,
    find_wrong_box_order,
)
from ferray.audit.dataset.faults.labels import find_conflicting_labels, find_shifted_labels
from ferray.audit.dataset.faults.leaks import find_leaks
from ferray.audit.dataset.faults.names import find_readable_names, find_sorted_rows
from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import Finding, by_severity

CHECKS: tuple[Callable[[ScannedDataset], list[Finding]], ...] = (
    find_wrong_box_order,
    find_unreadable,
    find_constant_pictures,
    find_overwritten_siblings,
    find_foreign_count,
    find_too_many,
    find_known_order,
    find_cut_classes,
    find_missing_classes,
    find_balancing,
    find_leaks,
    find_mixed_order,
    find_shifted_labels,
    find_conflicting_labels,
    find_differing_shares,
    find_readable_names,
    find_sorted_rows,
)
"""Every check, in the order in which a person would look: the files, the counts, the splits, the labels, the names."""


def find_faults(dataset: ScannedDataset) -> tuple[Finding, ...]:
    """The findings of every check, the most severe first, otherwise in the order of the checks."""
    reword = dataset.subject.reword
    return by_severity(
        replace(
            finding,
            seen=reword(finding.seen),
            matters=reword(finding.matters),
            advice=reword(finding.advice),
            examples=tuple(map(reword, finding.examples)),
        )
        for check in CHECKS
        for finding in check(dataset)
    )
