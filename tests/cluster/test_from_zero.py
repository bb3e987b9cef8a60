"""A search on a cluster without a worker: it asks for nodes, begins with the first, and leaves none asked for."""

from pathlib import Path

import pytest
from fixtures.autoscaled import autoscaled_cluster
from fixtures.search import LONG_GRID, Searches, finish

from ferray.data.store.reader import Store
from ferray.records.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("v2", [False, True], ids=["autoscaler-v1", "autoscaler-v2"])
def test_a_search_begins_without_a_worker_and_asks_for_nodes(
    v2: bool, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches = Searches(tmp_path, tiny_store)
    with autoscaled_cluster(tmp_path, {"CPU": 1, "object_store_memory": 100_000_000}, v2=v2) as (address, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        _, log = finish(searches.start(LONG_GRID, "grid", "--wandb", "disabled", "--address", address))
    run = Run(tmp_path / "runs" / "grid")
    assert [record.state for record in run.read_trials()] == ["done"] * 6
    assert run.read_search().sessions[-1].groups["num_groups"] == 2, "what the autoscaler may give"
    assert "no node has 1 CPU; the autoscaler was asked for one" in log
