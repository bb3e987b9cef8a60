"""Searches and their best models as a user names them, as folders of this machine: from a bucket a copy is fetched.

Begin at `search_folder`.
"""

from pathlib import Path

from ferray.files.location import is_address, read_location, to_address
from ferray.records.bucket.run import BucketRun


def search_folder(text: str, *, option: str = "RUN") -> Path:
    """The folder of a search; of one in a bucket, its copy in the cache, brought up to date.

    Args:
        text: A path, `file:///PATH`, or `s3://BUCKET/RUNS/NAME`.
        option: What it was given for, for errors.

    Raises:
        StorageError: It names neither a path nor a bucket of S3, or the cache cannot be written.
        RecordError: There is no search at the address.
        BucketError: The bucket cannot be read.
    """
    location = read_location(text, option=option)
    if not is_address(location):
        return Path(location)
    run = BucketRun(to_address(location, option=option), "fetched")
    run.fetch()
    return run.folder


def best_folder(text: str, *, option: str = "BEST") -> Path:
    """The folder of a best model; in a bucket that of `s3://BUCKET/RUNS/NAME/best`, or of the search `.../NAME`.

    Args and errors as `search_folder`.
    """
    location = read_location(text, option=option)
    if not is_address(location):
        return Path(location)
    address = to_address(location, option=option)
    return search_folder(str(address.parent if address.name == "best" else address), option=option) / "best"
