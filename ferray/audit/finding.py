"""A finding: what was seen in a data set, why it matters, what to do about it. Begin at `Finding`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["fault", "warning", "note"]
"""`fault`: a score on this data would be wrong; `warning`: it may be, a person must look; `note`: worth knowing."""

SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")
"""The gravest first."""

NUM_EXAMPLES = 3
"""Named in a finding; more would not be read."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found, in words that need no knowledge of this program."""

    id: str
    """Short and stable: scripts and lists of exceptions may name it."""
    severity: Severity
    """How grave it is."""
    seen: str
    """What was seen, with figures."""
    matters: str
    """Why that matters."""
    advice: str
    """What to do."""
    num: int = 0
    """How many faces, pairs or rows it is about; 0 where that is no number of things."""
    examples: tuple[str, ...] = ()
    """A few of them, by name."""


def share(part: int, whole: int) -> str:
    """`12 of 1,800 (0.7 %)`."""
    return f"{part:,} of {whole:,} ({percent(part / whole)})"


def percent(fraction: float) -> str:
    """`0.7 %`."""
    return f"{100 * fraction:.1f} %"


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return f" {last} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
