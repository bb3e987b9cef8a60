"""Whether a node sees what a search needs of it: its own folder, the data, the weights.

A node that joins is asked before a worker group is started on it, and every worker opens its store in the same way.

Begin at `open_places`.
"""

from pathlib import Path

from ferray.data.demo.photographs import demo_store
from ferray.data.store.reader import Store, open_store
from ferray.errors import DataError, FerrayError, SearchError, WeightsError
from ferray.files import storage
from ferray.records.run import Run
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
    """The store on this node, after a check of the search's folder; demo faces are drawn first, once on each node.

    Raises:
        SearchError: The folder of this name is on another disk, or the data are others.
        FerrayError: The store cannot be opened.
    """
    _check_folder(config)
    return _open_data(config)


def _check_folder(config: GroupConfig) -> None:
    run = Run(config.run_dir)
    if not run.exists() or run.read_search().id != config.search_id:
        raise SearchError(
            str(config.run_dir),
            "is not the folder of this search on this node, which has a disk of its own:"
            " checkpoints would be lost with the node",
            "Give a folder that all nodes share: --out /shared/runs",
        )


def _check_weights(config: GroupConfig) -> None:
    if config.weights not in ("imagenet", "none") and not Path(config.weights).exists():
        way_out = "Give a file in a folder that all nodes share: --weights /shared/weights/vgg16.safetensors"
        raise WeightsError(config.weights, "is not there on this node", way_out)


def _open_data(config: GroupConfig) -> Store:
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
