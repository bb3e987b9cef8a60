"""How sure the winner of a search is, as a value that `search.json` keeps, and in words.

`ferray.search.outcome.significance` computes it, with the predictions of the trials. Begin at `Significance`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ferray.errors import RecordError
from ferray.metrics.compare import Comparison, SelectionBias
from ferray.metrics.intervals import Interval
from ferray.records.values import describe_fault
from ferray.wording import count_of


@dataclass(frozen=True, kw_only=True)
class Significance:
    """What the winner's score is worth before anything is tested."""

    winner: int
    """Number of its first trial."""
    trials: int
    """Of the winner: its folds and seeds."""
    mean: float
    """Of their scores."""
    spread: float | None
    """Standard deviation of their scores; None for one."""
    runner_up: int | None
    """That of the next point; None where there is none."""
    comparison: Comparison | None
    """Of their validation accuracies, paired by seed and by face; None without a runner-up of equal trials."""
    luck: SelectionBias | None
    """None for a metric without an interval, or where a trial of the winner failed."""
    num_points: int | None = None
    """Points with as many trials, which the winner is the best of; None where that is not on record."""

    @property
    def interval(self) -> Interval | None:
        """95 %, of the winner's mean over the choice of validation faces; None where it was not computed."""
        if self.luck is None:
            return None
        low, high = self.luck.interval  # around the corrected score; one end may be cut off at the best or worst score
        reach = max(high - self.luck.corrected, self.luck.corrected - low)
        largest = 1.0 if self.mean <= 1 else math.inf
        return max(0.0, self.mean - reach), min(largest, self.mean + reach)

    @property
    def was_chosen(self) -> bool:
        """Whether there was another point with as many trials, so that luck had a part in the choice."""
        return self.num_points != 1

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        if self.comparison is not None:
            values["comparison"]["verdict"] = self.comparison.conclusion
        if self.luck is not None:
            values["luck"]["luck"] = self.luck.bias
        return values

    def lines(self, metric: str) -> list[str]:
        """In words."""
        lines = []
        if self.spread is not None:
            lines.append(
                f"trial {self.winner}'s point has the best mean, {metric} {self.mean:.4f} +- {self.spread:.4f}"
                f" over {self.trials} trials"
            )
        if self.comparison is not None:
            low, high = self.comparison.interval
            difference = round(self.comparison.difference, 4)
            # The winner by another metric need not have the better accuracy.
            place, by = (
                ("ahead of", " by") if difference > 0 else ("behind", ":") if difference < 0 else ("level with", ":")
            )
            lines.append(
                f"trial {self.winner} is {place} trial {self.runner_up} in validation accuracy{by}"
                f" {difference:+z.4f} [{low:+z.4f}, {high:+z.4f}], face by face over"
                f" {count_of(self.comparison.seeds, 'seed')}: {self.comparison.conclusion}"
            )
        if self.luck is not None:
            low, high = self.luck.interval
            many = "many" if self.num_points is None else f"{self.num_points:,}"
            lines.append(
                f"{metric} {self.luck.best:.4f} is the best of {many}; without the luck of the search"
                f" {self.luck.corrected:.4f} [{low:.4f}, {high:.4f}]"
                if self.was_chosen
                else f"{metric} {self.luck.best:.4f} [{low:.4f}, {high:.4f}]: no other point has as many trials, so"
                " none was chosen for its luck"
            )
        return lines


def read_verdict(value: dict[str, Any] | None, *, where: str) -> Significance | None:
    """What `Significance.to_json` wrote into `search.json`; None where there is nothing.

    Args:
        value: The value of the key `verdict`.
        where: The file, for errors.

    Raises:
        RecordError: It is none.
    """
    if value is None:
        return None
    try:
        return _VERDICT.validate_python(value)
    except (ValidationError, RecursionError) as error:
        raise RecordError(where, f"verdict: {describe_fault(error)}", "Resume the search: it is made again") from error


_VERDICT = TypeAdapter(Significance)
