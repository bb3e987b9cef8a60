"""Labels that can be inferred from a file's name or from its place in the list.

A classifier never sees a name, but a split by position or a sample by name depends on it, and a word that occurs with
one label shows where the label or the picture comes from. Begin at `find_readable_names`.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import NUM_EXAMPLES, Finding, percent
from ferray.data.sources.folders import SPLIT_OF_ALIAS

MIN_SKILL = 0.2
"""Smallest skill of the names that is reported: the part of the errors of guessing the most frequent class that the
words of the names avoid on held-out rows. Names without a meaning have a skill of 0, within a few hundredths."""
MIN_ROWS = 50
MAX_CHANGES = 0.1
"""A list is sorted by class if its label changes from row to row at most this part as often as in a shuffled list."""

_WORD = re.compile(r"[^\W\d_]+")


def find_readable_names(dataset: ScannedDataset) -> list[Finding]:
    """Words in the names that predict the labels of held-out rows far better than chance."""
    if dataset.num_faces < MIN_ROWS:
        return []
    words = name_words(dataset)
    is_right, chance = predict_by_words(words, dataset.labels, halves_by_name(dataset))
    skill = (is_right.mean() - chance) / max(1 - chance, 1e-9)
    if skill < MIN_SKILL:
        return []
    informative = _most_informative_words(dataset, words)
    are_searched = dataset.form == "expw" or "expw" in dataset.dataset.split("+")
    names_classes = {word for _, word, _ in informative} <= _class_words(dataset)
    kind = "searched" if are_searched else "own" if names_classes else "foreign"
    matters, advice = _MEANING[kind]
    return [
        Finding(
            id="label-in-file-name",
            severity="warning" if kind == "foreign" else "note",
            seen=f"From the words of the file name alone {percent(is_right.mean())} of held-out labels are guessed; "
            f"always guessing the most frequent class gets {percent(chance)}.",
            matters=matters,
            advice=advice,
            num=int(is_right.sum()),
            examples=tuple(f"{word!r} is {name} in {percent(part)} of its faces" for part, word, name in informative),
        )
    ]


def _class_words(dataset: ScannedDataset) -> set[str]:
    """The words that name a class."""
    aliases = [alias for name in dataset.class_names for alias in dataset.subject.class_aliases.get(name, ())]
    return {word for name in (*dataset.class_names, *aliases) for word in _WORD.findall(name.casefold())}


_MEANING = {
    "searched": (
        "The word that was searched for, not a label that people gave, is in the name: pictures of one word look alike "
        "in other ways, too, and a model learns those. A model never sees the names.",
        "Never feed names to a model; compare scores by word (a slice each) before believing them.",
    ),
    "own": (
        "The name repeats the class: nothing is lost by it as long as nobody splits or samples by name.",
        "Shuffle before anything is taken from the front or the end of a listing.",
    ),
    "foreign": (
        "The word tells where a picture comes from, so each class has its own place: a model can learn the "
        "light, size and framing of the place instead of the expression; test faces from there do not show it.",
        "Mix the sources within each class, or hold out one source as a test; give scores by source.",
    ),
}
"""By origin of the words (search words, class names, others): why it matters, and the advice."""


def find_sorted_rows(dataset: ScannedDataset) -> list[Finding]:
    """A list whose rows are sorted by class."""
    if not dataset.is_listed:
        return []
    for split, rows in dataset.parts.items():
        labels = dataset.labels[rows]
        shares = dataset.count_classes(rows) / max(len(rows), 1)
        expected = (len(rows) - 1) * (1 - float((shares**2).sum()))
        changes = int((np.diff(labels) != 0).sum())
        if len(rows) >= MIN_ROWS and expected > 0 and changes <= MAX_CHANGES * expected:
            return [
                Finding(
                    id="rows-sorted-by-class",
                    severity="warning",
                    seen=f"The rows{'' if split == 'whole' else f' of {split}'} are sorted by class: the label "
                    f"changes {changes:,} times from one row to the next; in a shuffled list it would {expected:,.0f} "
                    "times.",
                    matters="A split by position (the last 20 % of the rows, as some libraries do) then holds other "
                    "classes than the rest, and batches hold one class alone.",
                    advice="Shuffle the list with a fixed seed, or split each class in proportion: ferray.data "
                    "prepare does.",
                    num=changes,
                )
            ]
    return []


def name_words(dataset: ScannedDataset) -> list[frozenset[str]]:
    """The words of each row's name, lowercase, without the folders that name split and class."""
    depth = 0
    if dataset.is_tree:
        depth = 2 if any(name.split("/")[0].casefold() in SPLIT_OF_ALIAS for name in dataset.names[:1]) else 1
    paths = ["/".join(name.split("/")[min(depth, name.count("/")) :]).rpartition(".") for name in dataset.names]
    return [frozenset(_WORD.findall((stem or end).casefold())) for stem, _, end in paths]


def halves_by_name(dataset: ScannedDataset) -> NDArray[np.int64]:
    """0 or 1 for each row, by a hash of the name of its photograph, shape (N,); a photograph is in one half."""
    return np.asarray([hashlib.sha256(name.encode("utf-8", "replace")).digest()[0] & 1 for name in dataset.names])


def predict_by_words(
    words: Sequence[frozenset[str]], labels: NDArray[np.int64], halves: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], float]:
    """Predict the labels of each half after learning from the other, by naive Bayes with add-one smoothing.

    Returns:
        Whether each prediction is right, shape (N,), and the share of the most frequent class.

    Source: Maron, "Automatic Indexing", 1961 (naive Bayes over words).
    """
    num_classes = int(labels.max()) + 1
    is_right = np.zeros(len(labels), dtype=np.bool_)
    for half in (0, 1):
        learned = np.flatnonzero(halves != half)
        totals = np.bincount(labels[learned], minlength=num_classes)
        counts: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.zeros(num_classes))
        for row in learned.tolist():
            for word in words[row]:
                counts[word][labels[row]] += 1
        priors = np.log(totals + 1.0)
        likelihoods = {word: np.log((n + 1) / (totals + 2)) for word, n in counts.items() if n.sum() >= 3}
        for row in np.flatnonzero(halves == half).tolist():
            score = priors + sum(
                (likelihoods[word] for word in words[row] if word in likelihoods), np.zeros(num_classes)
            )
            is_right[row] = int(np.argmax(score)) == labels[row]
    return is_right, float(np.bincount(labels).max() / len(labels))


def _most_informative_words(dataset: ScannedDataset, words: Sequence[frozenset[str]]) -> list[tuple[float, str, str]]:
    """The words with the most information, each as: share of its most frequent class, word, name of that class."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row, found in enumerate(words):
        for word in found:
            counts[word][int(dataset.labels[row])] += 1
    shares = dataset.count_classes() / dataset.num_faces
    ranked = []
    for word, by_label in counts.items():
        total = sum(by_label.values())
        information = sum(n * math.log(n / total / shares[label]) for label, n in by_label.items())
        label, most = by_label.most_common(1)[0]
        ranked.append((information, most / total, word, dataset.class_names[label]))
    return [(part, word, name) for _, part, word, name in sorted(ranked, reverse=True)[:NUM_EXAMPLES]]
