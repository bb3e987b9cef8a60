"""Doubts about a claimed number: another score's, another split's, too high, too exact. `DOUBTS` lists them."""

from collections.abc import Iterator

from ferray.audit.finding import Finding, listed
from ferray.audit.score.findings.case import Case, Doubt
from ferray.metrics.names import TITLES

CLOSE = 0.003
"""Within it a claim is the number that was recomputed: rounding, or another rule for ties."""


def claim_is_another_score(case: Case) -> Iterator[Finding]:
    """Each claim against every score of every split, under all names."""
    if case.scores is None:
        return
    for claim in case.claims:
        near = max(CLOSE, claim.unit / 2)
        off = abs(claim.value - case.scores.accuracy)
        of_splits = [scores.accuracy for scores in case.by_split.values()] if len(case.claims) > 1 else []
        if off <= near or any(abs(claim.value - accuracy) <= near for accuracy in of_splits):
            continue  # several claims: one a split, as training, validation and test accuracy are told
        others = {
            f"{TITLES[key]} of the {split} rows" if len(case.by_split) > 1 else TITLES[key]: value
            for split, scores in [("test", case.scores), *case.by_split.items()]
            for key, value in scores.values.items()
            if value is not None and abs(claim.value - value) < min(near, off / 2)
        }
        real = f"their top-1 accuracy is {case.scores.accuracy:.4f}"
        if others:
            names = listed([f"{title} ({value:.4f})" for title, value in others.items()])
            yield Finding(
                id="claimed-is-not-top-1",
                severity="fault",
                seen=f"The claimed {claim.text} is the {names} of these answers; {real}.",
                matters="Papers mean top-1 accuracy on the test split. Other scores of the same answers are"
                " other numbers.",
                advice="Report the top-1 accuracy, and every other score under its own name.",
            )
        else:
            low, high = case.scores.intervals["accuracy"]
            yield Finding(
                id="claimed-not-found",
                severity="fault" if len(case.claims) == 1 else "warning",
                seen=f"No score of these answers is the claimed {claim.text}; {real} [{low:.4f}, {high:.4f}].",
                matters="A number that its own answers do not give comes from other faces, another model or"
                " another rule.",
                advice="Ask for the table of answers that the number was computed from.",
            )


def claim_needs_a_table(case: Case) -> Iterator[Finding]:
    """Claims alone: which are plausible only as something else."""
    if case.table is not None or not case.claims:
        return
    if len(case.published) == 1:
        known = case.published[0]
        fitting = {
            claim.text: claim.if_one_vs_rest
            for claim in case.claims
            if claim.value > known.high and known.low <= (claim.if_one_vs_rest or 0.0) <= known.high
        }
        if fitting:
            top_1s = listed([f"{value:.3f}" for value in fitting.values()])
            yield Finding(
                id="fits-one-vs-rest",
                severity="warning",
                seen=f"{listed(list(fitting))}: above every published top-1 accuracy for {known.name}, but as a"
                f" one-vs-rest accuracy a top-1 accuracy of {top_1s}, which is ordinary.",
                matters="Averaging (TP+TN)/N over classes, or Keras' BinaryAccuracy, counts the many classes that a"
                " face is not: a model scores high without knowing much.",
                advice="Ask how it was computed: accuracy_score(labels, answers), with one answer a face, is top-1.",
            )
    yield Finding(
        id="no-table",
        severity="note",
        seen="There is no table of answers: only arithmetic was checked.",
        matters="Copies of faces in training and test, a test split that was used to choose, or another score"
        " under the name"
        " of accuracy cannot be seen in one number.",
        advice="Ask for id, label and probabilities of every test face, and audit that.",
    )


def claim_above_published(case: Case) -> Iterator[Finding]:
    """A score above all that was published for the set."""
    if len(case.published) != 1:
        return
    known = case.published[0]
    numbers = [(claim.text, claim.value) for claim in case.claims]
    if case.scores is not None:
        numbers.append((f"{case.scores.accuracy:.4f}", case.scores.intervals["accuracy"][0]))
    above = [text for text, value in numbers if value > known.high]
    if above:
        yield Finding(
            id="above-published",
            severity="warning",
            seen=f"{listed(above)}, as top-1 accuracy: above all that was published for {known.name},"
            f" {known.low:.3f} to {known.high:.3f} ({known.source}).",
            matters="A jump above everybody is a discovery or, far more often, an error.",
            advice="Treat it as an error until somebody else has repeated it from the photographs.",
        )


def above_ceiling(case: Case) -> Iterator[Finding]:
    """A score that the labels' own noise does not allow."""
    if case.ceiling is None:
        return
    numbers = [(f"the claimed {claim.text}", claim.value) for claim in case.claims]
    if case.scores is not None:
        numbers.append((f"{case.scores.accuracy:.4f}", case.scores.intervals["accuracy"][0]))
    above = [text for text, value in numbers if value > case.ceiling]
    if above:
        yield Finding(
            id="above-ceiling",
            severity="fault",
            seen=f"{listed(above)} lies above the ceiling of {case.ceiling:.3f}.",
            matters="Where annotators give two copies of a face different labels, no model can be right for both.",
            advice="Look for test faces, or copies of them, in the training part.",
        )


def impossible_number(case: Case) -> Iterator[Finding]:
    """A claim that no whole number of faces gives."""
    for claim in case.claims:
        if not claim.is_possible:
            yield Finding(
                id="impossible-number",
                severity="fault",
                seen=f"No whole number of right faces among {claim.n:,} gives {claim.text}.",
                matters="The number does not come from that many faces, or it is a mean of other numbers.",
                advice="Ask for the number of test faces and of right answers.",
            )


def too_few_faces(case: Case) -> Iterator[Finding]:
    """More digits than the faces can carry."""
    for claim in case.claims:
        interval = claim.interval
        if case.scores is not None:
            interval = case.scores.intervals["accuracy"]
        if interval is None:
            continue
        reach = (interval[1] - interval[0]) / 2
        if reach >= 10 * claim.unit or reach > 0.05:
            num = claim.n or 0
            yield Finding(
                id="too-few-faces",
                severity="warning" if reach > 0.05 else "note",
                seen=f"{claim.text} of {num:,} faces: chance alone moves it by {reach:.3f} either way.",
                matters="Digits beyond that say nothing, and models that differ by less are equal.",
                advice="Give the interval beside the number, and no more digits than it carries.",
                num=num,
            )


DOUBTS: tuple[Doubt, ...] = (
    claim_is_another_score,
    claim_needs_a_table,
    claim_above_published,
    above_ceiling,
    impossible_number,
    too_few_faces,
)
"""In the order in which they are asked."""
