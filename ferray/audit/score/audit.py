"""The audit of a reported score: it is recomputed under every name, and checked for reasons to distrust it.

It needs nothing but a prediction table, ferray's own or anybody's. For a claimed number alone it lists the scores that
the number could be. The checks are in `ferray.audit.score.findings`, one function each. Begin at `audit`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ferray.audit.finding import SEVERITIES, Finding
from ferray.audit.score.claims import PUBLISHED, Claim, ClaimedScores, Published, read_claim
from ferray.audit.score.findings.claims import CLAIM_CHECKS
from ferray.audit.score.findings.evidence import ScoreEvidence
from ferray.audit.score.findings.tables import TABLE_CHECKS
from ferray.data.known_sets import KNOWN_SETS
from ferray.data.subject import CLASS_NAMES
from ferray.errors import DataError
from ferray.metrics.predictions import PredictionTable
from ferray.metrics.scores import Scores, score


@dataclass(frozen=True, kw_only=True)
class ScoreContext:
    """What is known about the data set and the test split besides the table and the claims."""

    published: tuple[Published, ...] = ()
    """Published accuracies for the data set that the faces are from, or for all known ones."""
    source_counts: Mapping[str, int] | None = None
    """Faces of each class in the data set that the table's faces were taken from."""
    ceiling: float | None = None
    """The best accuracy that the noise of the labels allows."""
    test_read_for: tuple[str | None, ...] = ()
    """Trial ids of the models that the test split was read for, one per reading."""


NO_CLAIMS, NO_CONTEXT = ClaimedScores(), ScoreContext()


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A recomputed score, and the reasons to distrust it."""

    split: str
    """The split whose rows were scored: `test` where the table has such rows, else `all`."""
    scores: Scores | None
    """None where only claims are known."""
    by_split: Mapping[str, Scores]
    """Scores of every split that the table names."""
    claims: tuple[Claim, ...]
    published: tuple[Published, ...]
    """Published accuracies to compare the claims with."""
    findings: tuple[Finding, ...]
    """The most severe first."""

    @property
    def has_fault(self) -> bool:
        """Whether a finding proves the score wrong."""
        return any(finding.severity == "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "split": self.split,
            "scores": None if self.scores is None else self.scores.to_json(),
            "by_split": {name: scores.to_json() for name, scores in self.by_split.items()},
            "claims": [claim.to_json() for claim in self.claims],
            "published": [asdict(published) for published in self.published],
            "findings": [asdict(finding) for finding in self.findings],
        }


def audit(
    table: PredictionTable | None, claimed: ClaimedScores = NO_CLAIMS, context: ScoreContext = NO_CONTEXT
) -> Audit:
    """Recompute a score and list the reasons to distrust it.

    Args:
        table: The predictions; None to examine the claims alone.
        claimed: Accuracies as somebody reports them.
        context: What else is known about the data set and the test split.

    Raises:
        DataError: A claim is not an accuracy, there is neither a table nor a number of classes, or the classes of the
            source are not those of the table.
    """
    num_classes, num_faces = claimed.num_classes, claimed.num_faces
    if table is None and (num_classes is None or num_classes < 2):
        raise DataError("--classes", "the number of classes that the claims are about is not known", "Add --classes 7")
    tested = scores = counts = None
    by_split: dict[str, Scores] = {}
    if table is not None:
        splits = np.asarray(table.columns.get("split", ("all",) * len(table.predictions.labels)))
        by_split = {str(name): score(table.select(splits == name).predictions) for name in np.unique(splits)}
        has_test = "test" in by_split
        tested = table.select(splits == "test") if has_test else table
        scores = by_split["test"] if has_test else score(table.predictions)
        num_classes, num_faces = len(scores.class_names), scores.num_faces
        if context.source_counts is not None:
            counts = _in_order(context.source_counts, scores.class_names)
    assert num_classes is not None
    evidence = ScoreEvidence(
        table=table,
        tested=tested,
        scores=scores,
        by_split=by_split,
        claims=tuple(read_claim(text, num_classes=num_classes, n=num_faces) for text in claimed.texts),
        published=context.published,
        source_counts=counts,
        ceiling=context.ceiling,
        test_read_for=context.test_read_for,
    )
    findings = [finding for check in CLAIM_CHECKS + TABLE_CHECKS for finding in check(evidence)]
    return Audit(
        split="test" if "test" in by_split else "all",
        scores=scores,
        by_split=by_split,
        claims=evidence.claims,
        published=context.published,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def known_published(name: str | None) -> tuple[Published, ...]:
    """Accuracies that were published for a data set; for all known ones where none is named.

    Raises:
        DataError: The data set is not known.
    """
    if name is None:
        return tuple(PUBLISHED.values())
    if name.lower() not in PUBLISHED:
        raise DataError(f"--dataset {name}", "not a known data set", f"Known: {', '.join(PUBLISHED)}")
    return (PUBLISHED[name.lower()],)


def known_counts(name: str) -> dict[str, int]:
    """Faces of each class in a public data set.

    Raises:
        DataError: The data set is not known.
    """
    for known in KNOWN_SETS:
        if name.lower().replace("-", "") in known.aliases:
            return dict(zip(CLASS_NAMES, known.whole, strict=True))
    names = ", ".join(known.name for known in KNOWN_SETS)
    raise DataError(f"--source-counts {name}", "not a known data set", f"Known: {names}")


def _in_order(counts: Mapping[str, int], class_names: Sequence[str]) -> tuple[int, ...]:
    """The counts in the order of the classes."""
    if sorted(counts) != sorted(class_names):
        what = f"the source's classes are {', '.join(counts)}; the table's are {', '.join(class_names)}"
        raise DataError("--source-counts", what, "Name every class of the table: angry=3671,disgust=3995,...")
    return tuple(counts[name] for name in class_names)
