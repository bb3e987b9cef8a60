"""One searched setting: its values or its distribution, as a W&B sweep file gives them.

Distributions are those of W&B: `log_uniform` takes natural-log exponents, `log_uniform_values` takes values,
`int_uniform` includes both ends, a `q_` distribution gives multiples of q. Two rules are stricter: the multiples of q
are between min and max, and the recipe must accept every value.

`ferray.space.settings` makes parameters from a file; `ferray.space.sampling` draws from them.
"""

import math
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Any, Literal

Kind = Literal["value", "values", "int", "float"]

OPTION = "--set"
"""The option that replaces a parameter of the file; errors about one begin with it."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A field of the recipe and the values that a search may give it."""

    name: str
    """The field's name."""
    kind: Kind
    """One value, several, or a range of whole numbers or of fractions."""
    distribution: str
    """W&B's name of the distribution."""
    values: tuple[Any, ...] = ()
    """The values of the kinds `value` (one) and `values`."""
    probabilities: tuple[float, ...] | None = None
    """The probability of each value; None where all are equally likely."""
    low: int | float | None = None
    """Smallest value of a range; None where only the recipe's bounds limit it."""
    high: int | float | None = None
    """Largest value of a range, included."""
    log: bool = False
    """Whether the logarithm of the value has the distribution."""
    step: int | float | None = None
    """Values are multiples of it, and so are `low` and `high`; None for all values."""
    shape: tuple[float, float] | None = None
    """Mu and sigma of the normal distributions, a and b of beta; None for the uniform ones."""
    where: str = ""
    """File and line, or option, for errors."""

    @property
    def is_option(self) -> bool:
        """Whether it comes from the command line, not from the file."""
        return self.where.startswith(OPTION)

    @property
    def searched(self) -> bool:
        """Whether it can differ from trial to trial."""
        return len(self.values) > 1 if self.kind in ("value", "values") else self.low is None or self.low != self.high

    @property
    def largest(self) -> Any:
        """The largest number among its values.

        Raises:
            ValueError: The range has no upper end, or no value is a number.
        """
        numbers = [value for value in (*self.values, self.high) if isinstance(value, int | float)]
        if not numbers:
            raise ValueError(f"{self.name} has no largest value")
        return max(numbers)

    @property
    def num_values(self) -> int | None:
        """The number of values; None for a range of fractions without steps."""
        if self.kind in ("value", "values"):
            return len(self.values)
        if self.low is None or self.high is None:
            return None
        step = self.step or (1 if self.kind == "int" else None)
        return None if step is None else round((self.high - self.low) / step) + 1

    @property
    def num_possible(self) -> int | None:
        """Like `num_values`, without values whose probability is 0."""
        return self.num_values if self.probabilities is None else sum(share > 0 for share in self.probabilities)

    def value_at(self, index: int) -> Any:
        """The value of an index below `num_values`, counted from 0."""
        if self.kind in ("value", "values"):
            return self.values[index]
        assert self.low is not None
        return self._tidy(self.low + index * (self.step or 1))

    def ends(self) -> tuple[Any, ...]:
        """Values to test rules between fields with: the smallest and the largest number, all texts, and null."""
        listed = (*self.values, *(end for end in (self.low, self.high) if end is not None))
        numbers = [value for value in listed if isinstance(value, int | float)]
        others = [value for value in listed if not isinstance(value, int | float)]
        return tuple(dict.fromkeys([*others, *([min(numbers), max(numbers)] if numbers else [])]))

    def draw(self, random: Random) -> Any:
        """A value drawn from the distribution; where it has no ends, the recipe may refuse the value."""
        if self.kind in ("value", "values"):
            return random.choices(self.values, self.probabilities)[0]
        if self.kind == "int" and self.distribution == "int_uniform":
            assert isinstance(self.low, int) and isinstance(self.high, int)
            return self.low + math.floor(random.random() * (self.high - self.low + 1))
        return self._tidy(self._draw_raw(random))

    def settle(self, value: Any) -> Any:
        """A value that another sampler suggested, such as Optuna's TPE, on the steps of this parameter."""
        return value if self.step is None else self._tidy(value)

    def _draw_raw(self, random: Random) -> float:
        if self.distribution.endswith("beta"):
            assert self.shape is not None
            return random.betavariate(*self.shape)
        share = random.random()
        if self.shape is not None:
            mu, sigma = self.shape
            normal = NormalDist(mu, sigma).inv_cdf(max(share, 2.0**-53)) if sigma else mu  # inv_cdf refuses 0
            return math.exp(min(normal, 700.0)) if self.log else normal
        assert self.low is not None and self.high is not None
        if not self.log:
            return self.low + share * (self.high - self.low)
        low, high = math.log(self.low), math.log(self.high)
        return math.exp(low + share * (high - low))

    def _tidy(self, value: float) -> Any:
        """The nearest multiple of the step between the ends, of the kind's type."""
        if self.step is not None:
            value = multiple(round(value / self.step), self.step)
        if self.low is not None and self.high is not None:
            value = min(max(value, self.low), self.high)
        return round(value) if self.kind == "int" else float(value)


def multiple(count: int, step: float) -> float:
    """`count` times `step`, as a person would write it: 3 times 0.1 is 0.3, not 0.30000000000000004."""
    return float(f"{count * step:.12g}")
