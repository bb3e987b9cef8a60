"""The faults a user can put right, one small tree.

    FerrayError
    ├── RecipeError       a setting of a training run
    ├── SpaceError        a search-space file
    ├── StorageError      a folder or file that cannot be read, written or locked
    │   ├── FencedError   somebody else has taken a folder over
    │   └── LockedError   somebody else is using a folder
    ├── BucketError       an object that cannot be fetched or sent
    │   └── BucketDownError  its service does not answer
    ├── RecordError       a folder `runs/NAME`
    ├── DataError         photographs, labels, a store of faces
    ├── WeightsError      pretrained weights
    ├── TrainError        a training run that cannot go on
    │   └── DivergedError a loss or a score that is not finite, on all its ranks
    ├── CheckpointError   a checkpoint or an exported best model
    ├── TrackingError     W&B settings
    └── SearchError       workers, clusters, a search as a whole

Commands print one without a traceback and exit with 2.
"""

MAX_SHOWN = 2000
"""Characters of a part of a message."""


class FerrayError(Exception):
    """A place, a fault and a way out.

    Args:
        where: File and line, option, or field.
        what: What is wrong, with the value.
        way_out: What the user can do.
    """

    def __init__(self, where: str, what: str, way_out: str) -> None:
        super().__init__(where, what, way_out)  # exactly the arguments: it must survive pickling by Ray

    def __str__(self) -> str:
        where, what, way_out = map(_shown, self.args)
        return f"{where}: {what}\n  {way_out}"


def _shown(part: object) -> str:
    """A part of a message, safe for a terminal: what it quotes may be of any length and hold control characters."""
    text = str(part)
    if len(text) > MAX_SHOWN:
        text = f"{text[:MAX_SHOWN]}... ({len(text):,} characters)"
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


class RecipeError(FerrayError):
    """A setting of a training run."""


class SpaceError(FerrayError):
    """A search-space file."""


class StorageError(FerrayError):
    """A folder or file that cannot be read, written or locked."""


class FencedError(StorageError):
    """A folder that somebody else has taken over; what was to be written is not."""


class LockedError(StorageError):
    """A folder that somebody else is using, for longer than it is waited for."""


class BucketError(FerrayError):
    """An object of a bucket that cannot be fetched or sent."""


class BucketDownError(BucketError):
    """A bucket whose service cannot be reached, or answers that it cannot serve at the moment."""


class RecordError(FerrayError):
    """A folder `runs/NAME`."""


class DataError(FerrayError):
    """Photographs, labels, a store of faces."""


class WeightsError(FerrayError):
    """Pretrained weights."""


class TrainError(FerrayError):
    """A training run that cannot go on."""


class DivergedError(TrainError):
    """A loss or a score that is not finite; all ranks of the run find it at the same step."""


class CheckpointError(FerrayError):
    """A checkpoint or an exported best model."""


class TrackingError(FerrayError):
    """W&B settings."""


class SearchError(FerrayError):
    """Workers, clusters, a search as a whole."""
