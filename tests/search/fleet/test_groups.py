"""The runs of Ray Train that worker groups are; none is started."""

from pathlib import Path

import pytest
from ray.train import RunConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.groups import _make_trainer, describe_death


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's, of its own settings
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("joined", [False, True])
def test_a_group_has_no_actor_for_data_sets_and_a_cleaner_only_on_a_cluster_that_outlives_the_search(
    joined: bool, workers: int, tmp_path: Path
) -> None:
    trainer = _make_trainer(
        Allocation(num_groups=1, workers=workers, cpus_per_worker=1, gpus_per_worker=0.0),
        place=("a node",) * workers if joined else (),
        run_config=RunConfig(name="group", storage_path=str(tmp_path)),
    )
    kinds = {type(callback) for callback in trainer._create_default_callbacks()}
    assert DatasetsCallback not in kinds
    assert (PlacementGroupCleanerCallback in kinds) == joined
    assert len(kinds) > 2, "those that a group needs"


def test_a_death_is_described_by_its_cause_in_one_line() -> None:
    error = RuntimeError("The actor died unexpectedly.\n  class_name: Worker\n  Worker exit type: SYSTEM_ERROR\n")
    assert describe_death(error) == "RuntimeError: Worker exit type: SYSTEM_ERROR"
    assert describe_death(ValueError("first\nsecond")) == "ValueError: first"
    assert describe_death(ValueError()) == "ValueError: "
