"""Labels that can be read from a file's name or from its place in the list.

A classifier never sees a name, but whoever splits by order or samples by name uses it, and a word that goes with a
label tells where the label or the picture comes from. Begin at `find_readable_names`.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.finding import NUM_EXAMPLES, Finding, percent
from ferray.data.sources.folders import ALIASES
from ferray.data.store.manifest import SPLITS

LEAST_SKILL = 0.2
"""Part of the errors of guessing the most frequent class that the name removes, on held-out rows, from which it is
reported. Names without a meaning have 0 within a few hundredths."""
LEAST_ROWS = 50
SORTED = 0.1
"""A list is sorted by class where its label changes at most this often from row to row, beside a shuffled one."""

_WORD = re.compile(r"[^\W\d_]+")


def find_readable_names(evidence: Evidence) -> list[Finding]:
    """Words in the names that tell the label of held-out rows far above chance."""
    if evidence.num < LEAST_ROWS:
        return []
    words = tokens(evidence)
    right, guess = read_labels(words, evidence.labels, folds(evidence))
    skill = (right.mean() - guess) / max(1 - guess, 1e-9)
    if skill < LEAST_SKILL:
        return []
    telling = _most_telling(evidence, words)
    own = {word for _, word, _ in telling} <= {alias for aliases in ALIASES.values() for alias in aliases}
    kind = "searched" if evidence.form in ("expw", "store") else "own" if own else "foreign"
    matters, advice = _MEANING[kind]
    return [
        Finding(
            id="label-in-file-name",
            severity="warning" if kind == "foreign" else "note",
            seen=f"From the words of the file name alone {percent(right.mean())} of held-out labels are guessed; "
            f"always guessing the most frequent class gets {percent(guess)}.",
            matters=matters,
            advice=advice,
            num=int(right.sum()),
            examples=tuple(f"{word!r} is {name} in {percent(part)} of its faces" for part, word, name in telling),
        )
    ]


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
"""Whose the telling words are: why that matters and what to do."""


def find_sorted_rows(evidence: Evidence) -> list[Finding]:
    """A list whose rows are sorted by class."""
    if not evidence.is_listed:
        return []
    for split, rows in evidence.parts.items():
        labels = evidence.labels[rows]
        shares = evidence.counts(rows) / max(len(rows), 1)
        expected = (len(rows) - 1) * (1 - float((shares**2).sum()))
        changes = int((np.diff(labels) != 0).sum())
        if len(rows) >= LEAST_ROWS and expected > 0 and changes <= SORTED * expected:
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


def tokens(evidence: Evidence) -> list[frozenset[str]]:
    """The words of each row's name, lowercase; folders that say split or class are left out, others are not."""
    depth = 0
    if evidence.is_tree:
        depth = 2 if any(name.split("/")[0].casefold() in _SPLIT_WORDS for name in evidence.names[:1]) else 1
    paths = ["/".join(name.split("/")[min(depth, name.count("/")) :]).rpartition(".") for name in evidence.names]
    return [frozenset(_WORD.findall((stem or end).casefold())) for stem, _, end in paths]


_SPLIT_WORDS = {*SPLITS, "training", "valid", "val", "testing", "publictest", "privatetest"}


def folds(evidence: Evidence) -> NDArray[np.int64]:
    """0 or 1 for each row by a hash of its photograph, so that one photograph is in one half, shape (N,)."""
    return np.asarray([hashlib.sha256(name.encode("utf-8", "replace")).digest()[0] & 1 for name in evidence.names])


def read_labels(
    words: Sequence[frozenset[str]], labels: NDArray[np.int64], halves: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], float]:
    """Guess the labels of each half from the words of the other, by naive Bayes with add-one smoothing.

    Returns:
        Whether each label was guessed, shape (N,), and the share of the most frequent class.

    Source: Maron, "Automatic Indexing", 1961 (naive Bayes over words).
    """
    num_classes = int(labels.max()) + 1
    right = np.zeros(len(labels), dtype=np.bool_)
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
            right[row] = int(np.argmax(score)) == labels[row]
    return right, float(np.bincount(labels).max() / len(labels))


def _most_telling(evidence: Evidence, words: Sequence[frozenset[str]]) -> list[tuple[float, str, str]]:
    """The words that say most, each with its class and that class's share of the faces with the word."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row, found in enumerate(words):
        for word in found:
            counts[word][int(evidence.labels[row])] += 1
    shares = evidence.counts(np.arange(evidence.num)) / evidence.num
    ranked = []
    for word, by_label in counts.items():
        total = sum(by_label.values())
        information = sum(n * math.log(n / total / shares[label]) for label, n in by_label.items())
        label, most = by_label.most_common(1)[0]
        ranked.append((information, most / total, word, evidence.class_names[label]))
    return [(part, word, name) for _, part, word, name in sorted(ranked, reverse=True)[:NUM_EXAMPLES]]
