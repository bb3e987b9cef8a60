"""What should TPE know of a trial that successive halving has stopped?

That it came to its score, as if it had been trained to its end; that it was stopped after an epoch (Optuna's state
PRUNED, which TPE ranks below every complete trial); or nothing. Whole searches are simulated on learning curves that
are formulas: with ferray's own decisions, three trials at a time whose epochs end in a random order.

    python benchmarks/stopped_trials.py --seeds 100

Printed is the regret, the best final score that any point has minus the score of the best trial; its mean and a 95 %
interval over seeds, and the same for its difference to `complete`, seed by seed.
"""

import argparse
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fixtures import plays

from ferray.files.journal import Journal
from ferray.records.events import EndState, EventLog
from ferray.search.tune import decisions as decisions_module
from ferray.search.tune.adaptive import AdaptiveSearcher
from ferray.search.tune.decisions import Decisions
from ferray.space import read_space

Curve = Callable[[dict[str, Any], int], float]
"""The score of a point after an epoch."""

EPOCHS = 18
SPACE = """\
method: bayes
run_cap: POINTS
metric: {name: val_accuracy, goal: maximize}
early_terminate: {type: hyperband, min_iter: 2, eta: 3}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}
  dropout: {min: 0.0, max: 0.7}
  weight_decay: {distribution: log_uniform_values, min: 1.0e-6, max: 1.0e-1}
  optimizer: {values: [adam, adamw, sgd]}
  epochs: {value: 18}
"""
NOISE = 0.01
"""Standard deviation of an epoch's score."""


def final_score(point: dict[str, Any]) -> float:
    """After endless epochs: best, at 0.7, for a rate of 1e-3, a dropout of 0.4, a decay of 1e-3 and adamw."""
    away = ((math.log10(point["learning_rate"]) + 3) / 2) ** 2 + ((point["dropout"] - 0.4) / 0.7) ** 2
    away += ((math.log10(point["weight_decay"]) + 3) / 6) ** 2
    return 0.7 - 0.15 * away - {"adamw": 0.0, "adam": 0.01, "sgd": 0.05}[point["optimizer"]]


def parallel_curves(point: dict[str, Any], epoch: int) -> float:
    """All points learn as fast: an early order is the final one."""
    return final_score(point) * (1 - math.exp(-epoch / 4))


def crossing_curves(point: dict[str, Any], epoch: int) -> float:
    """Large rates and little dropout learn faster, whatever they come to: an early order misleads."""
    speed = 10 ** ((math.log10(point["learning_rate"]) + 3) / 2) * (1.2 - point["dropout"])
    return final_score(point) * (1 - math.exp(-epoch * min(4.0, max(0.08, 0.35 * speed))))


def overfitting_curves(point: dict[str, Any], epoch: int) -> float:
    """Large rates and little dropout learn faster and fall off later; the score so far does not show that."""
    fall = 0.01 * max(0.0, math.log10(point["learning_rate"]) + 3) * (1 - point["dropout"]) * epoch
    return crossing_curves(point, epoch) - fall


CURVES: dict[str, Curve] = {
    "parallel": parallel_curves,
    "crossing": crossing_curves,
    "overfitting": overfitting_curves,
}


STOPPED: dict[int, int] = {}
"""After which epoch the trials of the search that runs were stopped, by number."""


class CountedAsStopped(AdaptiveSearcher):
    """A stopped trial is one that was stopped after an epoch."""

    def report_point(self, number: int, point: Mapping[str, Any] | None, score: float | None) -> None:
        """As in `AdaptiveSearcher`, but for stopped trials."""
        if score is None or number not in STOPPED:
            super().report_point(number, point, score)
            return
        name = self._awaited.pop(number)
        self._searcher.on_trial_result(name, {"score": score, "training_iteration": STOPPED[number]})
        self._searcher.on_trial_complete(name, None)


class LeftOut(AdaptiveSearcher):
    """A stopped trial is left out, as one that failed."""

    def report_point(self, number: int, point: Mapping[str, Any] | None, score: float | None) -> None:
        """As in `AdaptiveSearcher`, but for stopped trials."""
        super().report_point(number, point, None if number in STOPPED else score)


class NotingStops(Decisions):
    """Notes in `STOPPED` which trials were stopped."""

    def end(self, number: int, state: EndState, epoch: int, score: float | None) -> None:
        """As in `Decisions`."""
        if state == "stopped":
            STOPPED[number] = epoch
        super().end(number, state, epoch, score)


WAYS = {"complete": AdaptiveSearcher, "stopped": CountedAsStopped, "left out": LeftOut}


def search(way: type[AdaptiveSearcher], curve: Curve, *, seed: int, num_points: int) -> tuple[float, int]:
    """Regret and epochs of one search."""
    best_known = max(  # of a fine grid
        curve(
            {"learning_rate": 10 ** (-rate / 10), "dropout": drop / 20, "weight_decay": 1e-3, "optimizer": "adamw"}, e
        )
        for rate in range(10, 51)
        for drop in range(15)
        for e in (EPOCHS // 2, EPOCHS)
    )
    noise = random.Random(seed)
    so_far: dict[str, float] = {}

    def score(point: dict[str, Any], epoch: int) -> float:
        """The best so far, as a search reports it."""
        value = curve(point, epoch) + noise.gauss(0, NOISE)
        so_far[repr(point)] = max(so_far.get(repr(point), -1.0), value)
        return so_far[repr(point)]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text(SPACE.replace("POINTS", str(num_points)))
        plays.score, plays.EPOCHS = score, EPOCHS
        decisions_module.AdaptiveSearcher = way  # type: ignore[misc]
        log = EventLog(Journal(Path(folder) / "journal.jsonl"))
        STOPPED.clear()
        decisions = NotingStops(read_space(file), log, identify=repr, seed=seed)
        plays.play(decisions, random.Random(seed))
        ends = [event for event in log.events if event.event == "end"]
        points = {event.number: event.point for event in log.events if event.event == "suggest"}
    winner = max(ends, key=lambda event: event.score or -1.0)
    reached = max(curve(points[winner.number], epoch) for epoch in range(1, winner.epoch + 1))
    return best_known - reached, sum(event.epoch for event in ends)


def describe(values: list[float]) -> str:
    """Mean and 95 % interval."""
    mean, half = statistics.fmean(values), 1.96 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def main() -> None:
    """Print a line for each kind of curve and each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--points", type=int, default=30)
    given = parser.parse_args()
    for kind, curve in CURVES.items():
        regrets: dict[str, list[float]] = {}
        for name, way in WAYS.items():
            found = [search(way, curve, seed=seed, num_points=given.points) for seed in range(given.seeds)]
            regrets[name] = [regret for regret, _ in found]
            differences = [one - other for one, other in zip(regrets[name], regrets["complete"], strict=True)]
            epochs = statistics.fmean(num for _, num in found)
            beside = "" if name == "complete" else f"  difference {describe(differences)}"
            print(f"{kind:12} {name:9} regret {describe(regrets[name])}  {epochs:.0f} epochs{beside}", flush=True)


if __name__ == "__main__":
    main()
