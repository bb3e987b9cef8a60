"""Trials whose scores are of fewer epochs than they were given, since they were stopped early or have not ended.

Such a score says how fast a setting learns, too: reports mark it. Begin at `is_cut`.
"""

from collections.abc import Sequence

from ferray.records.points import Point
from ferray.records.trial import TrialRecord
from ferray.space import Space
from ferray.wording import first_line


def is_cut(point: Point) -> bool:
    """Whether a trial of a point was not trained to its end, which `patience` may bring earlier."""
    return any(record.state != "done" for record in point.records)


def cut_in_words(points: Sequence[Point]) -> str:
    """Why points have fewer epochs, such as `stopped early`; empty where none has."""
    states = {record.state for point in points for record in point.records} - {"done"}
    words = ["stopped early"] if "stopped" in states else []
    return " or ".join([*words, *(["not ended"] if states - {"stopped"} else [])])


def epochs_in_words(point: Point) -> str:
    """How many epochs the trials of a point have of those that they were given: `2 of 10`, `2 to 10 of 10`."""
    counts = sorted({len(record.epochs) for record in point.records})
    return f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} of {point.recipe.epochs}"


def reason_in_words(record: TrialRecord, space: Space) -> str:
    """Why a trial failed or was stopped, in one line: what is on record, or the rung at which it was cut."""
    halving = space.early_terminate
    if record.state != "stopped" or record.reason or halving is None:
        return first_line(record.reason)
    rungs, epoch = halving.rungs_below(record.recipe.epochs), len(record.epochs)
    place = f"at rung {rungs.index(epoch) + 1} of {len(rungs)}" if epoch in rungs else "there"
    return f"not in the best 1/{halving.eta:g} {place}"
