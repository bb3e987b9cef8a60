"""A store in a bucket: each node fetches it once into its cache, and from then on it is a folder like any other.

    CACHE/stores/NAME/            a whole store, checked face by face before it got this name
    CACHE/stores/.NAME.partial/   what is there of one so far; the next fetch goes on with it
    CACHE/stores/NAME.lock        held by the process that fetches it

NAME begins with the fingerprint and ends with a checksum of the manifest, so that a store that was exchanged in its
bucket is another one here. Begin at `fetch_store`; `send_store` fills a bucket.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ferray.data.store.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest, read_manifest
from ferray.data.store.reader import open_store
from ferray.data.store.verify import verify_store
from ferray.errors import DataError, FerrayError
from ferray.files import buckets, storage, untrusted
from ferray.files.location import Address, is_address, read_location, to_address
from ferray.waiting import waiting

MANIFEST = "manifest.json"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

_SEND_AGAIN = "Send the store again to another address: python -m ferray.data prepare ... --out s3://BUCKET/KEY"


@dataclass(frozen=True, kw_only=True)
class RemoteStore:
    """What a bucket's manifest says."""

    address: Address
    manifest: Manifest
    content: bytes
    """Of the manifest, as it was read."""

    @property
    def name(self) -> str:
        """Of its folder in the cache."""
        return f"{self.manifest.fingerprint[:16]}-{hashlib.sha256(self.content).hexdigest()[:16]}"

    @property
    def files(self) -> list[str]:
        """All of its files but the manifest."""
        return ["labels.npy", "table.parquet", *(["votes.npy"] if self.manifest.has_votes else []), "faces.npy"]


def find_store(text: str, *, option: str) -> Path:
    """The folder of a store on this machine, which is fetched if it is in a bucket.

    Args:
        text: A path or an address, as a user gives it.
        option: The option that it was given for, for errors.

    Raises:
        DataError: As `fetch_store`.
        BucketError: As `fetch_store`.
        StorageError: As `fetch_store`.
    """
    location = read_location(text, option=option)
    return fetch_store(to_address(location, option=option)) if is_address(location) else Path(location)


def fetch_store(address: Address, *, name: str | None = None) -> Path:
    """The folder of a store in this node's cache; fetched first, by one process of the node, if it is not there.

    Args:
        address: Of the store.
        name: That of its folder, if it is known: a store that is there then needs no request.

    Raises:
        DataError: There is no store, it is none of `name`, or its files are not those of its manifest.
        BucketError: The bucket cannot be read.
        StorageError: The cache cannot be written.
    """
    stores = storage.cache_dir() / "stores"
    if name is not None and (found := _find(stores / name)) is not None:
        return found
    remote = read_remote(address)
    if name not in (None, remote.name):
        way_out = "Give the search a store that nobody exchanges, and begin it again under another name"
        raise DataError(str(address), "holds another store than when the search was started", way_out)
    folder = stores / remote.name
    if (found := _find(folder)) is not None:
        return found
    progress = _Progress(address)
    with waiting(progress.describe), storage.cache_errors(stores), storage.lock(stores / f"{remote.name}.lock"):
        if (found := _find(folder)) is not None:
            return found
        shutil.rmtree(folder, ignore_errors=True)  # damaged
        _fetch(remote, _partial(folder), progress)
        _share(_partial(folder))
        _partial(folder).rename(folder)
    return folder


def read_remote(address: Address) -> RemoteStore:
    """The manifest of a store in a bucket.

    Raises:
        DataError: There is none, or it is not one.
        BucketError: The bucket cannot be read.
    """
    content = buckets.read_object(address / MANIFEST, max_bytes=MAX_MANIFEST_BYTES)
    if content is None:
        way_out = "Send one there: python -m ferray.data prepare ... --out s3://BUCKET/KEY"
        raise DataError(str(address), "not a store: it has no manifest.json", way_out)
    manifest = parse_manifest(content, where=str(address))
    if not _FINGERPRINT.fullmatch(manifest.fingerprint):
        raise DataError(str(address / MANIFEST), "fingerprint: not a SHA-256", _SEND_AGAIN)
    return RemoteStore(address=address, manifest=manifest, content=content)


def read_manifest_of(location: str) -> Manifest:
    """The manifest of a store that is named by a path or an address; nothing else is fetched.

    Raises:
        DataError: As `read_remote` and `read_manifest`.
        BucketError: As `read_remote`.
    """
    if is_address(location):
        return read_remote(to_address(location, option="--data")).manifest
    return read_manifest(Path(location))


def peek_store(address: Address) -> tuple[Path, bool]:
    """The folder of a store in this node's cache, and whether it is whole; if not, it has the manifest at least.

    Raises:
        DataError: As `read_remote`.
        BucketError: The bucket cannot be read.
        StorageError: The cache cannot be written.
    """
    remote = read_remote(address)
    folder = storage.cache_dir() / "stores" / remote.name
    if (found := _find(folder)) is not None:
        return found, True
    with storage.cache_errors(folder):
        storage.write_bytes(_partial(folder) / MANIFEST, remote.content)
    return _partial(folder), False


def find_fetched(location: str, fingerprint: str) -> Path:
    """The folder of a recorded store, without any request: for an address that in the cache, which may not exist.

    Args:
        location: As recorded, a path or an address.
        fingerprint: Of the store.
    """
    if not is_address(location):
        return Path(location)
    stores = storage.cache_dir() / "stores"
    if not _FINGERPRINT.fullmatch(fingerprint):
        return stores / "unknown"
    return max(stores.glob(f"{fingerprint[:16]}-*/{MANIFEST}"), default=stores / fingerprint / MANIFEST).parent


def check_no_store(address: Address) -> None:
    """Refuse an address at which a store is.

    Raises:
        DataError: One is there.
        BucketError: The bucket cannot be read.
    """
    if buckets.find_object(address / MANIFEST) is not None:
        raise _is_taken(address)


def send_store(folder: Path, address: Address) -> None:
    """Send a finished store; its manifest last, so that a store that is not whole is none.

    Raises:
        DataError: One is there, or the folder holds none.
        BucketError: The bucket cannot be written.
    """
    store = open_store(folder)
    content = untrusted.read_bytes(folder / MANIFEST, max_bytes=MAX_MANIFEST_BYTES, inside=folder)
    remote = RemoteStore(address=address, manifest=store.manifest, content=content)
    check_no_store(address)
    with waiting(f"sending {address}"):
        for name in remote.files:
            buckets.send_file(folder / name, address / name)
        if not buckets.send_first(content, address / MANIFEST):
            raise _is_taken(address)


def keep_sent(folder: Path, address: Address) -> Path:
    """Move a store that was sent to its place in the cache, so that this machine need not fetch it.

    Raises:
        DataError: As `read_remote`.
        StorageError: The cache cannot be written.
    """
    stores = storage.cache_dir() / "stores"
    kept = stores / read_remote(address).name
    with storage.cache_errors(stores), storage.lock(stores / f"{kept.name}.lock"):
        if _find(kept) is None:
            shutil.rmtree(kept, ignore_errors=True)
            _share(folder)
            folder.rename(kept)
    return kept


class _Progress:
    """What a process that wants a store waits for."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.total = self.done = self.of_file = 0

    def describe(self) -> str:
        if not self.total:
            return f"waiting for {self._address}, which a process of this node fetches"
        done, total = (self.done + self.of_file) / 1e9, self.total / 1e9
        return f"fetching {self._address}, {done:.2f} of {total:.2f} GB"

    def note(self, num_bytes: int) -> None:
        self.of_file = num_bytes


def _fetch(remote: RemoteStore, part: Path, progress: _Progress) -> None:
    """Fill a folder with a store; what an earlier fetch has left there is gone on with."""
    part.mkdir(parents=True, exist_ok=True)
    files = [_find_file(remote, name) for name in remote.files]
    progress.total = sum(one.num_bytes for one in files)
    for found in files:
        buckets.fetch_object(found, part / found.address.name, note=progress.note)
        progress.done, progress.of_file = progress.done + found.num_bytes, 0
    storage.write_bytes(part / MANIFEST, remote.content)
    for left in part.glob(f"*{storage.PARTIAL}"):  # of files that have changed since
        left.unlink()
    try:
        verify_store(open_store(part))
    except DataError as error:
        shutil.rmtree(part, ignore_errors=True)
        what = f"its files are not those of its manifest: {error.args[1]}"
        raise DataError(str(remote.address), what, _SEND_AGAIN) from error


def _find_file(remote: RemoteStore, name: str) -> buckets.FoundObject:
    found = buckets.find_object(remote.address / name)
    if found is None:
        raise DataError(str(remote.address), f"a broken store: it has no {name}", _SEND_AGAIN)
    return found


def _find(folder: Path) -> Path | None:
    """A store of the cache, if it is there and whole."""
    try:
        return open_store(folder).folder if folder.exists() else None
    except (FerrayError, OSError):
        return None


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{storage.PARTIAL}")


def _share(folder: Path) -> None:
    """Let all who may write the cache read and replace a store."""
    for path in (folder, *folder.iterdir()):
        storage.share_with_folder(path)


def _is_taken(address: Address) -> DataError:
    return DataError(str(address), "a store is there already", "Give another address, or delete it in its bucket")
