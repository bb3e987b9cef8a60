"""The settings of a store, checked where they are made. Begin at `PrepareOptions`."""

from dataclasses import dataclass, field
from typing import Literal

from ferray.data.threads import Threads
from ferray.errors import DataError

Shares = tuple[float, float, float]
"""Shares of train, validation and test; they add up to 1."""

OnBad = Literal["skip", "fail"]
"""Leave out what cannot be used and count it, or fail at the first."""

OnCopies = Literal["find", "skip"]
"""Look for copies of photographs and keep each group of them in one split, or do not look."""

Dropped = Literal["conflicts", "leaks"]
"""Copies whose labels disagree; copies of faces in a later split."""

DEFAULT_SPLIT: Shares = (0.7, 0.1, 0.2)
DEFAULT_SIZE_PX = 224
VALIDATION_FROM_TRAIN: Shares = (0.9, 0.1, 0.0)
"""For public sets that have train and test without validation."""
DEFAULT_MARGIN = 0.1
"""ExpW's boxes cut through chins and foreheads. A tenth on each side shows the whole face; one crop in ten then
overruns its photograph. With a margin of 0.2 one in five does, with 0.3 two in five."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """How a store is made from a source.

    Raises:
        DataError: A value is out of its bounds, or two values contradict each other.
    """

    size_px: int = DEFAULT_SIZE_PX
    """Side of a face in the store."""
    margin: float = DEFAULT_MARGIN
    """Added to each side of a box, as a fraction of its longer side. A photograph that is taken whole has no margin."""
    num_faces: int | None = None
    """Draw that many faces, each class in its own proportion; None takes all."""
    split: Shares | None = None
    """Shares of the splits. None keeps the source's own split, or takes `DEFAULT_SPLIT` where it has none."""
    seed: int = 0
    """Seed of the sample and of the split."""
    on_bad: OnBad = "skip"
    """What to do with rows and photographs that cannot be used."""
    copies: OnCopies = "find"
    """Whether to look for copies of photographs."""
    drop_conflicts: bool = False
    """Leave out every face of a group of copies whose labels disagree."""
    drop_leaks: bool = False
    """Leave out of train, then of validation, the copies of faces in a later split."""
    threads: Threads = field(default_factory=Threads)
    """How the work is spread; no byte of the store depends on it."""

    def __post_init__(self) -> None:
        if not 8 <= self.size_px <= 1024:
            raise DataError(f"--size {self.size_px}", "not between 8 and 1024 pixels", "VGG16 was made for 224")
        if not 0 <= self.margin <= 2:
            way_out = f"It is a fraction of the box's side, {DEFAULT_MARGIN:g} by default"
            raise DataError(f"--margin {self.margin:g}", "not between 0 and 2", way_out)
        if self.num_faces is not None and self.num_faces < 1:
            raise DataError(f"--num-faces {self.num_faces}", "below 1", "Leave it out to take all faces")
        if self.on_bad not in ("skip", "fail"):
            raise DataError(f"--on-bad {self.on_bad}", "unknown", "Known: skip, fail")
        if self.copies not in ("find", "skip"):
            raise DataError(f"--copies {self.copies}", "unknown", "Known: find, skip")
        if self.copies == "skip" and self.dropped:
            option = "--drop-conflicts" if self.drop_conflicts else "--drop-leaks"
            raise DataError(f"--copies skip {option}", "needs the copies", "Leave --copies skip out")
        if self.split is not None:
            check_shares(self.split)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """Which copies are left out, as the manifest records it."""
        is_dropped: dict[Dropped, bool] = {"conflicts": self.drop_conflicts, "leaks": self.drop_leaks}
        return tuple(name for name in is_dropped if is_dropped[name])


def parse_shares(text: str) -> Shares:
    """Parse `70/10/20` into shares; `0/0/100` is a store of test faces only.

    Raises:
        DataError: Not three numbers that add up to 100.
    """
    way_out = "Write three numbers that add up to 100, for train/validation/test, for example 70/10/20"
    try:
        parts = [float(part) for part in text.split("/")]
    except ValueError as error:
        raise DataError(f"--split {text}", "not three numbers", way_out) from error
    if len(parts) != 3 or not all(0 <= part <= 100 for part in parts) or abs(sum(parts) - 100) > 1e-6:
        raise DataError(f"--split {text}", "not three numbers that add up to 100", way_out)
    return (parts[0] / 100, parts[1] / 100, parts[2] / 100)


def check_shares(shares: Shares) -> None:
    """Refuse shares that are not three numbers in [0, 1] with the sum 1.

    Raises:
        DataError: They are not.
    """
    if not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        way_out = "Give the shares of train, validation and test, for example (0.7, 0.1, 0.2)"
        raise DataError(f"split {shares!r}", "not three shares that add up to 1", way_out)
