"""Doubts about a table of answers: copies, leaks, choices on the test split, columns. `DOUBTS` lists them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferray.audit.finding import NUM_EXAMPLES, Finding, Severity, listed, share
from ferray.audit.score.claims import wilson
from ferray.audit.score.findings.case import FEW, Case, Doubt, have_equal_classes
from ferray.metrics.predictions import Predictions

_MOVED = 0.1
"""Share of faces in other classes than the source's from which the mix is another one; chance adds 1 / sqrt(faces)."""


def equal_supports(case: Case) -> Iterator[Finding]:
    """All classes of one size, from a source where they are not."""
    if case.scores is None:
        return
    supports = case.scores.confusion.sum(axis=1)
    if not have_equal_classes(case.scores):
        return
    names, source = case.scores.class_names, case.source_counts
    low, high = f"{supports.min():,}", f"{supports.max():,}"
    size = f"All {len(supports)} classes have {low if low == high else f'{low} to {high}'} faces"
    severity: Severity = "warning"
    if source is not None:
        if max(source) < 1.2 * min(source):
            return
        rare, common = int(np.argmin(source)), int(np.argmax(source))
        size += f", though the source has {source[common]:,} of {names[common]} and {source[rare]:,} of {names[rare]}"
        if supports[rare] > source[rare]:
            severity = "fault"
            size += f": {names[rare]} was copied {supports[rare] / source[rare]:.1f} times in the test part alone"
    yield Finding(
        id="equal-supports",
        severity=severity,
        seen=f"{size}.",
        matters="Faces that were copied, or made up from others, to balance the classes before the split stand"
        " on both sides"
        " of it. The model has then seen the answers: in a measured case 83 % instead of 36 % from the order of"
        " two lines.",
        advice="Split first; balance the training part only; test on faces in their natural proportions.",
    )


def shares_unlike_source(case: Case) -> Iterator[Finding]:
    """Classes in other proportions than the source's, though not all of one size."""
    if case.scores is None or case.source_counts is None or have_equal_classes(case.scores):
        return
    supports = case.scores.confusion.sum(axis=1)
    here, there = supports / supports.sum(), np.asarray(case.source_counts) / sum(case.source_counts)
    moved = float(np.abs(here - there).sum() / 2)
    if moved < _MOVED + 1 / np.sqrt(supports.sum()):
        return
    most = int(np.argmax(here - there))
    yield Finding(
        id="shares-unlike-source",
        severity="warning",
        seen=f"{case.scores.class_names[most]} is {here[most]:.1%} of the test faces, {there[most]:.1%} of the source;"
        f" {moved:.0%} of all faces would have to change their class to make the shares equal.",
        matters="Accuracy depends on the mix of classes: on another mix it is another number, higher or lower.",
        advice="Ask how the test faces were chosen; compare balanced accuracy or the recalls.",
    )


def rarest_recalled_best(case: Case) -> Iterator[Finding]:
    """The signature of copies: the class with fewest faces of its own is known by heart."""
    if case.scores is None:
        return
    supports = case.scores.confusion.sum(axis=1)
    counts = np.asarray(supports if case.source_counts is None else case.source_counts)
    rare, common = int(counts.argmin()), int(counts.argmax())
    if counts[common] < 1.5 * counts[rare] or min(supports[rare], supports[common]) < FEW:
        return
    recalls = [recall or 0.0 for recall in case.scores.recalls]
    if recalls[rare] < max(recalls) or wilson(recalls[rare], int(supports[rare]))[0] <= recalls[common]:
        return
    names = case.scores.class_names
    yield Finding(
        id="rarest-recalled-best",
        severity="fault" if have_equal_classes(case.scores) else "warning",
        seen=f"The rarest class, {names[rare]}, is recalled best: {recalls[rare]:.3f}, and the most frequent one,"
        f" {names[common]}, {recalls[common]:.3f}.",
        matters="A class with few examples is learned worst. If it is recalled best, its test faces are copies"
        " of training"
        " faces: rare classes are copied most often when classes are balanced.",
        advice="Look for copies between training and test: python -m ferray.data check.",
    )


def across_splits(case: Case) -> Iterator[Finding]:
    """One face, or faces of one photograph, in several splits."""
    if case.table is None or "split" not in case.table.columns:
        return
    for column, names in (("id", case.table.ids), ("group", case.table.columns.get("group"))):
        if names is None:
            continue
        splits: dict[str, set[str]] = {}
        for name, split in zip(names, case.table.columns["split"], strict=True):
            splits.setdefault(name, set()).add(split)
        shared = [name for name, some in splits.items() if len(some) > 1]
        if shared:
            yield Finding(
                id=f"{column}-in-several-splits",
                severity="fault",
                seen=f"{share(len(shared), len(splits))} {column}s stand in more than one split.",
                matters="The model was trained on what it is tested with.",
                advice="Split by photograph and by copies of it, never by face.",
                num=len(shared),
                examples=tuple(shared[:NUM_EXAMPLES]),
            )


def duplicate_ids(case: Case) -> Iterator[Finding]:
    """A face that counts twice in one run of one split."""
    if case.table is None or case.table.ids is None:
        return
    columns = [case.table.columns[name] for name in ("split", "trial", "seed") if name in case.table.columns]
    keys = list(zip(case.table.ids, *columns, strict=True))
    counts = Counter(keys)
    twice = [key for key, times in counts.items() if times > 1]
    if twice:
        labels: dict[Any, set[int]] = {}
        for key, label in zip(keys, case.table.labels.tolist(), strict=True):
            labels.setdefault(key, set()).add(label)
        unlike = sum(len(labels[key]) > 1 for key in twice)
        extra = sum(counts[key] - 1 for key in twice)
        yield Finding(
            id="duplicate-ids",
            severity="fault",
            seen=f"{len(twice):,} ids stand in {extra + len(twice):,} rows; {unlike:,} of them with unlike labels.",
            matters="A face that counts several times weighs more than others: copies that balanced the classes"
            " look so.",
            advice="Give every face one id and one row.",
            num=len(twice),
            examples=tuple(key[0] for key in twice[:NUM_EXAMPLES]),
        )


def test_was_used_to_choose(case: Case) -> Iterator[Finding]:
    """Several models scored on one test split."""
    trials = sorted(set(() if case.tested is None else case.tested.columns.get("trial", ())))
    if len(trials) > 1:
        assert case.tested is not None
        hits = case.tested.labels == case.tested.answers
        of_trial = np.asarray(case.tested.columns["trial"])
        accuracies = {name: float(hits[of_trial == name].mean()) for name in trials}
        best = max(accuracies, key=lambda name: accuracies[name])
        yield Finding(
            id="test-used-to-choose",
            severity="fault",
            seen=f"{len(trials):,} trials were scored on the same test faces, {min(accuracies.values()):.4f} to"
            f" {accuracies[best]:.4f} (trial {best}).",
            matters="The best of many scores is the one that chance helped most. Reported as the test score, it"
            " is too high.",
            advice="Choose on validation; score the chosen model on the test split once.",
            num=len(trials),
        )
    if len(case.readings) > 1:
        models = {reading.get("trial_id") for reading in case.readings}
        trials_read = "one trial" if len(models) == 1 else f"{len(models)} trials"
        yield Finding(
            id="test-read-again",
            severity="warning" if len(models) > 1 else "note",
            seen=f"The test split was read {len(case.readings)} times, for {trials_read}.",
            matters="A test split that several models were scored on has a part in choosing among them.",
            advice="Trust the first reading; for another choice take other test faces.",
            num=len(case.readings),
        )


def not_probabilities(case: Case) -> Iterator[Finding]:
    """Rows that do not sum to 1, values outside [0, 1], answers that are not the most probable class."""
    if case.table is None or case.table.probabilities is None:
        return
    values = case.table.probabilities
    outside = ((values < -1e-6) | (values > 1 + 1e-6)).any(axis=1)
    wrong = outside | (np.abs(values.sum(axis=1) - 1) > 0.01)
    if wrong.any():
        what = "some are below 0 or above 1: logits?" if outside.any() else "each class on its own: sigmoids?"
        yield Finding(
            id="not-probabilities",
            severity="fault",
            seen=f"{share(int(wrong.sum()), len(values))} rows do not sum to 1; {what}",
            matters="Binary accuracy and calibration mean nothing on them, and a model of independent classes is"
            " another"
            " model than one that chooses.",
            advice="Write the output of the softmax.",
            num=int(wrong.sum()),
            examples=_named(case.table, wrong),
        )
    other = values[np.arange(len(values)), case.table.answers] < values.max(axis=1) - 1e-6
    if other.any():
        yield Finding(
            id="answer-is-not-most-probable",
            severity="warning",
            seen=f"{share(int(other.sum()), len(values))} answers are not the most probable class of their row.",
            matters="Columns in another order than the classes, or answers of another model, give such a table.",
            advice="Compare the order of the class columns with the model's.",
            num=int(other.sum()),
            examples=_named(case.table, other),
        )


def constant_answers(case: Case) -> Iterator[Finding]:
    """One answer to everything, or classes that are never answered."""
    if case.scores is None:
        return
    answered, supports = case.scores.confusion.sum(axis=0), case.scores.confusion.sum(axis=1)
    names = case.scores.class_names
    never = [name for name, said, there in zip(names, answered, supports, strict=True) if there and not said]
    if never and np.count_nonzero(answered) == 1:
        yield Finding(
            id="constant-answer",
            severity="fault",
            seen=f"Every face is answered with {names[int(answered.argmax())]}.",
            matters="Nothing was learned: the accuracy is the share of that class among the faces.",
            advice="Look at the loss; a learning rate that is too high is the usual reason.",
        )
    elif never:
        yield Finding(
            id="class-never-answered",
            severity="warning",
            seen=f"No face is answered with {listed(never)}.",
            matters="Top-1 accuracy hardly shows it where the class is rare; balanced accuracy does.",
            advice="Report balanced accuracy and each recall; weigh the rare classes in training.",
            num=len(never),
        )


def hard_answers_only(case: Case) -> Iterator[Finding]:
    """What a table without probabilities hides."""
    if case.table is not None and case.table.probabilities is None:
        yield Finding(
            id="no-probabilities",
            severity="note",
            seen="The table has answers, but no probabilities.",
            matters="Binary accuracy, calibration and ties cannot be checked: whether a claim is Keras'"
            " BinaryAccuracy stays"
            " open, and one-vs-rest accuracy stands in for it.",
            advice="Write the probability of every class beside each label.",
        )


DOUBTS: tuple[Doubt, ...] = (
    equal_supports,
    shares_unlike_source,
    rarest_recalled_best,
    across_splits,
    duplicate_ids,
    test_was_used_to_choose,
    not_probabilities,
    constant_answers,
    hard_answers_only,
)
"""In the order in which they are asked."""


def _named(table: Predictions, rows: NDArray[np.bool_]) -> tuple[str, ...]:
    """A few of the rows, by id or by number."""
    places = np.flatnonzero(rows)[:NUM_EXAMPLES]
    return tuple(f"row {place + 2}" if table.ids is None else table.ids[place] for place in places)
