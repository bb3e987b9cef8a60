"""How many epochs successive halving is expected to leave of some trials, by chance alone.

A trial that reaches a rung goes on if its score is not below the quantile `1 - 1/eta` of the scores that were there
before, between two of them by interpolation, as Ray Tune's asynchronous scheduler computes it. If the order of the
scores is random, the first one always goes on, the second every other time, the hundredth about once in `eta` times.

Where trials keep their order from rung to rung, those that go on later are better than those before them, and so go on
from the next rung, too, more often than this says: with three rungs it is a sixth too few epochs at most.

Begin at `epochs_to_come`.
"""

from collections import Counter
from collections.abc import Iterable

from ferray.space import Hyperband


def chance_to_go_on(num_before: int, eta: float) -> float:
    """The probability that a trial goes on from a rung that so many have reached before.

    Args:
        num_before: At least 0.
        eta: Above 1.
    """
    if num_before == 0:
        return 1.0
    # The quantile lies at place q (n - 1) of n ordered scores, counted from 0; a new score of random rank is below the
    # k-th with the probability (k + 1) / (n + 1).
    place = (1 - 1 / eta) * (num_before - 1)
    return 1 - (place + 1) / (num_before + 1)


def epochs_to_come(
    num_trials: int,
    max_epochs: int,
    halving: Hyperband | None,
    *,
    running: Iterable[int] = (),
    ended: Iterable[int] = (),
) -> float:
    """Epochs that trials still take, if which of them are stopped is left to chance.

    Args:
        num_trials: Those that have not begun.
        max_epochs: Of each trial.
        halving: The rule for stopping early; None where every trial is trained to its end.
        running: Epochs of those that are running.
        ended: Epochs of those that have ended.
    """
    rungs = () if halving is None else halving.rungs_below(max_epochs)
    underway = Counter(running)
    reached = Counter({rung: sum(num >= rung for num in (*underway.elements(), *ended)) for rung in rungs})
    underway[0] += num_trials
    total, going_on, begin = 0.0, 0.0, 0
    for end in (*rungs, max_epochs):
        between = {num: count for num, count in underway.items() if begin <= num < end}
        total += going_on * (end - begin) + sum(count * (end - num) for num, count in between.items())
        arriving = going_on + sum(between.values())
        going_on = arriving if halving is None else _sum_of_chances(reached[end], arriving, halving.eta)
        begin = end
    return total


def _sum_of_chances(num_before: int, arriving: float, eta: float) -> float:
    """How many go on of so many that reach a rung one after the other; a part of a trial arrives last."""
    whole = int(arriving)
    chances = sum(chance_to_go_on(num_before + place, eta) for place in range(whole))
    return chances + (arriving - whole) * chance_to_go_on(num_before + whole, eta)
