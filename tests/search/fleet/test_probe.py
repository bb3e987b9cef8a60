"""What a node is asked before a worker group is started on it."""

import dataclasses
from pathlib import Path

import pytest
from fixtures.history import make_search_file

from ferray.data.store.reader import Store
from ferray.errors import SearchError
from ferray.records.run import Run
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.probe import find_fault, open_places


def make_config(run: Run, store: Store) -> GroupConfig:
    return GroupConfig(
        run_dir=run.folder,
        search_id="ffffffff",
        data_dir=store.folder,
        fingerprint=store.fingerprint,
        weights="none",
        cache=None,
        cpus_per_worker=1,
        has_scheduler=False,
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "first")
    run.write_search(make_search_file(id="ffffffff"))
    return run


@pytest.mark.parametrize("has_another", [False, True])
def test_a_node_with_a_disk_of_its_own_is_refused_and_the_way_out_is_a_shared_folder(
    has_another: bool, tiny_store: Store, tmp_path: Path
) -> None:
    run = Run(tmp_path / "second")
    if has_another:  # a search of the same name, on this node's disk
        run.write_search(make_search_file())
    with pytest.raises(SearchError, match=r"(?s)checkpoints would be lost with the node.*--out"):
        open_places(make_config(run, tiny_store))


def test_a_node_that_sees_the_folder_and_the_data_has_no_fault(run: Run, tiny_store: Store) -> None:
    config = make_config(run, tiny_store)
    assert find_fault(config) == ""
    assert open_places(config).fingerprint == tiny_store.fingerprint


def test_a_node_without_the_data_or_with_other_data_or_without_the_weights_is_named_with_the_remedy(
    run: Run, tiny_store: Store, tmp_path: Path
) -> None:
    config = make_config(run, tiny_store)
    assert "--data /shared/data" in find_fault(dataclasses.replace(config, data_dir=tmp_path / "none"))
    other = find_fault(dataclasses.replace(config, fingerprint="of other faces"))
    assert "holds other faces on this node than where the search was started" in other
    weights = find_fault(dataclasses.replace(config, weights=str(tmp_path / "vgg16.safetensors")))
    assert "vgg16.safetensors is not there on this node. Give a file in a folder that all nodes share" in weights
