"""A bucket whose service is down for a while: work waits for it. Begin at `patiently`."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ferray.errors import BucketDownError

Result = TypeVar("Result")

log = logging.getLogger(__name__)

LIMIT_S = 3600.0
"""So long a service is waited for."""

PAUSE_S = 5.0
"""Between two tries, each of which has repeated its requests already."""


def patiently(act: Callable[[], Result], *, note: Callable[[], None] = lambda: None) -> Result:
    """Do something again and again while the service is down, so that work goes on when it is back.

    Args:
        act: May raise a BucketDownError.
        note: Called before each further try.

    Raises:
        BucketDownError: The service was down for `LIMIT_S`.
        BucketError: Any other fault, at once.
    """
    began = None
    while True:
        try:
            result = act()
        except BucketDownError as error:
            now = time.monotonic()
            if began is None:
                began = now
                log.warning("%s %s; it is tried again until it answers", *error.args[:2])
            if now - began > LIMIT_S:
                raise
            note()
            time.sleep(PAUSE_S)
            continue
        if began is not None:
            log.warning("the bucket answers again, after %.0f s", time.monotonic() - began)
        return result
