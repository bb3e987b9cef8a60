"""A store that is made for a bucket: here in the cache first, where it is also kept. Begin at `prepare_and_send`."""

import hashlib

from ferray.data.prepare.options import PrepareOptions
from ferray.data.prepare.run import prepare, skipped_file
from ferray.data.sources.rows import Source
from ferray.data.store.fetched import check_no_store, keep_sent, send_store
from ferray.data.store.reader import Store, open_store
from ferray.files import buckets, storage
from ferray.files.location import Address


def prepare_and_send(source: Source, address: Address, options: PrepareOptions) -> tuple[Store, Address]:
    """Make a store and send it; one whose sending broke off is found again by the next call and not made twice.

    Args:
        source: As for `prepare`, like the options.
        address: Of the store; there must be none.
        options: How the store is made.

    Returns:
        The store in this machine's cache, and the address of the list of what was left out, if anything was.

    Raises:
        DataError: A store is there, or as `prepare`.
        BucketError: The bucket cannot be written.
        StorageError: The cache cannot be written.
    """
    check_no_store(address)
    folder = storage.cache_dir() / "sending" / hashlib.sha256(str(address).encode()).hexdigest()[:16]
    prepare(source, folder, options)
    skipped, listed = address.parent / f"{address.name}.skipped.csv", skipped_file(folder)
    if listed.exists():
        buckets.send_file(listed, skipped)
    send_store(folder, address)
    listed.unlink(missing_ok=True)
    return open_store(keep_sent(folder, address)), skipped
