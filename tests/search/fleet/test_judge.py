"""Where the winner of a search is judged on a cluster; no Ray is started."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.errors import CheckpointError, SearchError
from ferray.recipe import trial_id
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.report.test_split.evaluate import predict_split
from ferray.search.fleet import judge as module
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.judge import MAX_DEATHS, Judge, NoNodeError, RemoteJudge
from ferray.search.fleet.messages import GroupConfig
from ferray.train.checkpoints.export import export_best
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit
from ferray.train.predict import predict_validation

ALLOCATION = Allocation(num_groups=2, workers=1, cpus_per_worker=2, gpus_per_worker=1.0)


def config(run_dir: Path = Path("runs/some")) -> GroupConfig:
    return GroupConfig(
        run_dir=run_dir, search_id="some", data_dir=None, fingerprint="", weights="none", cache=run_dir / "cache",
        cpus_per_worker=2, has_scheduler=False,
    )  # fmt: skip


class FakeCluster:
    """Nodes, and judges on them; a judge answers with its node unless its node says otherwise."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = {node: {"CPU": 2.0, "GPU": 1.0} for node in nodes}
        self.draining: list[str] = []
        self.faults: dict[str, str] = {}  # what a judge's `open` says
        self.busy: set[str] = set()  # nodes whose resources others hold
        self.answer: Callable[[str], Any] = lambda node: node
        self.asked: list[str] = []
        self.killed: list[str] = []

    def options(self, *, num_cpus: int, num_gpus: float, scheduling_strategy: Any) -> SimpleNamespace:
        assert (num_cpus, num_gpus, scheduling_strategy.soft) == (2, 1.0, False)
        return SimpleNamespace(remote=lambda _: self.judge_on(scheduling_strategy.node_id))

    def judge_on(self, node: str) -> SimpleNamespace:
        def ready() -> bool:
            if node in self.busy:
                raise ray.exceptions.GetTimeoutError
            return True

        def validation(_: Any) -> Any:
            self.asked.append(node)
            return self.answer(node)

        calls = {"is_ready": ready, "open": lambda: self.faults.get(node, ""), "validation": validation}
        methods = {name: SimpleNamespace(remote=lambda *one, call=call: (call, one)) for name, call in calls.items()}
        return SimpleNamespace(node=node, **methods)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster("a" * 56, "b" * 56, "c" * 56)
    monkeypatch.setattr(ray, "nodes", lambda: [
        {"NodeID": node, "Alive": True, "Resources": has} for node, has in made.nodes.items()
    ])  # fmt: skip
    monkeypatch.setattr(ray, "remote", lambda _: made)
    monkeypatch.setattr(ray, "kill", lambda judge: made.killed.append(judge.node))
    monkeypatch.setattr(module.ray_patches, "draining_nodes", lambda: made.draining)
    monkeypatch.setattr(module, "_wait_for", lambda answer, **_: answer[0](*answer[1]))
    return made


def remote(*preferred: str) -> RemoteJudge:
    return RemoteJudge(config(), ALLOCATION, preferred=[letter * 56 for letter in preferred])


RECORD: Any = "a record"


def test_a_node_that_trained_the_winner_is_asked_first_and_keeps_its_judge_to_the_end(cluster: FakeCluster) -> None:
    judge = remote("gone", "c", "b")
    assert judge.validation(RECORD) == judge.validation(RECORD) == "c" * 56
    assert cluster.killed == []
    judge.close()
    assert cluster.killed == ["c" * 56]


@pytest.mark.parametrize("why", ["fault", "busy", "draining", "too small"])
def test_a_node_that_cannot_judge_is_passed_over(why: str, cluster: FakeCluster) -> None:
    node = "b" * 56
    if why == "fault":
        cluster.faults[node] = "runs/some is not the folder of this search"
    elif why == "busy":
        cluster.busy.add(node)
    elif why == "draining":
        cluster.draining.append(node)
    else:
        cluster.nodes[node] = {"CPU": 2.0}
    assert remote("b", "c").validation(RECORD) == "c" * 56


def test_where_the_node_dies_in_the_middle_the_same_is_asked_of_another(cluster: FakeCluster) -> None:
    def die_with_node(node: str) -> str:
        if node == "b" * 56:
            del cluster.nodes[node]
            raise ray.exceptions.ActorDiedError
        return node

    cluster.answer = die_with_node
    assert remote("b", "a").validation(RECORD) == "a" * 56
    assert cluster.asked == ["b" * 56, "a" * 56]


def test_judges_that_die_again_and_again_on_nodes_that_stay_end_the_search(cluster: FakeCluster) -> None:
    def die(_: str) -> None:
        raise ray.exceptions.ActorDiedError

    cluster.answer = die
    with pytest.raises(SearchError, match=f"has died {MAX_DEATHS} times"):
        remote().validation(RECORD)
    assert len(cluster.asked) == MAX_DEATHS


def test_without_a_node_that_could_judge_the_caller_is_informed(cluster: FakeCluster) -> None:
    cluster.faults = dict.fromkeys(cluster.nodes, "has no shared folder")
    with pytest.raises(NoNodeError):
        remote().validation(RECORD)


def test_an_error_of_the_answer_is_raised_as_itself(cluster: FakeCluster) -> None:
    cause = CheckpointError("best.safetensors", "is gone", "Resume the search")

    def fail(_: str) -> None:
        raise ray.exceptions.RayTaskError("validation", "a traceback", cause)

    cluster.answer = fail
    with pytest.raises(CheckpointError) as caught:
        remote().validation(RECORD)
    assert caught.value is cause


class DemoStore(SmallStore):
    """One that can be evaluated."""

    is_demo = True

    @property
    def table(self) -> pd.DataFrame:
        """The checksums of its faces."""
        return pd.DataFrame({"sha256": [hashlib.sha256(face).hexdigest() for face in self.faces]})


def test_what_a_judge_answers_is_what_this_process_would_bit_by_bit(small_rows: None, tmp_path: Path) -> None:
    store, weights, recipe = DemoStore(), small_weights(), small_recipe()
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    rows = tuple(fit(recipe, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))
    record = TrialRecord(trial_id=name, number=0, recipe=recipe, state="done", epochs=rows)
    judge = Judge(config(tmp_path))
    judge._store, judge._device, judge._weights = store, "cpu", {recipe.backbone: weights}  # type: ignore[assignment]

    here = predict_validation(recipe, store, weights, checkpoints=run.trial_dir(name), cache=tmp_path / "cache")
    there = judge.validation(record)
    assert np.array_equal(here.rows, there.rows)
    assert here.probabilities.tobytes() == there.probabilities.tobytes()

    best_dir = tmp_path / "best"
    best_dir.mkdir()
    export_best(best_dir, checkpoints=run.trial_dir(name), recipe=recipe, store=store, weights=weights)
    for max_faces in (None, 5):
        exported = predict_split(best_dir, store, "validation", max_faces=max_faces)
        answered = judge.split(record, "validation", max_faces)
        for field in dataclasses.fields(exported.predictions):
            ours, theirs = (getattr(one.predictions, field.name) for one in (exported, answered))
            assert np.array_equal(ours, theirs), field.name
