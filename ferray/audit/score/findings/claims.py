"""Checks of a claimed accuracy: another score, another split, too high, too exact. `CLAIM_CHECKS` lists them."""

from collections.abc import Iterator

from ferray.audit.finding import Finding, listed
from ferray.audit.score.findings.evidence import ScoreCheck, ScoreEvidence
from ferray.metrics.names import SCORE_TITLES

CLAIM_TOLERANCE = 0.003
"""A claim this close to a recomputed score counts as equal to it: rounding, or another rule for ties."""


def claim_is_another_score(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Compare each claim with every score of every split, under all names."""
    if evidence.scores is None:
        return
    for claim in evidence.claims:
        tolerance = max(CLAIM_TOLERANCE, claim.unit / 2)
        distance = abs(claim.value - evidence.scores.accuracy)
        # Several claims may be one per split: the training, validation and test accuracy of a paper.
        of_splits = [scores.accuracy for scores in evidence.by_split.values()] if len(evidence.claims) > 1 else []
        if distance <= tolerance or any(abs(claim.value - accuracy) <= tolerance for accuracy in of_splits):
            continue
        others = {
            f"{SCORE_TITLES[key]} of the {split} rows" if len(evidence.by_split) > 1 else SCORE_TITLES[key]: value
            for split, scores in [("test", evidence.scores), *evidence.by_split.items()]
            for key, value in scores.values.items()
            if value is not None and abs(claim.value - value) < min(tolerance, distance / 2)
        }
        actual = f"their top-1 accuracy is {evidence.scores.accuracy:.4f}"
        if others:
            names = listed([f"{title} ({value:.4f})" for title, value in others.items()])
            yield Finding(
                id="claimed-is-not-top-1",
                severity="fault",
                seen=f"The claimed {claim.text} is the {names} of these predictions; {actual}.",
                matters="In papers, accuracy means top-1 accuracy on the test split. Other scores of the same"
                " predictions have other values.",
                advice="Report the top-1 accuracy, and every other score under its own name.",
            )
        else:
            low, high = evidence.scores.intervals["accuracy"]
            yield Finding(
                id="claimed-not-found",
                severity="fault" if len(evidence.claims) == 1 else "warning",
                seen=f"No score of these predictions is the claimed {claim.text}; {actual} [{low:.4f}, {high:.4f}].",
                matters="A number that cannot be recomputed from the predictions comes from other faces, another model"
                " or another rule.",
                advice="Ask for the prediction table that the number was computed from.",
            )


def claim_needs_a_table(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Without a table, find the claims that are plausible only as another score."""
    if evidence.table is not None or not evidence.claims:
        return
    if len(evidence.published) == 1:
        known = evidence.published[0]
        fitting = {
            claim.text: claim.if_one_vs_rest
            for claim in evidence.claims
            if claim.value > known.high and known.low <= (claim.if_one_vs_rest or 0.0) <= known.high
        }
        if fitting:
            top_1s = listed([f"{value:.3f}" for value in fitting.values()])
            yield Finding(
                id="fits-one-vs-rest",
                severity="warning",
                seen=f"Above every published top-1 accuracy for {known.name}: {listed(list(fitting))}. As one-vs-rest"
                f" accuracy it corresponds to a top-1 accuracy of {top_1s}, which is ordinary.",
                matters="The mean of (TP+TN)/N over classes, and Keras' BinaryAccuracy, also count the classes that a"
                " face does not have, so even a weak model scores high.",
                advice="Ask how it was computed: scikit-learn's accuracy_score, with one predicted class per face, is"
                " top-1 accuracy.",
            )
    yield Finding(
        id="no-table",
        severity="note",
        seen="There is no prediction table: only arithmetic was checked.",
        matters="One number cannot show copies of faces in training and test, a test split that was used to choose, or"
        " another score under the name of accuracy.",
        advice="Ask for id, label and probabilities of every test face, and audit that table.",
    )


def claim_above_published(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find scores above all that was published for the data set."""
    if len(evidence.published) != 1:
        return
    known = evidence.published[0]
    above = _above(evidence, known.high)
    if above:
        yield Finding(
            id="above-published",
            severity="warning",
            seen=f"Above every published top-1 accuracy for {known.name}, {known.low:.3f} to {known.high:.3f}"
            f" ({known.source}): {listed(above)}.",
            matters="A result above all published ones is rarely a discovery, and far more often an error.",
            advice="Treat it as an error until somebody else has reproduced it from the photographs.",
        )


def above_ceiling(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find scores that the noise of the labels does not allow."""
    if evidence.ceiling is None:
        return
    above = _above(evidence, evidence.ceiling)
    if above:
        yield Finding(
            id="above-ceiling",
            severity="fault",
            seen=f"Above the noise ceiling of {evidence.ceiling:.3f}: {listed(above)}.",
            matters="Where annotators give two copies of a face different labels, no model can be correct for both.",
            advice="Look for test faces, or copies of them, in the training split.",
        )


def impossible_number(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find claims that no whole number of faces gives."""
    for claim in evidence.claims:
        if not claim.is_possible:
            yield Finding(
                id="impossible-number",
                severity="fault",
                seen=f"No whole number of correct predictions among {claim.n:,} faces gives {claim.text}.",
                matters="The number comes from another number of faces, or it is a mean of other numbers.",
                advice="Ask for the number of test faces and of correct predictions.",
            )


def too_few_faces(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find claims with more digits than the number of faces supports."""
    for claim in evidence.claims:
        interval = claim.interval
        if evidence.scores is not None:
            interval = evidence.scores.intervals["accuracy"]
        if interval is None:
            continue
        reach = (interval[1] - interval[0]) / 2
        if reach >= 10 * claim.unit or reach > 0.05:
            num = claim.n or 0
            yield Finding(
                id="too-few-faces",
                severity="warning" if reach > 0.05 else "note",
                seen=f"{claim.text} of {num:,} faces: chance alone moves it by {reach:.3f} in either direction.",
                matters="Further digits carry no information, and models that differ by less cannot be told apart.",
                advice="Report the interval beside the number, and no more digits than it supports.",
                num=num,
            )


CLAIM_CHECKS: tuple[ScoreCheck, ...] = (
    claim_is_another_score,
    claim_needs_a_table,
    claim_above_published,
    above_ceiling,
    impossible_number,
    too_few_faces,
)
"""In the order in which they run."""


def _above(evidence: ScoreEvidence, bound: float) -> list[str]:
    """The claims above a bound, and the recomputed accuracy where its whole interval is above it."""
    above = [claim.text for claim in evidence.claims if claim.value > bound]
    if evidence.scores is not None and evidence.scores.intervals["accuracy"][0] > bound:
        above.append(f"{evidence.scores.accuracy:.4f} (recomputed)")
    return above
