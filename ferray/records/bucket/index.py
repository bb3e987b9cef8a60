"""Many records in one object: reading a hundred thousand of them one by one would take hours.

    index/TIME-RANDOM.jsonl.gz    a line `{"id": ..., "etag": ..., "object": ...}` for each record; never replaced

The record's own object stays the only truth: a line counts while the object has the ETag that the line names, and the
ETags of all objects come with their list. Begin at `read_index`.
"""

import gzip
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ferray.files import buckets
from ferray.files.location import Address

log = logging.getLogger(__name__)

NUM_RECORDS = 200
"""So many ended trials are worth an object of the index while a search runs."""

MAX_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The object of a record."""

    etag: str
    data: bytes


def write_index(folder: Address, entries: Mapping[str, Entry]) -> None:
    """Send the objects of some records once more, in one.

    Args:
        folder: The prefix of the index.
        entries: By trial id.

    Raises:
        BucketError: The bucket cannot be written.
    """
    lines = [
        json.dumps({"id": trial_id, "etag": entry.etag, "object": entry.data.decode()})
        for trial_id, entry in entries.items()
    ]
    name = f"{time.strftime('%Y%m%d%H%M%S', time.gmtime())}-{secrets.token_hex(4)}.jsonl.gz"
    buckets.send_first(gzip.compress("\n".join(lines).encode()), folder / name)


def read_index(folder: Address, etags: Mapping[str, str]) -> dict[str, Entry]:
    """The objects of records that the index has as they are now.

    Args:
        folder: The prefix of the index.
        etags: Of the objects that are wanted, by trial id.

    Raises:
        BucketError: The bucket cannot be read.
    """
    segments = [one.address for one in buckets.list_objects(folder)]
    found: dict[str, Entry] = {}
    with ThreadPoolExecutor(buckets.NUM_CONNECTIONS) as pool:
        for lines in pool.map(_read_segment, segments):
            found |= {name: entry for name, entry in lines if etags.get(name) == entry.etag}
    return found


def _read_segment(address: Address) -> list[tuple[str, Entry]]:
    """The lines of an object; none, with a message in the log, where it is damaged: the records are there, too."""
    data = buckets.read_object(address, max_bytes=MAX_BYTES)
    try:
        return list(_parse(b"" if data is None else gzip.decompress(data)))
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("%s is damaged (%s): its records are read one by one", address, type(error).__name__)
        return []


def _parse(text: bytes) -> Iterator[tuple[str, Entry]]:
    for line in text.splitlines():
        value = json.loads(line)
        yield str(value["id"]), Entry(etag=str(value["etag"]), data=str(value["object"]).encode())


def read_many(addresses: Mapping[str, Address], *, max_bytes: int) -> dict[str, Entry]:
    """Several small objects, those that are there, by the same names.

    Raises:
        BucketError: The bucket cannot be read.
    """

    def read(name: str) -> tuple[str, Entry] | None:
        version = buckets.read_version(addresses[name], max_bytes=max_bytes)
        return None if version is None else (name, Entry(etag=version.etag, data=version.data))

    with ThreadPoolExecutor(buckets.NUM_CONNECTIONS) as pool:
        return dict(filter(None, pool.map(read, addresses)))
