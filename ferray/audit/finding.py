"""A finding: what was seen in a data set, why it matters, what to do about it. Begin at `Finding`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["fault", "warning", "note"]
"""`fault`: a score on this data would be wrong. `warning`: it may be wrong, and a person must look. `note`: useful to
know."""

SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")
"""The most severe first."""

NUM_EXAMPLES = 3
"""Number of examples in a finding."""

MAX_LISTED = 10
"""Names that a text lists."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One observation, in words that need no knowledge of this program."""

    id: str
    """Short and stable: scripts and lists of exceptions may use it."""
    severity: Severity
    """How severe it is."""
    seen: str
    """What was seen, with figures."""
    matters: str
    """Why it matters."""
    advice: str
    """What to do."""
    num: int = 0
    """Number of faces, pairs or rows that it concerns; 0 where it is not about a number of things."""
    examples: tuple[str, ...] = ()
    """A few of them, by name."""


def share(part: int, whole: int) -> str:
    """`12 of 1,800 (0.7 %)`."""
    return f"{part:,} of {whole:,} ({percent(part / whole)})"


def percent(fraction: float) -> str:
    """`0.7 %`."""
    return f"{100 * fraction:.1f} %"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a, b and c`; of many names the first ones, and how many there are more."""
    if len(names) > MAX_LISTED:
        names = [*names[:MAX_LISTED], f"{len(names) - MAX_LISTED:,} more"]
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with the most severe first, otherwise in the same order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def count_severities(findings: Sequence[Finding]) -> str:
    """`2 faults, 1 note`; empty for no findings."""
    counts = [(sum(finding.severity == severity for finding in findings), severity) for severity in SEVERITIES]
    return ", ".join(f"{num} {severity}{'s' * (num > 1)}" for num, severity in counts if num)
