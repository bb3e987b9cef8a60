"""Class counts: rare classes that were copied, classes that are missing, splits with other class shares than the rest.

Unequal classes are not a fault. Begin at `find_balancing`, `find_missing_classes`, `find_differing_shares`.
"""

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import NUM_EXAMPLES, Finding, listed, percent

MIN_COPYING = 1.25
"""Rows per distinct picture of a class from which the class was copied on purpose. Among public data sets that hold
copies by accident, a part of ExpW has 1.05 and FER2013 less."""
MAX_RATIO_LEFT = 0.8
"""Copying balances the classes if the size of the largest class, divided by the size of the smallest, is at most this
part of the same ratio for distinct pictures."""
MIN_COPIES = 10

MIN_EFFECT = 0.1
"""Cramer's V below which a difference of class shares is not reported: 0.1 is a small effect by Cohen's convention
(Statistical Power Analysis for the Behavioral Sciences, 1988)."""
MAX_PROBABILITY = 1e-4
"""The probability of such a difference by chance must lie below this: the splits of a small set differ by chance."""


def find_balancing(dataset: ScannedDataset) -> list[Finding]:
    """Rare classes copied until all classes are about equal.

    Copies in the training split alone are a way to weight classes (a note). Copies made before the split put the same
    faces into several splits.
    """
    counts = dataset.count_classes()
    distinct = _count_distinct(dataset, np.arange(dataset.num_faces))
    present = counts > 0
    if present.sum() < 2:
        return []
    copied = np.divide(counts, distinct, out=np.ones(len(counts)), where=distinct > 0)
    before, after = _ratio(distinct[present]), _ratio(counts[present])
    names = [dataset.class_names[label] for label in np.flatnonzero(copied >= MIN_COPYING)]
    if not names or after > MAX_RATIO_LEFT * before or int((counts - distinct).sum()) < MIN_COPIES:
        return []
    most = int(np.argmax(copied))
    spread = _classes_across_splits(dataset)
    in_train_only = len(dataset.split_places) > 1 and not spread and _are_later_splits_without_copies(dataset)
    matters, advice = _IN_TRAIN if in_train_only else _BEFORE_THE_SPLIT
    return [
        Finding(
            id="classes-balanced-by-copies",
            severity="note" if in_train_only else "fault" if spread or not dataset.split_places else "warning",
            seen=f"Classes hold {counts[present].min():,} to {counts[present].max():,} faces, but only "
            f"{distinct[present].min():,} to {distinct[present].max():,} different ones. Filled up with copies: "
            f"{listed(names)}; a {dataset.class_names[most]} face is there {copied[most]:.1f} times on average."
            + (f" Copies of {listed(spread)} lie in several splits." if spread else ""),
            matters=matters,
            advice=advice,
            num=int((counts - distinct).sum()),
            examples=_most_copied(dataset, most),
        )
    ]


_IN_TRAIN = (
    "Only train is copied here, which weighs the rare classes more and spoils no score.",
    "Nothing to change; drawing rare faces more often while training does the same without copies.",
)
_BEFORE_THE_SPLIT = (
    "If rare faces are copied before the set is split, nearly every rare test face is in train, too. The score can lie "
    "forty points too high, and one sign tells: the rarest class has the highest recall.",
    "Go back to the set without copies, split that, and weigh or draw rare classes more often in train alone. Look at "
    "the recall of each class in the report: the rarest should not be the best.",
)
"""Why it matters, and the advice."""


def find_missing_classes(dataset: ScannedDataset) -> list[Finding]:
    """Classes without a face, in one split or in the whole data set."""
    findings = []
    total = dataset.count_classes()
    parts = {} if list(dataset.parts) == ["whole"] else dataset.parts
    for split, rows in parts.items():
        counts = dataset.count_classes(rows)
        missing = [name for name, n, all_ in zip(dataset.class_names, counts, total, strict=True) if all_ and not n]
        if missing:
            has = "has no face" if len(missing) == 1 else "have no face"
            findings.append(
                Finding(
                    id="class-missing-in-split",
                    severity="fault",
                    seen=f"{listed(missing)} {has} in {split}, though the set has "
                    f"{sum(int(total[dataset.class_names.index(name)]) for name in missing):,}.",
                    matters="A class that train lacks cannot be learned, and one that test lacks is not measured: "
                    "balanced accuracy and macro-F1 then mean something else than they say.",
                    advice="Check how the split was made (a sorted list cut in two loses whole classes) and split "
                    "again, each class in proportion: ferray.data prepare does.",
                    num=len(missing),
                )
            )
    counted = dict(zip(dataset.class_names, total.tolist(), strict=True))
    expected = list(dict.fromkeys((*dataset.class_names, *dataset.subject.class_aliases)))
    absent = [name for name in expected if not counted.get(name)]
    if absent:
        findings.append(
            Finding(
                id="class-missing",
                severity="warning",
                seen=f"The set has no face at all of {listed(absent)}.",
                matters="Scores over fewer classes are higher and must not be compared with those over all "
                f"{len(expected)}.",
                advice="Say the number of classes beside every score, or check that no folder was left behind.",
                num=len(absent),
            )
        )
    return findings


def find_differing_shares(dataset: ScannedDataset) -> list[Finding]:
    """Splits whose class shares differ from the rest by more than chance and by more than a small effect.

    Source: Pearson's chi-square test of two rows by class; effect size V of Cramer, "Mathematical Methods of
    Statistics", 1946.
    """
    if len(dataset.split_places) < 2:
        return []
    findings = []
    for split, rows in dataset.parts.items():
        inside = dataset.count_classes(rows)
        outside = dataset.count_classes() - inside
        effect, probability = _compare(np.stack([inside, outside]))
        if split == "train" or effect < MIN_EFFECT or probability > MAX_PROBABILITY:
            continue  # most of the rest of the other splits is train
        shares = np.stack([inside / inside.sum(), outside / outside.sum()])
        label = int(np.argmax(np.abs(shares[0] - shares[1])))
        findings.append(
            Finding(
                id="class-shares-differ",
                severity="warning",
                seen=f"The classes of {split} are not distributed like the rest: {dataset.class_names[label]} makes "
                f"up {percent(shares[0, label])} of {split} and {percent(shares[1, label])} of the other faces "
                f"(Cramer's V {effect:.2f}; by chance less than once in {1 / MAX_PROBABILITY:,.0f} times).",
                matters="Accuracy depends on how often each class occurs: a model that is right on the frequent "
                "classes scores otherwise here than on the set as a whole.",
                advice="If it is meant (a balanced test split), say so and compare balanced accuracy; if not, split "
                "again with each class in proportion.",
                num=len(rows),
            )
        )
    return findings


def _count_distinct(dataset: ScannedDataset, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of distinct pictures of each class, copies counted as one, shape (classes,)."""
    pairs = np.unique(np.stack([dataset.labels[rows], dataset.groups[rows]], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=len(dataset.class_names)).astype(np.int64)


def _ratio(counts: NDArray[np.int64]) -> float:
    return float(counts.max() / counts.min())


def _classes_across_splits(dataset: ScannedDataset) -> list[str]:
    """Classes with at least a tenth of their distinct pictures in several splits."""
    if len(dataset.split_places) < 2:
        return []
    names = []
    for label, name in enumerate(dataset.class_names):
        rows = np.flatnonzero(dataset.labels == label)
        if not len(rows):
            continue
        spread = np.unique(np.stack([dataset.groups[rows], dataset.splits[rows]], axis=1), axis=0)
        num_splits = np.unique(spread[:, 0], return_counts=True)[1]
        if 10 * int((num_splits > 1).sum()) >= len(num_splits):
            names.append(name)
    return names


def _are_later_splits_without_copies(dataset: ScannedDataset) -> bool:
    """Whether no class is copied in validation and test."""
    later = [rows for split, rows in dataset.parts.items() if split != "train"]
    return all(
        (dataset.count_classes(rows) <= MIN_COPYING * np.maximum(_count_distinct(dataset, rows), 1)).all()
        for rows in later
    )


def _most_copied(dataset: ScannedDataset, label: int) -> tuple[str, ...]:
    """The faces of a class that have the most copies."""
    rows = np.flatnonzero(dataset.labels == label)
    groups, first, counts = np.unique(dataset.groups[rows], return_index=True, return_counts=True)
    most = [at for at in np.lexsort((groups, -counts))[:NUM_EXAMPLES].tolist() if counts[at] > 1]
    return tuple(f"{dataset.describe(int(rows[first[at]]))} is there {counts[at]:,} times" for at in most)


def _compare(table: NDArray[np.int64]) -> tuple[float, float]:
    """Cramer's V of a table of two rows of counts, and the probability of its chi-square by chance."""
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 0.0, 1.0
    from scipy.stats import chi2_contingency

    result = chi2_contingency(table, correction=False)
    return float(np.sqrt(result.statistic / table.sum())), float(result.pvalue)
