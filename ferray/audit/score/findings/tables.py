"""Checks of a prediction table: copies, leaks, choices on the test split, columns. `TABLE_CHECKS` lists them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.audit.finding import NUM_EXAMPLES, Finding, Severity, listed, share
from ferray.audit.score.findings.evidence import MIN_CLASS_FACES, ScoreCheck, ScoreEvidence, have_equal_classes
from ferray.metrics.intervals import wilson_interval
from ferray.metrics.predictions import PredictionTable

_MIN_MOVED = 0.1
"""Share of faces that must be in other classes than in the source to be reported; chance adds 1 / sqrt(faces)."""


def equal_supports(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find classes of equal size that come from a data set with classes of unequal size."""
    if evidence.scores is None or not have_equal_classes(evidence.scores):
        return
    counts, source = evidence.scores.class_counts, evidence.source_counts
    names = evidence.scores.class_names
    low, high = f"{counts.min():,}", f"{counts.max():,}"
    seen = f"All {len(counts)} classes have {low if low == high else f'{low} to {high}'} faces"
    severity: Severity = "warning"
    if source is not None:
        if max(source) < 1.2 * min(source):
            return
        rare, common = int(np.argmin(source)), int(np.argmax(source))
        seen += f", though the source has {source[common]:,} of {names[common]} and {source[rare]:,} of {names[rare]}"
        if counts[rare] > source[rare]:
            severity = "fault"
            seen += f": {names[rare]} was copied {counts[rare] / source[rare]:.1f} times in the test split alone"
    yield Finding(
        id="equal-supports",
        severity=severity,
        seen=f"{seen}.",
        matters="If faces were copied or synthesized to balance the classes before the split, copies are on both sides"
        " of it, and the model was trained on its test faces. In a measured case the order of these two steps raised"
        " the accuracy from 36 to 83 %.",
        advice="Split first; balance the training split only; test on faces in their natural proportions.",
    )


def shares_unlike_source(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find classes of unequal size in other proportions than the source's."""
    if evidence.scores is None or evidence.source_counts is None or have_equal_classes(evidence.scores):
        return
    counts, source = evidence.scores.class_counts, np.asarray(evidence.source_counts)
    shares, source_shares = counts / counts.sum(), source / sum(evidence.source_counts)
    moved = float(np.abs(shares - source_shares).sum() / 2)
    if moved < _MIN_MOVED + 1 / np.sqrt(counts.sum()):
        return
    most = int(np.argmax(shares - source_shares))
    yield Finding(
        id="shares-unlike-source",
        severity="warning",
        seen=f"{evidence.scores.class_names[most]} is {shares[most]:.1%} of the test faces and"
        f" {source_shares[most]:.1%} of the source; {moved:.0%} of all faces would have to change their class to make"
        " the shares equal.",
        matters="Accuracy depends on the proportions of the classes: in other proportions it is higher or lower.",
        advice="Ask how the test faces were chosen; compare balanced accuracy or the recalls.",
    )


def rarest_recalled_best(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find the trace of copies: the class with the fewest distinct faces has the highest recall."""
    if evidence.scores is None:
        return
    class_counts = evidence.scores.class_counts
    counts = np.asarray(class_counts if evidence.source_counts is None else evidence.source_counts)
    rare, common = int(counts.argmin()), int(counts.argmax())
    if counts[common] < 1.5 * counts[rare] or min(class_counts[rare], class_counts[common]) < MIN_CLASS_FACES:
        return
    recalls = [recall or 0.0 for recall in evidence.scores.recalls]
    if recalls[rare] < max(recalls) or wilson_interval(recalls[rare], int(class_counts[rare]))[0] <= recalls[common]:
        return
    names = evidence.scores.class_names
    yield Finding(
        id="rarest-recalled-best",
        severity="fault" if have_equal_classes(evidence.scores) else "warning",
        seen=f"The rarest class, {names[rare]}, has the highest recall, {recalls[rare]:.3f}; the most frequent one,"
        f" {names[common]}, has {recalls[common]:.3f}.",
        matters="A class with few examples is usually learned worst. Where it has the highest recall, its test faces"
        " are mostly copies of training faces, since balancing the classes copies the rare ones most often.",
        advice="Look for copies between training and test: python -m ferray.data check.",
    )


def across_splits(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find a face, or faces of one photograph, in several splits."""
    if evidence.table is None or "split" not in evidence.table.columns:
        return
    for column, names in (("id", evidence.table.ids), ("group", evidence.table.columns.get("group"))):
        if names is None:
            continue
        splits: dict[str, set[str]] = {}
        for name, split in zip(names, evidence.table.columns["split"], strict=True):
            splits.setdefault(name, set()).add(split)
        shared = [name for name, some in splits.items() if len(some) > 1]
        if shared:
            yield Finding(
                id=f"{column}-in-several-splits",
                severity="fault",
                seen=f"{share(len(shared), len(splits))} {column}s are in more than one split.",
                matters="The model was trained on faces that it is tested on.",
                advice="Split by photograph and its copies, never by face.",
                num=len(shared),
                examples=tuple(shared[:NUM_EXAMPLES]),
            )


def duplicate_ids(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find faces that count twice in one run on one split."""
    table = evidence.table
    if table is None or table.ids is None:
        return
    columns = [table.columns[name] for name in ("split", "trial", "seed") if name in table.columns]
    keys = list(zip(table.ids, *columns, strict=True))
    counts = Counter(keys)
    repeated = [key for key, times in counts.items() if times > 1]
    if repeated:
        labels: dict[Any, set[int]] = {}
        for key, label in zip(keys, table.predictions.labels.tolist(), strict=True):
            labels.setdefault(key, set()).add(label)
        conflicting = sum(len(labels[key]) > 1 for key in repeated)
        rows = sum(counts[key] for key in repeated)
        yield Finding(
            id="duplicate-ids",
            severity="fault",
            seen=f"{len(repeated):,} ids are in {rows:,} rows; {conflicting:,} of them with different labels.",
            matters="A face that counts several times has a larger weight than the others. Copies that balance the"
            " classes give such a table.",
            advice="Give every face one id and one row.",
            num=len(repeated),
            examples=tuple(key[0] for key in repeated[:NUM_EXAMPLES]),
        )


def test_was_used_to_choose(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find several models scored on one test split."""
    trials = sorted(set(() if evidence.tested is None else evidence.tested.columns.get("trial", ())))
    if len(trials) > 1:
        assert evidence.tested is not None
        is_correct = evidence.tested.predictions.is_correct
        trial_of = np.asarray(evidence.tested.columns["trial"])
        accuracies = {name: float(is_correct[trial_of == name].mean()) for name in trials}
        best = max(accuracies, key=lambda name: accuracies[name])
        yield Finding(
            id="test-used-to-choose",
            severity="fault",
            seen=f"{len(trials):,} trials were scored on the same test faces, {min(accuracies.values()):.4f} to"
            f" {accuracies[best]:.4f} (trial {best}).",
            matters="The best of many scores is too high on average, because it was chosen for being high (selection"
            " bias). It is not a test score.",
            advice="Choose on the validation split; score the chosen model on the test split once.",
            num=len(trials),
        )
    if len(evidence.test_read_for) > 1:
        models = set(evidence.test_read_for)
        read_for = "one trial" if len(models) == 1 else f"{len(models)} trials"
        yield Finding(
            id="test-read-again",
            severity="warning" if len(models) > 1 else "note",
            seen=f"The test split was read {len(evidence.test_read_for)} times, for {read_for}.",
            matters="A test split on which several models were scored influences the choice among them.",
            advice="Trust the first reading; use other test faces for another choice.",
            num=len(evidence.test_read_for),
        )


def not_probabilities(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find rows that do not sum to 1, values outside [0, 1], and predictions of a less probable class."""
    if evidence.table is None or evidence.table.predictions.probabilities is None:
        return
    values = evidence.table.predictions.probabilities
    outside = ((values < -1e-6) | (values > 1 + 1e-6)).any(axis=1)
    wrong = outside | (np.abs(values.sum(axis=1) - 1) > 0.01)
    if wrong.any():
        cause = "Some are below 0 or above 1, like logits." if outside.any() else "They may be sigmoids, one per class."
        yield Finding(
            id="not-probabilities",
            severity="fault",
            seen=f"{share(int(wrong.sum()), len(values))} rows do not sum to 1. {cause}",
            matters="Binary accuracy and calibration are meaningless for such rows, and a model with independent"
            " outputs per class is another model than one that chooses a class.",
            advice="Write the output of the softmax.",
            num=int(wrong.sum()),
            examples=_row_names(evidence.table, wrong),
        )
    other = values[np.arange(len(values)), evidence.table.predictions.predicted] < values.max(axis=1) - 1e-6
    if other.any():
        yield Finding(
            id="answer-is-not-most-probable",
            severity="warning",
            seen=f"{share(int(other.sum()), len(values))} predictions are not the most probable class of their row.",
            matters="Such a table has its class columns in another order than the model, or another model's"
            " predictions.",
            advice="Compare the order of the class columns with the model's.",
            num=int(other.sum()),
            examples=_row_names(evidence.table, other),
        )


def constant_predictions(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Find one class predicted for every face, or classes that are never predicted."""
    if evidence.scores is None:
        return
    predicted, counts = evidence.scores.confusion.sum(axis=0), evidence.scores.class_counts
    names = evidence.scores.class_names
    never = [name for name, times, faces in zip(names, predicted, counts, strict=True) if faces and not times]
    if never and np.count_nonzero(predicted) == 1:
        yield Finding(
            id="constant-answer",
            severity="fault",
            seen=f"{names[int(predicted.argmax())]} is predicted for every face.",
            matters="The model has learned nothing: its accuracy is the share of that class among the faces.",
            advice="Look at the loss; the usual cause is a learning rate that is too high.",
        )
    elif never:
        yield Finding(
            id="class-never-answered",
            severity="warning",
            seen=f"Never predicted: {listed(never)}.",
            matters="Top-1 accuracy hardly changes where the class is rare; balanced accuracy does.",
            advice="Report balanced accuracy and each recall; give rare classes more weight in training.",
            num=len(never),
        )


def classes_without_probabilities(evidence: ScoreEvidence) -> Iterator[Finding]:
    """Report what a table without probabilities cannot show."""
    if evidence.table is not None and evidence.table.predictions.probabilities is None:
        yield Finding(
            id="no-probabilities",
            severity="note",
            seen="The table has predicted classes, but no probabilities.",
            matters="Binary accuracy, calibration and ties cannot be checked. Whether a claim is Keras'"
            " BinaryAccuracy stays open; one-vs-rest accuracy is used in its place.",
            advice="Write the probability of every class beside each label.",
        )


TABLE_CHECKS: tuple[ScoreCheck, ...] = (
    equal_supports,
    shares_unlike_source,
    rarest_recalled_best,
    across_splits,
    duplicate_ids,
    test_was_used_to_choose,
    not_probabilities,
    constant_predictions,
    classes_without_probabilities,
)
"""In the order in which they run."""


def _row_names(table: PredictionTable, rows: NDArray[np.bool_]) -> tuple[str, ...]:
    """The first few of the rows, by id or by number."""
    places = np.flatnonzero(rows)[:NUM_EXAMPLES]
    return tuple(f"row {place + 2}" if table.ids is None else table.ids[place] for place in places)
