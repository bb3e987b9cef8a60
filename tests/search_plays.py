"""Searches without Ray's loop and without training: trials that learn as a function of their point says."""

import random
from typing import Any

from ferray.records import State
from ferray.search.decide import Decisions
from ferray.search.extend import Suggestion

EPOCHS = 9
"""Of trials that do not say."""


def score(point: dict[str, Any], epoch: int) -> float:
    """A learning curve that depends on the point alone."""
    return round(random.Random(repr(sorted(point.items()))).random() * epoch / EPOCHS, 6)


def play(decisions: Decisions, order: random.Random, *, steps: int | None = None) -> None:
    """Three trials at a time, epochs arriving in a random order; stop after some steps, as a crash would."""
    live: dict[int, tuple[Suggestion, int]] = {}
    exhausted = False
    while steps is None or steps > 0:
        while len(live) < 3 and not exhausted:
            suggestion = decisions.suggest()
            if isinstance(suggestion, str):
                exhausted = True
            else:
                live[suggestion.number] = (suggestion, suggestion.after)
        if not live:
            return
        number = order.choice(sorted(live))
        suggestion, epoch = live[number][0], live[number][1] + 1
        value = score(suggestion.point, epoch)
        state: State | None = "done" if epoch == suggestion.point.get("epochs", EPOCHS) else None
        if state is None and decisions.hear(number, epoch, value):
            state = "stopped"
        live[number] = (suggestion, epoch)
        if state is not None:
            decisions.end(number, state, epoch, value)
            del live[number]
        steps = None if steps is None else steps - 1
