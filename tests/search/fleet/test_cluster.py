"""How a cluster is shared out, and how a search looks; no cluster is started."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
from ray.train import RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from ferray.errors import SearchError
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.fleet.cluster import MAX_CPU_GROUPS, Cluster, Share, share_out
from ferray.search.fleet.groups import _make_trainer
from ferray.search.live import LiveView
from ferray.space import find_space, read_space

LAPTOP = Cluster(cpus=8, gpus=0, nodes=1, joined=False)
SERVER = Cluster(cpus=32, gpus=4, nodes=1, joined=True)


def share(
    cluster: Cluster, *, workers: int = 1, gpus: float | None = None, groups: int | None = None, **heads: Any
) -> Share:
    return share_out(cluster, workers=workers, gpus_per_worker=gpus, num_groups=groups, **heads)


def test_without_gpus_one_group_has_all_cpus() -> None:
    assert share(LAPTOP) == Share(num_groups=1, workers=1, cpus_per_worker=8, gpus_per_worker=0)
    assert share(LAPTOP, workers=2) == Share(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=0)


def test_heads_are_trained_by_one_group_a_core_where_nothing_else_is_asked_for() -> None:
    assert share(LAPTOP, heads_only=True) == Share(num_groups=8, workers=1, cpus_per_worker=1, gpus_per_worker=0)
    assert share(LAPTOP, heads_only=True, workers=3).num_groups == 2
    assert share(LAPTOP, heads_only=True, num_points=3) == Share(3, workers=1, cpus_per_worker=2, gpus_per_worker=0)
    assert share(LAPTOP, heads_only=True, groups=1).num_groups == 1
    assert share(SERVER, heads_only=True, gpus=0).num_groups == MAX_CPU_GROUPS
    assert share(SERVER, heads_only=True).num_groups == 4


def test_with_gpus_there_are_as_many_groups_as_fit() -> None:
    assert share(SERVER) == Share(num_groups=4, workers=1, cpus_per_worker=8, gpus_per_worker=1)
    assert share(SERVER, workers=2).num_groups == 2
    assert share(SERVER, gpus=0.5).num_groups == 8
    assert share(SERVER, gpus=0).num_groups == 1


THREE = Cluster(cpus=12, gpus=0, nodes=3, joined=True, per_node=((4, 0.0),) * 3)
UNEQUAL = Cluster(cpus=18, gpus=2, nodes=3, joined=True, per_node=((2, 0.0), (8, 1.0), (8, 1.0)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's, of its own settings
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("joined", [False, True])
def test_a_group_has_no_process_for_data_sets_and_one_that_cleans_up_only_where_somebody_else_is_on_the_cluster(
    joined: bool, workers: int, tmp_path: Path
) -> None:
    trainer = _make_trainer(
        Share(num_groups=1, workers=workers, cpus_per_worker=1, gpus_per_worker=0.0),
        joined=joined,
        run_config=RunConfig(name="group", storage_path=str(tmp_path)),
        scaling_config=ScalingConfig(num_workers=workers),
    )
    kinds = {type(callback) for callback in trainer._create_default_callbacks()}
    assert DatasetsCallback not in kinds
    assert (PlacementGroupCleanerCallback in kinds) == joined
    assert len(kinds) > 2, "those that a group lives by"


def test_no_worker_is_larger_than_a_node() -> None:
    assert share(THREE) == Share(num_groups=3, workers=1, cpus_per_worker=4, gpus_per_worker=0)
    assert share(THREE, workers=2) == Share(num_groups=1, workers=2, cpus_per_worker=4, gpus_per_worker=0)
    assert share(THREE, groups=1).cpus_per_worker == 4
    assert share(THREE, groups=4).cpus_per_worker == 2
    assert share(UNEQUAL) == Share(num_groups=2, workers=1, cpus_per_worker=8, gpus_per_worker=1)
    assert share(UNEQUAL, gpus=0.5) == Share(num_groups=4, workers=1, cpus_per_worker=4, gpus_per_worker=0.5)


@pytest.mark.parametrize(
    "cluster,workers,gpus,groups,words",
    [
        (UNEQUAL, 1, 2.0, None, "a worker lies on one node: with 1 CPU and 2 GPUs each, 0 find a place"),
        (LAPTOP, 1, 1.0, None, "need 1 GPUs, but the cluster has 0"),
        (SERVER, 2, 1.0, 3, "need 6 GPUs, but the cluster has 4"),
        (LAPTOP, 3, None, 3, "need 9 CPUs, but the cluster has 8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_missing_resource(
    cluster: Cluster, workers: int, gpus: float | None, groups: int | None, words: str
) -> None:
    with pytest.raises(SearchError, match=words):
        share(cluster, workers=workers, gpus=gpus, groups=groups)


def test_in_a_log_every_trial_that_ends_is_one_line_with_its_settings_and_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    space = read_space(find_space("grid"))
    record = TrialRecord(trial_id="a", number=3, recipe=Recipe(dropout=0.0, epochs=2), state="running")
    row = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.25))
    with LiveView(space, columns=space.searched, total=24, ended=2, notes=dict) as view:
        view.trial_started(record)
        view.epoch("a", row)
        view.trial_ended(dataclasses.replace(record, state="done", epochs=(row,)))
        failed = dataclasses.replace(record, number=4, state="failed", reason="loss is nan\n  lower it")
        view.trial_ended(failed)
    lines = capsys.readouterr().err.splitlines()
    settings = "(augmentation none, dropout 0, batch_size 32, learning_rate 0.001)"
    assert lines[0] == f"3/24: trial 3 done {settings}: val_accuracy 0.2500 in epoch 1 of 1, 0.2 s"
    assert lines[1] == f"4/24: trial 4 failed {settings}: loss is nan"
    assert "live" not in {thread.name for thread in threading.enumerate()}
