"""Objects of an S3 bucket: found, fetched and sent. Keys, region and endpoint are found by boto3, never by ferray.

A fetched object is whole or not there. It is written beside its place, in parts of `PART_BYTES`, and what is there
after a break, also of the process, is not fetched again. Every part is asked for with the object's ETag, so that two
versions of an object are never mixed.

A small object that several processes write is read with its ETag by `read_version` and replaced by `replace_version`
only while it is still that version: of two writers one is refused.

Begin at `find_object` and `fetch_object`; boto3 is imported by the first call.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ferray.errors import BucketDownError, BucketError
from ferray.files import storage
from ferray.files.location import Address

Result = TypeVar("Result")

log = logging.getLogger(__name__)

PART_BYTES = 64 * 2**20
"""Asked for at a time."""

BLOCK_BYTES = 2**20
"""Read from a connection at a time."""

TRIES = 5
"""Requests in a row that may bring nothing, each of which boto3 itself repeats where that may help."""

PAUSE_S = 0.5
"""Before the second of these; doubled before each further one."""

ANSWER_LIMIT_S = 60.0
"""Longest silence of a connection."""

LOST = ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey")
"""What the service calls a condition that does not hold: another version is there, or none."""

NUM_CONNECTIONS = 16
"""Small objects are fetched so many at a time: each takes a tenth of a second, most of it waiting."""

INSTALL = "Install it on every node: pip install -c constraints.txt -e '.[cluster]'"
ALLOW_READ = (
    "Let the keys, the profile or the role of this machine read it: s3:GetObject, and s3:ListBucket of the bucket"
)
ALLOW_WRITE = "Let the keys, the profile or the role of this machine write it: s3:PutObject"


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An object as it was when it was looked for."""

    address: Address
    num_bytes: int
    etag: str
    """Changes with the content."""


def find_object(address: Address) -> FoundObject | None:
    """Look for an object; None if there is none.

    Raises:
        BucketError: boto3 is missing, there are no keys or no permission, or the service does not answer.
    """
    with _named(address):
        try:
            answer = _client().head_object(Bucket=address.bucket, Key=address.key)
        except Exception as error:
            if _code(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise
        return FoundObject(address=address, num_bytes=int(answer["ContentLength"]), etag=str(answer["ETag"]))


def read_object(address: Address, *, max_bytes: int) -> bytes | None:
    """All of a small object; None if there is none.

    Raises:
        BucketError: It is larger, or as `find_object`.
    """
    with _named(address):
        try:
            return _repeated(lambda: _read_whole(address, max_bytes))
        except Exception as error:
            if _code(error) in ("404", "NoSuchKey"):
                return None
            raise


def fetch_object(found: FoundObject, file: Path, *, note: Callable[[int], None] = lambda num_bytes: None) -> None:
    """Fetch an object into a file, whole or not at all, going on where an earlier fetch of it has ended.

    Args:
        found: From `find_object`.
        file: In a folder that exists, which one process at a time may write.
        note: Called with the number of bytes that are there, whenever there are more.

    Raises:
        BucketError: It has changed since it was found, it is not there any more, or as `find_object`.
        OSError: The file cannot be written.
    """
    version = hashlib.sha256(f"{found.etag} {found.num_bytes}".encode()).hexdigest()[:16]
    part = file.with_name(f"{file.name}.{version}{storage.PARTIAL}")  # one of another version is not gone on with
    with _named(found.address), open(part, "ab") as written:
        if written.tell() > found.num_bytes:
            written.truncate(0)
        _repeated(lambda: _fetch_rest(found, written, note), progress=written.tell)
        written.flush()
        os.fsync(written.fileno())
    part.replace(file)


def send_file(file: Path, address: Address) -> None:
    """Send a file, in parts where it is large; boto3 adds checksums that the service compares.

    Raises:
        BucketError: There is no such bucket or no permission, or as `find_object`.
    """
    with _named(address, way_out=ALLOW_WRITE), open(file, "rb") as opened:
        # `upload_file` would hide what the service says in an error of its own.
        _client().upload_fileobj(opened, address.bucket, address.key)


def send_first(data: bytes, address: Address) -> bool:
    """Send a small object unless there is one at its address, in one step; returns whether it was sent.

    Raises:
        BucketError: As `send_file`.
    """
    with _named(address, way_out=ALLOW_WRITE):
        try:
            _client().put_object(Bucket=address.bucket, Key=address.key, Body=data, IfNoneMatch="*")
        except Exception as error:
            if _code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            raise
    return True


@dataclass(frozen=True, kw_only=True)
class Version:
    """A small object as it was when it was read or written."""

    data: bytes
    etag: str
    age_s: float = 0.0
    """How long ago it was written, by the service's own clock, which counts seconds."""


def read_version(address: Address, *, max_bytes: int, known: Version | None = None) -> Version | None:
    """A small object with its version; None if there is none.

    Args:
        address: Of the object.
        max_bytes: A larger one is refused.
        known: A version that is known: its content is not sent again.

    Raises:
        BucketError: It is larger, or as `find_object`.
    """
    where = {"Bucket": address.bucket, "Key": address.key} | ({"IfNoneMatch": known.etag} if known else {})

    def read() -> Version:
        answer = _client().get_object(**where)
        age = _time_of(answer) - answer["LastModified"]
        return Version(data=_body_of(answer, address, max_bytes), etag=answer["ETag"], age_s=age.total_seconds())

    with _named(address):
        try:
            return _repeated(read)
        except Exception as error:
            if known is not None and _code(error) in ("304", "NotModified"):
                return known
            if _code(error) in ("404", "NoSuchKey"):
                return None
            raise


def replace_version(address: Address, data: bytes, *, before: Version | None) -> Version | None:
    """Write a small object, in one step, if it is still the version that was read; else None, and it is unchanged.

    A request that was carried out although its answer was lost counts as carried out, since it can be seen: the content
    must therefore differ from that of every other writer.

    Args:
        address: Of the object.
        data: Its new content.
        before: From `read_version` or `replace_version`; None where there must be no object.

    Raises:
        BucketError: As `send_file`.
    """
    condition = {"IfNoneMatch": "*"} if before is None else {"IfMatch": before.etag}
    with _named(address, way_out=ALLOW_WRITE):
        try:
            answer = _client().put_object(Bucket=address.bucket, Key=address.key, Body=data, **condition)
            return Version(data=data, etag=answer["ETag"])
        except Exception as error:
            if _code(error) not in LOST:
                raise
    found = read_version(address, max_bytes=len(data) + 2**20)
    return found if found is not None and found.data == data else None


def list_objects(prefix: Address) -> Iterator[FoundObject]:
    """The objects under a prefix, by key.

    Raises:
        BucketError: As `find_object`.
    """
    with _named(prefix):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=f"{prefix.key}/")
        for page in pages:
            for one in page.get("Contents", []):
                address = Address(prefix.bucket, one["Key"])
                yield FoundObject(address=address, num_bytes=int(one["Size"]), etag=str(one["ETag"]))


def list_folders(prefix: Address) -> list[str]:
    """The names under a prefix under which there are objects, the first thousand.

    Raises:
        BucketError: As `find_object`.
    """
    with _named(prefix):
        answer = _client().list_objects_v2(Bucket=prefix.bucket, Prefix=f"{prefix.key}/", Delimiter="/")
        return [one["Prefix"].rstrip("/").rpartition("/")[2] for one in answer.get("CommonPrefixes", [])]


def remove_object(address: Address) -> None:
    """Remove an object, which need not be there.

    Raises:
        BucketError: As `send_file`.
    """
    with _named(address, way_out="Let the keys, the profile or the role of this machine do s3:DeleteObject"):
        _client().delete_object(Bucket=address.bucket, Key=address.key)


def _time_of(answer: Any) -> datetime:
    """When the service answered, by its clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _body_of(answer: Any, address: Address, max_bytes: int) -> bytes:
    with closing(answer["Body"]) as body:
        num_bytes = int(answer["ContentLength"])
        if num_bytes > max_bytes:
            what = f"has {num_bytes:,} bytes; at most {max_bytes:,} are read"
            raise BucketError(str(address), what, "Check the address")
        return bytes(body.read())


def _read_whole(address: Address, max_bytes: int) -> bytes:
    return _body_of(_client().get_object(Bucket=address.bucket, Key=address.key), address, max_bytes)


def _fetch_rest(found: FoundObject, written: Any, note: Callable[[int], None]) -> None:
    """Append what is missing, part by part."""
    where = {"Bucket": found.address.bucket, "Key": found.address.key, "IfMatch": found.etag}
    while (begin := written.tell()) < found.num_bytes:
        end = min(begin + PART_BYTES, found.num_bytes)
        answer = _client().get_object(**where, Range=f"bytes={begin}-{end - 1}")
        if answer.get("ContentRange") != f"bytes {begin}-{end - 1}/{found.num_bytes}":
            what = "the service does not answer with the part that it is asked for"
            raise BucketError(str(found.address), what, "Check AWS_ENDPOINT_URL, or copy it to a folder by hand")
        with closing(answer["Body"]) as body:
            for block in body.iter_chunks(BLOCK_BYTES):
                written.write(block)
                note(written.tell())


def _repeated(act: Callable[[], Result], *, progress: Callable[[], int] = lambda: 0) -> Result:
    """Do something again where a connection breaks, until `TRIES` times in a row brought no progress."""
    tries, reached = 0, progress()
    while True:
        try:
            return act()
        except _breaks() as error:
            tries = tries + 1 if progress() == reached else 1
            if tries == TRIES:
                raise
            reached = progress()
            log.info("a connection broke (%s); it is opened again", type(error).__name__)
            time.sleep(PAUSE_S * 2 ** (tries - 1))


@cache
def _client() -> Any:
    """boto3's client of this process; several threads may use it."""
    try:
        from boto3.session import Session
        from botocore.config import Config
    except ImportError as error:
        raise BucketError("s3://", "needs boto3, which is not installed here", INSTALL) from error
    for name in ("botocore", "s3transfer"):  # at DEBUG they log tokens and signed headers
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = Config(
        connect_timeout=10,
        read_timeout=ANSWER_LIMIT_S,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        max_pool_connections=NUM_CONNECTIONS + 8,  # and those of the threads besides
        # Of a part of an object, services answer with checksums of the whole; what is fetched has its own.
        response_checksum_validation="when_required",
    )
    return Session().client("s3", config=settings)


def _breaks() -> tuple[type[Exception], ...]:
    """The errors of a connection that cannot be opened, or that breaks."""
    from botocore import exceptions as faults
    from urllib3.exceptions import HTTPError

    return faults.HTTPClientError, faults.ConnectionError, faults.IncompleteReadError, HTTPError


def _code(error: BaseException) -> str:
    """S3's name of an error; empty if it is none of S3's."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


@contextmanager
def _named(address: Address, *, way_out: str = ALLOW_READ) -> Iterator[None]:
    """Errors of boto3 in ferray's words. Theirs are not repeated: they may quote what was signed."""
    _client()  # without boto3, its error comes first
    from botocore import exceptions as faults

    try:
        yield
    except faults.ClientError as error:
        raise _refused(address, error, way_out) from None
    except (faults.NoCredentialsError, faults.PartialCredentialsError, faults.CredentialRetrievalError) as error:
        what = f"no keys of an account were found ({type(error).__name__})"
        keys = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
        raise BucketError(str(address), what, keys) from None
    except _breaks() as error:
        what = f"the connection broke {TRIES} times in a row ({type(error).__name__})"
        again = "Check the network and AWS_ENDPOINT_URL, and repeat the command: it goes on where it has ended"
        raise BucketDownError(str(address), what, again) from None
    except faults.BotoCoreError as error:
        what = f"boto3 cannot be used as it is set up ({type(error).__name__})"
        raise BucketError(str(address), what, "See AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL") from None


def _refused(address: Address, error: Any, way_out: str) -> BucketError:
    """What an answer of the service means."""
    code, status = _code(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in ("PreconditionFailed", "412") or status in (412, 416):
        what = "has changed while it was fetched"
        return BucketError(str(address), what, "Repeat the command when nobody writes it any more")
    if code == "NoSuchBucket":
        return BucketError(str(address), f"there is no bucket {address.bucket}", "Check the name and AWS_REGION")
    if status == 404:
        return BucketError(str(address), "is not there", "Check the address")
    if status == 403:
        return BucketError(str(address), f"permission denied ({code}); or it is not there, for one who may not list",
                            way_out)  # fmt: skip
    if status >= 500 or status == 429:
        what = f"the service answers {status} ({code}), also after {TRIES} requests"
        return BucketDownError(str(address), what, "Repeat the command later: it goes on where it has ended")
    return BucketError(str(address), f"the service refuses with {status} ({code})", "Check the address and the region")
