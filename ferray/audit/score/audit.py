"""An audit of somebody's score: recomputed from the table of answers under every name, and doubted.

Nothing but the table is needed, ferray's own or anybody's; of a claimed number alone it says what it could have been.
What is asked is in `ferray.audit.score.findings`, one function a doubt. Begin at `audit`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ferray.audit.dataset.known_sets import KNOWN_SETS
from ferray.audit.finding import SEVERITIES, Finding
from ferray.audit.score.claims import PUBLISHED, Claim, Published, read_claim
from ferray.audit.score.findings import claims as of_claims
from ferray.audit.score.findings import tables as of_tables
from ferray.audit.score.findings.case import Case
from ferray.data.sources.rows import CLASS_NAMES
from ferray.errors import DataError
from ferray.metrics.names import right_cells
from ferray.metrics.predictions import Predictions
from ferray.metrics.scores import Scores, score_answers


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a score is, and what is to be doubted about it."""

    split: str
    """Whose rows were scored: `test` where the table has such rows, else all."""
    scores: Scores | None
    """None where only claims are known."""
    by_split: Mapping[str, Scores]
    """Every split that the table names."""
    claims: tuple[Claim, ...]
    published: tuple[Published, ...]
    """To compare the claims with."""
    findings: tuple[Finding, ...]
    """The gravest first."""

    @property
    def has_fault(self) -> bool:
        """Whether some finding says that the score is wrong."""
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
    predictions: Predictions | None,
    *,
    claimed: Sequence[str] = (),
    num_classes: int | None = None,
    n: int | None = None,
    published: Sequence[Published] = (),
    source_counts: Mapping[str, int] | None = None,
    ceiling: float | None = None,
    readings: Sequence[Mapping[str, Any]] = (),
) -> Audit:
    """Recompute a score and say what is to be doubted about it.

    Args:
        predictions: The table; None to read the claims alone.
        claimed: Accuracies as somebody wrote them.
        num_classes: Where there is no table.
        n: Faces that the claims come from, where there is no table.
        published: Of the data set that the faces are from, or of all known ones.
        source_counts: Faces of each class in the set that the table's faces were taken from.
        ceiling: The best accuracy that the labels allow.
        readings: Of the test split, from `search.json`.

    Raises:
        DataError: A claim is no accuracy, there is neither a table nor a number of classes, or the source's classes are
            not the table's.
    """
    if predictions is None and (num_classes is None or num_classes < 2):
        raise DataError("--classes", "how many classes the claims are about is not known", "Add --classes 7")
    tested = scores = None
    by_split: dict[str, Scores] = {}
    if predictions is not None:
        splits = np.asarray(predictions.columns.get("split", ("all",) * len(predictions.labels)))
        by_split = {str(name): _score(predictions.of(splits == name)) for name in np.unique(splits)}
        has_test = "test" in by_split
        tested = predictions.of(splits == "test") if has_test else predictions
        scores = by_split["test"] if has_test else _score(predictions)
        num_classes, n = len(predictions.class_names), len(tested.labels)
    assert num_classes is not None
    counts = None
    if source_counts is not None and predictions is not None:
        counts = _in_order(source_counts, predictions.class_names)
    claims = tuple(read_claim(text, num_classes=num_classes, n=n) for text in claimed)
    case = Case(
        table=predictions,
        tested=tested,
        scores=scores,
        by_split=by_split,
        claims=claims,
        published=tuple(published),
        source_counts=counts,
        ceiling=ceiling,
        readings=tuple(readings),
    )
    findings = [finding for doubt in of_claims.DOUBTS + of_tables.DOUBTS for finding in doubt(case)]
    return Audit(
        split="test" if "test" in by_split else "all",
        scores=scores,
        by_split=by_split,
        claims=claims,
        published=tuple(published),
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def known_published(name: str | None) -> list[Published]:
    """What was published for a data set; for all known ones where none is named.

    Raises:
        DataError: It is not known.
    """
    if name is None:
        return list(PUBLISHED.values())
    if name.lower() not in PUBLISHED:
        raise DataError(f"--dataset {name}", "no known set", f"Known: {', '.join(PUBLISHED)}")
    return [PUBLISHED[name.lower()]]


def known_counts(name: str) -> dict[str, int]:
    """Faces of each class in a public set.

    Raises:
        DataError: It is not known.
    """
    for known in KNOWN_SETS:
        if name.lower().replace("-", "") in known.aliases:
            return dict(zip(CLASS_NAMES, known.whole, strict=True))
    raise DataError(
        f"--source-counts {name}", "no known set", f"Known: {', '.join(known.name for known in KNOWN_SETS)}"
    )


def _score(part: Predictions) -> Scores:
    cells = None if part.probabilities is None else right_cells(part.labels, part.probabilities)
    return score_answers(
        part.labels, part.answers, part.groups(), cells=cells, class_names=part.class_names, train_counts=None
    )


def _in_order(counts: Mapping[str, int], class_names: Sequence[str]) -> tuple[int, ...]:
    if sorted(counts) != sorted(class_names):
        what = f"the source's classes are {', '.join(counts)}; the table's are {', '.join(class_names)}"
        raise DataError("--source-counts", what, "Name every class of the table: angry=3671,disgust=3995,...")
    return tuple(counts[name] for name in class_names)
