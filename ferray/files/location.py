"""Folders and files as a user names them: by a path, by `file://`, or in a bucket by `s3://`.

Begin at `local_path`; `read_location` also takes what is in a bucket, which `ferray.files.buckets` fetches.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ferray.errors import StorageError
from ferray.wording import short_path

SUPPORTED = "a folder that all nodes share, such as /shared/runs, or file:///shared/runs"

S3 = "s3://"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names that S3 allows. An access point's ARN is none of them: it has colons, and is untried."""

MAX_KEY_BYTES = 1024
"""Longest key of an object."""


@dataclass(frozen=True)
class Address:
    """An object of a bucket, or the prefix of several."""

    bucket: str
    key: str
    """Without a slash at either end."""

    def __str__(self) -> str:
        return f"{S3}{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> "Address":
        return Address(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def parent(self) -> "Address":
        """The prefix that it lies under; the whole bucket for a key without a slash."""
        return Address(self.bucket, self.key.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]


def local_path(text: str, *, option: str = "") -> str:
    """The path that a text names.

    Args:
        text: A path, or `file:///PATH`.
        option: The option that it was given for, for the error.

    Raises:
        StorageError: It names a bucket, another machine, or anything else that is no path of this machine.
    """
    scheme = _scheme(text)
    if scheme == "":
        return text
    where = f"{option} {_without_user(text)}".lstrip()
    if scheme != "file":
        what = f"{scheme}:// is not supported; a path would be taken for a folder of that name"
        raise StorageError(where, what, f"Give {SUPPORTED}")
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise StorageError(where, "does not name a path of this machine", f"Give {SUPPORTED}")
    return unquote(parts.path)


def read_location(text: str, *, option: str) -> str:
    """The path or the address that a text names, the address in the one way in which records have it.

    Args:
        text: A path, `file:///PATH`, or `s3://BUCKET/KEY`.
        option: As `local_path`.

    Raises:
        StorageError: As `local_path`, but for S3; or an address that S3 cannot have.
    """
    scheme = _scheme(text)
    if scheme == "s3":
        return str(to_address(text, option=option))
    if scheme in ("gs", "gcs"):
        what = f"{scheme}:// is not supported: Google's storage was never tried with ferray"
        raise StorageError(f"{option} {_without_user(text)}", what, f"Give s3://BUCKET/KEY, or {SUPPORTED}")
    return local_path(text, option=option)


def is_address(text: str) -> bool:
    """Whether a text names something in a bucket."""
    return _scheme(text) == "s3"


def short_location(text: str) -> str:
    """A location as commands name it: a path as `short_path` does, an address as it is."""
    return text if is_address(text) else str(short_path(Path(text)))


def to_address(text: str, *, option: str) -> Address:
    """The address that `s3://BUCKET/KEY` names.

    Args:
        text: For which `is_address` is true.
        option: As `local_path`.

    Raises:
        StorageError: It has no bucket that S3 may have, no key, or more than these: keys of an account belong into the
            environment, and are not repeated in the message.
    """
    bucket, _, rest = text[len(S3) :].partition("/")
    key = rest.strip("/")
    where, way_out = f"{option} {_without_user(text)}", "Give s3://BUCKET/KEY, such as s3://faces/stores/expw"
    if "@" in bucket or "?" in text:
        what = "holds more than a bucket and a key"
        raise StorageError(where, what, f"{way_out}; keys of an account are read from the environment or the profile")
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(where, f"{bucket!r} cannot be the name of a bucket", way_out)
    parts = key.split("/")
    if not key.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise StorageError(where, "has no key, or one with empty parts, dots alone or characters not printed", way_out)
    if len(key.encode()) > MAX_KEY_BYTES - 100:  # the names of a store's files are added
        raise StorageError(where, f"its key is longer than the {MAX_KEY_BYTES} bytes that S3 allows", way_out)
    return Address(bucket, key)


def _scheme(text: str) -> str:
    """What stands before `://`, in lower case; empty for a path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return "" if found is None else found[1].lower()


def _without_user(text: str) -> str:
    """An address for a message: a name and a password before an @, and a query, which may be signed, are left out."""
    scheme, _, rest = text.partition("://")
    place, question, _ = rest.partition("?")
    return f"{scheme}://{place.rpartition('@')[2]}{question and '?...'}"
