"""Whether a node sees what a search needs of it: its own folder, the data, the weights.

A node that joins is asked before a worker group is started on it, and every worker opens its store in the same way.

Begin at `open_places`.
"""

from pathlib import Path

from ferray.data.demo.photographs import demo_store
from ferray.data.store.fetched import fetch_store
from ferray.data.store.reader import Store, open_store
from ferray.errors import DataError, FerrayError, SearchError, WeightsError
from ferray.files import buckets, storage
from ferray.files.location import Address, to_address
from ferray.model.weights_bucket import find_weights
from ferray.records.run import Run
from ferray.records.search_file import id_in
from ferray.search.fleet.messages import GroupConfig


def find_fault(config: GroupConfig) -> str:
    """Why no worker of a search can run on this node, with the remedy; empty if one can.

    Args:
        config: The search's.
    """
    try:
        open_places(config)
        _check_weights(config)
    except FerrayError as error:
        where, what, way_out = error.args
        return f"{where} {what}. {way_out}"
    return ""


def open_places(config: GroupConfig) -> Store:
    """The store on this node, after a check of the search's folder.

    What is not there is made first, once on each node: demo faces are drawn, and a store in a bucket is fetched.

    Raises:
        SearchError: The folder of this name is on another disk, or the data are others.
        FerrayError: The store cannot be opened.
    """
    _check_folder(config)
    return _open_data(config)


def weights_here(config: GroupConfig) -> str:
    """What `load_weights` is given on this node; weights in a bucket are fetched first, once on each node.

    Raises:
        WeightsError: They are not there.
        BucketError: The bucket cannot be read.
        StorageError: The cache cannot be written.
    """
    return find_weights(config.weights, list(config.weights_fingerprints), option="--weights")


def _check_folder(config: GroupConfig) -> None:
    if config.address is not None:
        _check_address(config.address, config.search_id)
        return
    run = Run(config.run_dir)
    if not run.exists() or run.read_search().id != config.search_id:
        raise SearchError(
            str(config.run_dir),
            "is not the folder of this search on this node, which has a disk of its own:"
            " checkpoints would be lost with the node",
            "Give a folder that all nodes share: --out /shared/runs",
        )


def _check_address(address: Address, search_id: str) -> None:
    """That this node can read the search in its bucket; whether it may write there, its first trial shows."""
    content = buckets.read_object(address / "search.json", max_bytes=storage.MAX_JSON_BYTES)
    if content is None or id_in(content) != search_id:
        what = "is not the address of this search, as this node sees it"
        raise SearchError(str(address), what, "Give all nodes the same AWS_ENDPOINT_URL, keys and region")


def _check_weights(config: GroupConfig) -> None:
    source = weights_here(config)
    if source not in ("imagenet", "none") and not Path(source).exists():
        way_out = "Give a file in a folder that all nodes share: --weights /shared/weights/vgg16.safetensors"
        raise WeightsError(source, "is not there on this node", way_out)


def _open_data(config: GroupConfig) -> Store:
    if config.data_address is not None and config.data_dir is not None:
        address = to_address(config.data_address, option="--data")
        return open_store(fetch_store(address, name=config.data_dir.name))
    try:
        store = open_store(demo_store(storage.cache_dir()) if config.data_dir is None else config.data_dir)
    except DataError as error:
        where, what, _ = error.args
        way_out = "Give a folder that all nodes share, --data /shared/data, or copy the store to the same place"
        raise SearchError(where, what, way_out) from error
    if store.fingerprint != config.fingerprint:
        what = "holds other faces on this node than where the search was started"
        way_out = "Give a folder that all nodes share, --data /shared/data, or copy the store again"
        if config.data_dir is None:
            way_out = "Install the same versions on all nodes, of constraints.txt, or give --data"
        raise SearchError(str(store.folder), what, way_out)
    return store
