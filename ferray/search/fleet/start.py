"""Ray is started on this machine: tried again and again while the machine is busy, and what a try has begun is ended.

Ray gives its processes 15 to 30 s, by clocks that no setting moves; with forty programs on two cores that is too
little. `ray.shutdown` does not end the processes of a start that has failed, some hundred megabytes a try.

Begin at `start_ray`.
"""

import signal
import sys
from itertools import count
from time import monotonic, sleep
from typing import Any

import ray

from ferray.errors import SearchError
from ferray.search.fleet import ray_patches
from ferray.waiting import waiting
from ferray.wording import first_line

LIMIT_S = 600.0
"""After so long a search on a busy machine is given up; the user may end it sooner."""

FAST_S = 5.0
"""A try that fails sooner has not run out of time: Ray cannot start here."""

FAST_TRIES = 2
"""So many of those in a row are enough; one can be a port that another program took."""

PAUSE_S = 5.0
"""Wait between two tries."""


def start_ray(**options: Any) -> None:
    """Start Ray on this machine and connect to it.

    Args:
        options: Of `ray.init`.

    Raises:
        SearchError: Ray cannot start here, or could not within `LIMIT_S`; none of its processes is left.
    """
    began, num_fast = monotonic(), 0
    for attempt in count(1):
        tried_at = monotonic()
        try:
            with waiting(f"starting Ray{f', try {attempt}' if attempt > 1 else ''}"):
                _try(options)
        except Exception as error:  # Ray raises no narrower class
            now = monotonic()
            num_fast = num_fast + 1 if now - tried_at < FAST_S else 0
            reason = f"did not start: {first_line(str(error), default=type(error).__name__)}"
            if num_fast == FAST_TRIES:
                way_out = "See that its folder for temporary files and /dev/shm have room and can be written"
                raise SearchError("Ray", reason, way_out) from error
            if now - began > LIMIT_S:
                what = f"{reason}; {attempt} tries in {now - began:.0f} s"
                raise SearchError(
                    "Ray", what, "The machine is overloaded or short of memory: try again later"
                ) from error
            print(
                f"Ray {reason}; the machine may be busy. Next try in {PAUSE_S:.0f} s, until {LIMIT_S / 60:.0f} min"
                f" have passed; Ctrl-C ends this",
                file=sys.stderr,
                flush=True,
            )
            sleep(PAUSE_S)
        else:
            return


def _try(options: dict[str, Any]) -> None:
    """Start Ray once; its processes do not see the end of a terminal, which is the search's to answer.

    Like Ctrl-C, for which Ray does the same: the signal reaches all processes of a terminal, and workers would be dead
    before the search could tell them to write a checkpoint.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        with ray_patches.ended_if_not_started(), ray_patches.own_signal_handlers():
            ray.init(address="local", **options)
    except BaseException:  # Ctrl-C, too
        ray.shutdown()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
