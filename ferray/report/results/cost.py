"""What a search has cost, as far as its records can tell. Begin at `measure_cost`."""

from collections.abc import Sequence
from dataclasses import dataclass

from ferray.records.search_file import SearchFile, Session
from ferray.records.trial import TrialRecord


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds are wall time of epochs, validation included; trials that ran side by side count each.

    The first epochs that need features of the frozen trunk have the time to compute them.
    """

    seconds: float
    """Of all epochs of all trials."""
    num_epochs: int
    by_state: dict[str, float]
    """Seconds of the trials by their state, for states that occur."""
    trials_by_state: dict[str, int]
    gpu_seconds: float | None
    """GPUs of a trial's worker group times its seconds; None where no trial had a GPU."""
    idle: float | None
    """Share of the worker groups' time in which they had no trial, of the sessions that recorded it, each weighted by
    its groups; None where none did."""
    num_sessions: int
    """Times that worker groups were started; what each start took is not on record."""
    devices: tuple[str, ...]


def measure_cost(search: SearchFile, records: Sequence[TrialRecord]) -> Cost:
    """Add up what the records of all trials say."""
    by_state: dict[str, float] = {}
    trials_by_state: dict[str, int] = {}
    for record in records:
        by_state[record.state] = by_state.get(record.state, 0.0) + record.seconds()
        trials_by_state[record.state] = trials_by_state.get(record.state, 0) + 1
    known = [(_groups(one, "num_groups", 1), one.utilization) for one in search.sessions if one.utilization is not None]
    weight = sum(groups for groups, _ in known)
    return Cost(
        seconds=sum(by_state.values()),
        num_epochs=sum(len(record.epochs) for record in records),
        by_state=by_state,
        trials_by_state=trials_by_state,
        gpu_seconds=_gpu_seconds(search.sessions, records),
        idle=sum(groups * (1 - used) for groups, used in known) / weight if weight else None,
        num_sessions=len(search.sessions),
        devices=tuple(sorted({record.device for record in records if record.device})),
    )


def _gpu_seconds(sessions: Sequence[Session], records: Sequence[TrialRecord]) -> float | None:
    """By the allocation of the session in which each trial began."""
    total, has_any = 0.0, False
    for record in records:
        before = [session for session in sessions if session.began <= record.began] or list(sessions[:1])
        if not before or record.device.startswith("cpu"):
            continue
        gpus = _groups(before[-1], "workers", 1) * _groups(before[-1], "gpus_per_worker", 0)
        total += gpus * record.seconds()
        has_any |= gpus > 0
    return total if has_any else None


def _groups(session: Session, key: str, default: float) -> float:
    """A number of a session's allocation, which may be anybody's."""
    value = session.groups.get(key, default)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else default
