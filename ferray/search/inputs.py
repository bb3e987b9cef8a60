"""Data and weights that are in a bucket become a folder and files of this machine, before anything else reads them.

Begin at `bring_inputs`; `ferray.search.fleet.probe` does the same on each node.
"""

from dataclasses import replace

from ferray.data.store.fetched import fetch_store, peek_store
from ferray.files.location import is_address, to_address
from ferray.model.weights_bucket import check_weights, fetch_weights
from ferray.search.history.recorded import History
from ferray.search.plan import Plan


def bring_inputs(plan: Plan, history: History | None, *, is_dry: bool) -> Plan:
    """The plan with data and weights on this machine; what is there needs no more than a request for its version.

    Args:
        plan: The search.
        history: Its records; None for a new one.
        is_dry: Whether nothing is trained: then only the manifest of the data is fetched, and weights are looked for.

    Raises:
        DataError: There is no store, or its files are not those of its manifest.
        WeightsError: The weights are not there.
        BucketError: The bucket cannot be read.
        StorageError: The cache cannot be written.
    """
    if plan.data is not None and is_address(plan.data):
        address = to_address(plan.data, option="--data")
        folder, is_whole = peek_store(address) if is_dry else (fetch_store(address), True)
        plan = replace(plan, data_dir=folder, has_faces=is_whole)
    if is_address(plan.weights):
        address, backbones = to_address(plan.weights, option="--weights"), backbones_of(plan, history)
        if is_dry:
            check_weights(address, backbones)
        else:
            plan = replace(plan, weights_path=fetch_weights(address, backbones))
    return plan


def backbones_of(plan: Plan, history: History | None) -> list[str]:
    """Those that the space may ask for, and those that the search has asked for before it was extended."""
    before = {} if history is None else history.search.weights
    return list(dict.fromkeys([*plan.values("backbone"), *before]))
