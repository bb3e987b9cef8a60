"""What the searcher and the scheduler of a new space may learn from trials of earlier spaces. Begin at `look_back`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ferray.records.events import EndEvent, Event, RetryEvent, SuggestEvent
from ferray.search.history.points import Identify, KnownTrial, as_point, known_trials
from ferray.space import Space


@dataclass(frozen=True, kw_only=True)
class EarlierTrials:
    """The trials that earlier spaces asked for."""

    known: Mapping[int, KnownTrial]
    """By number."""
    points: Mapping[int, dict[str, Any]]
    """Those that are points of the new space, as such, by number."""
    unfinished: frozenset[int]
    """Those that had begun and not ended."""
    num_shared: int
    """Points of the new space among them."""
    num_outside: int
    """Trials among them that the new space would not ask for, in whole points."""

    def matters(self, number: int) -> bool:
        """Whether a trial is reported to the new space's scheduler: it is one of its points, or it is continued."""
        return number in self.points or number in self.unfinished


def look_back(events: Sequence[Event], space: Space, identify: Identify, *, seed: int) -> EarlierTrials:
    """The trials of earlier spaces, seen from a new one.

    Args:
        events: All up to the one that the new space came with.
        space: The new one.
        identify: The trial id of a point of the new space.
        seed: Search seed.
    """
    folds = space.folds
    known = known_trials(events, space, seed=seed)
    found = {number: as_point(space, one, identify) for number, one in known.items()}
    points = {number: point for number, point in found.items() if point is not None}
    unfinished: set[int] = set()
    for event in events:
        if isinstance(event, SuggestEvent | RetryEvent):
            unfinished.add(event.number)
        elif isinstance(event, EndEvent):
            unfinished.discard(event.number)
    num_shared = len({known[number].trial_id for number in points if number % folds == 0})
    num_whole_points = -(-len(known) // folds)
    return EarlierTrials(
        known=known,
        points=points,
        unfinished=frozenset(unfinished),
        num_shared=num_shared,
        num_outside=(num_whole_points - num_shared) * folds,
    )
