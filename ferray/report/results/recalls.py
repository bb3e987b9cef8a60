"""Which classes the best model knows and which it does not, in sentences. Begin at `recall_sentences`."""

from ferray.audit.finding import listed
from ferray.data.subject import Subject
from ferray.metrics.intervals import bracket_text
from ferray.metrics.scores import Scores
from ferray.wording import count_of


def recall_sentences(scores: Scores, shown: Subject) -> list[str]:
    """The classes that are never recognized, those that the split lacks, and the lowest and highest of other recalls.

    Args:
        scores: Of a split.
        shown: What the pictures show.
    """
    names, counts = scores.class_names, scores.class_counts
    predicted = scores.confusion.sum(axis=0)
    by_recall = sorted((recall, place) for place, recall in enumerate(scores.recalls) if recall is not None)
    sentences = []
    zeros = [place for recall, place in by_recall if recall == 0]
    if zeros:
        faces = listed([f"{names[place]} ({count_of(int(counts[place]), shown.noun)})" for place in zeros])
        never = [place for place in zeros if not predicted[place]]
        verb = "is" if len(never) == 1 else "are"
        more = f"; {listed([names[place] for place in never])} {verb} never predicted" if never else ""
        sentences.append(f"Recall is 0 for {faces}: not one was recognized{more}.")
    missing = [name for name, recall in zip(names, scores.recalls, strict=True) if recall is None]
    if missing:
        verb = "has" if len(missing) == 1 else "have"
        sentences.append(f"{listed(missing)} {verb} no {shown.noun} in this split, so the recall is not known.")
    known = [one for one in by_recall if one[0] > 0]
    if len(known) > 1:
        low, high = (_recall(scores, place) for _, place in (known[0], known[-1]))
        sentences.append(
            f"{'Else the' if zeros else 'The'} lowest recall is that of {low}, the highest that of {high}."
        )
    return sentences


def _recall(scores: Scores, place: int) -> str:
    interval = scores.recall_intervals[place]
    return f"{scores.class_names[place]}, {scores.recalls[place]:.3f}" + (
        "" if interval is None else f" {bracket_text(interval, 3)}"
    )
