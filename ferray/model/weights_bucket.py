"""Pretrained weights in a bucket: each node fetches them once into its cache, `CACHE/weights/VERSION`.

`s3://BUCKET/vgg16.safetensors` is a file, and an address without such an end is the prefix of a file for each backbone.
VERSION changes with the objects, so that weights that were exchanged are fetched again. Begin at `find_weights`.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from ferray.errors import WeightsError
from ferray.files import buckets, storage
from ferray.files.location import Address, is_address, read_location, to_address
from ferray.model.weights_file import SUFFIXES
from ferray.waiting import waiting


def find_weights(text: str, backbones: Sequence[str], *, option: str) -> str:
    """What `load_weights` is given on this machine: `imagenet`, `none`, or a path; what is in a bucket is fetched.

    Args:
        text: As a user gives it.
        backbones: Whose weights are needed.
        option: The option that it was given for, for errors.

    Raises:
        StorageError: It is no place that ferray can read, or the cache cannot be written.
        WeightsError: As `fetch_weights`.
        BucketError: As `fetch_weights`.
    """
    location = read_location(text, option=option)
    return fetch_weights(to_address(location, option=option), backbones) if is_address(location) else location


def fetch_weights(address: Address, backbones: Sequence[str]) -> str:
    """The file or the folder in this node's cache, for `load_weights`; fetched first where it is not there.

    Args:
        address: Of a file, or the prefix of several.
        backbones: Whose weights are needed.

    Raises:
        WeightsError: There is none for a backbone.
        BucketError: The bucket cannot be read.
        StorageError: The cache cannot be written.
    """
    objects = _find_objects(address, backbones)
    facts = [[str(one.address), one.num_bytes, one.etag] for one in objects.values()]
    version = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    parent = storage.cache_dir() / "weights"
    folder = parent / version
    if not all((folder / name).exists() for name in objects):  # a file has its name only once it is whole
        what = f"fetching {address}, or waiting for a process of this node that does"
        with waiting(what), storage.cache_errors(parent), storage.lock(parent / f"{version}.lock"):
            for name, found in objects.items():
                _fetch(found, folder / name)
    return str(folder / address.name if _is_file(address) else folder)


def check_weights(address: Address, backbones: Sequence[str]) -> None:
    """Look for the weights of every backbone, without fetching them; arguments and errors as `fetch_weights`."""
    _find_objects(address, backbones)


def _find_objects(address: Address, backbones: Sequence[str]) -> dict[str, buckets.FoundObject]:
    """The objects by the names of their files."""
    if _is_file(address):
        found = buckets.find_object(address)
        if found is None:
            raise WeightsError(str(address), "is not there", "Check the address")
        return {address.name: found}
    objects = {}
    for backbone in sorted(backbones):
        names = [f"{backbone}{suffix}" for suffix in SUFFIXES]
        pairs = ((name, buckets.find_object(address / name)) for name in names)
        name, found = next(((name, found) for name, found in pairs if found is not None), ("", None))
        if found is None:
            way_out = f"Put {backbone}.safetensors there, or name a file: {address}/FILE.safetensors"
            raise WeightsError(str(address), f"has no file of weights for {backbone}", way_out)
        objects[name] = found
    return objects


def _is_file(address: Address) -> bool:
    return address.name.endswith(SUFFIXES)


def _fetch(found: buckets.FoundObject, file: Path) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        buckets.fetch_object(found, file)
        for path in (file.parent, file):
            storage.share_with_folder(path)
