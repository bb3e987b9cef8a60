"""Faults of data sets that have made scores wrong, each found by one function of the evidence.

Begin at `CHECKS`; `evidence` says what they look at, `finding` what they answer.
"""

from collections.abc import Callable

from ferray.audit.dataset.faults.balance import find_balancing, find_missing_classes, find_unlike_shares
from ferray.audit.dataset.faults.counts import find_cut_classes, find_foreign_count, find_known_order, find_too_many
from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.dataset.faults.files import (
    find_box_order,
    find_constant_pictures,
    find_overwritten_siblings,
    find_unreadable,
)
from ferray.audit.dataset.faults.labels import find_conflicts, find_mixed_order, find_shift
from ferray.audit.dataset.faults.leaks import find_leaks
from ferray.audit.dataset.faults.names import find_readable_names, find_sorted_rows
from ferray.audit.finding import SEVERITIES, Finding

CHECKS: tuple[Callable[[Evidence], list[Finding]], ...] = (
    find_box_order,
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
    find_shift,
    find_conflicts,
    find_unlike_shares,
    find_readable_names,
    find_sorted_rows,
)
"""Every check, in the order in which a person would look: the files, the counts, the splits, the labels, the names."""


def find_all(evidence: Evidence) -> list[Finding]:
    """The findings of every check, the gravest first, otherwise in the order of the checks."""
    findings = [finding for check in CHECKS for finding in check(evidence)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
