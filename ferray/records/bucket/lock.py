"""A search in a bucket for one driver at a time: an object that its holder renews.

Nobody can see whether a process of another machine is alive. A lock that was not renewed for `EXPIRY_S`, by the clock
of the service, is free. A holder that was only cut off for so long finds its version replaced and stops; what it still
sends is refused, since each session has its own number. Begin at `BucketLock`.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from ferray.errors import BucketError, LockedError
from ferray.files import buckets
from ferray.files.buckets import Version
from ferray.files.location import Address
from ferray.waiting import waiting

log = logging.getLogger(__name__)

RENEW_S = 10.0
"""Between two renewals."""

EXPIRY_S = 60.0
"""A lock that is older is free: its holder is gone, or was cut off from the bucket for so long."""

POLL_S = 1.0
"""Between two looks at a lock that may expire."""

MAX_BYTES = 10_000


class BucketLock:
    """The lock of a search.

    Args:
        address: Of its object.
        place: Names the folder on this machine that only one process can hold locked, and that this process holds: a
            holder of the same place is therefore gone.
    """

    def __init__(self, address: Address, *, place: str) -> None:
        self._address, self._place = address, place
        self._token = secrets.token_hex(8)
        self._version: Version | None = None
        self._renew_at = 0.0  # by `time.monotonic`
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_often, name="lock", daemon=True)
        self.on_tick: Callable[[], None] = lambda: None
        """Called between two renewals, in the thread of the lock."""

    def __enter__(self) -> "BucketLock":
        """Take it.

        Raises:
            LockedError: Another process has it and is alive.
            BucketError: The bucket cannot be read or written.
        """
        found = self._read()
        if found is not None and not self._is_free(found):
            found = self._wait_for_expiry(found)
        self._version = buckets.replace_version(self._address, self._content(), before=found)
        if self._version is None:
            raise self._locked(self._read())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(BucketError):  # it expires
            if self._version is not None:
                buckets.replace_version(self._address, self._content(is_held=False), before=self._version)

    def _is_free(self, found: Version) -> bool:
        holder = _parse(found.data)
        if not holder.get("held", False) or found.age_s >= EXPIRY_S:
            return True
        return holder.get("place") == self._place and holder.get("host") == socket.gethostname()

    def _wait_for_expiry(self, found: Version) -> Version | None:
        """The lock when it has expired.

        Raises:
            LockedError: It was renewed meanwhile.
        """
        holder = _describe(_parse(found.data))
        until = time.monotonic() + EXPIRY_S - found.age_s
        with waiting(lambda: f"waiting to see whether {holder}, which had this search last, has ended"):
            while time.monotonic() < until + POLL_S:
                time.sleep(POLL_S)
                now = self._read()
                if now is None or now.etag != found.etag:
                    if now is None or self._is_free(now):
                        return now
                    raise self._locked(now)
        return found

    def _renew_often(self) -> None:
        while not self._ended.wait(RENEW_S / 5):
            try:
                if self._version is not None and time.monotonic() >= self._renew_at:
                    self._renew()
                self.on_tick()
            except Exception as error:  # noqa: BLE001  a lock that is not renewed would be another's
                log.info("the lock of the search is not renewed: %s", error)

    def _renew(self) -> None:
        self._renew_at = time.monotonic() + RENEW_S
        version = buckets.replace_version(self._address, self._content(), before=self._version)
        if version is None:
            self._version = None
            log.error("%s: another process goes on with the search; this one will be refused", self._address)
        else:
            self._version = version

    def _content(self, *, is_held: bool = True) -> bytes:
        return json.dumps({
            "held": is_held, "host": socket.gethostname(), "pid": os.getpid(), "place": self._place,
            "token": self._token, "renewed": time.time(),
        }).encode()  # fmt: skip

    def _read(self) -> Version | None:
        return buckets.read_version(self._address, max_bytes=MAX_BYTES)

    def _locked(self, found: Version | None) -> LockedError:
        what = f"in use by {_describe({} if found is None else _parse(found.data))}"
        return LockedError(str(self._address.parent), what, "Wait for it to end, or choose another name")


def _parse(data: bytes) -> dict[str, object]:
    """The content; a damaged one is nobody's."""
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        if isinstance(value, dict):
            return value
    return {}


def _describe(holder: dict[str, object]) -> str:
    """Who has it."""
    return f"process {holder.get('pid', '?')} on {str(holder.get('host', '?'))[:100]}"
