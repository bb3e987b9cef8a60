"""The judge: a process on a node where models of a search predict once all trials are trained.

The head of a cluster often has no GPU, no cached features and one thread (`ray exec` sets that), so the winner is
judged and scored where it was trained, with the resources of one worker. What a judge computes depends on nothing but
its question: where its node is lost, another judge is asked the same again.

Begin at `RemoteJudge`, the driver's side; `Judge` is the actor.
"""

import logging
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ferray.data.store.reader import Store
from ferray.errors import FerrayError, SearchError
from ferray.files.storage import cache_dir
from ferray.model.weights import Weights, load_weights
from ferray.records.bucket.run import BucketRun
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.report.test_split.evaluate import SplitPredictions, predict_split
from ferray.search.fleet import ray_patches
from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.messages import GroupConfig
from ferray.search.fleet.probe import find_fault, open_places, weights_here
from ferray.train.checkpoints.export import export_best
from ferray.train.device import device_of_worker, set_threads
from ferray.train.predict import ValidationAnswers, predict_validation
from ferray.waiting import waiting
from ferray.wording import first_line

log = logging.getLogger(__name__)

POLL_S = 0.5
"""How often Ctrl-C is looked for."""

PLACE_LIMIT_S = 60.0
"""After so long on a node whose resources others hold, the next node is tried."""

MAX_DEATHS = 3
"""Deaths of judges that a search survives without a node being lost: memory may run out each time."""


class Judge:
    """Runs models of a search on its node.

    Args:
        config: What a worker of the search is given.
    """

    _store: Store
    _device: str

    def __init__(self, config: GroupConfig) -> None:
        self._config = config
        self._weights: dict[str, Weights] = {}

    def is_ready(self) -> bool:
        """The node has given it the resources."""
        return True

    def open(self) -> str:
        """Open what the search needs; returns why that cannot be done on this node, or nothing."""
        if fault := find_fault(self._config):
            return fault
        set_threads(self._config.cpus_per_worker)
        self._device = device_of_worker(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))
        self._store = open_places(self._config)
        return ""

    def validation(self, record: TrialRecord) -> ValidationAnswers:
        """As `ferray.search.outcome.answers.Answers`."""
        return predict_validation(
            record.recipe, self._store, self._weights_of(record), checkpoints=self._trial_dir(record),
            cache=self._config.cache or cache_dir(), recorded=_best_epoch(record), device=self._device,
        )  # fmt: skip

    def split(self, record: TrialRecord, split: str, max_faces: int | None) -> SplitPredictions:
        """As `ferray.search.outcome.answers.Answers`."""
        with tempfile.TemporaryDirectory(prefix="ferray-") as name:
            export_best(
                Path(name), checkpoints=self._trial_dir(record), recipe=record.recipe, store=self._store,
                weights=self._weights_of(record), recorded=_best_epoch(record),
            )  # fmt: skip
            return predict_split(Path(name), self._store, split, device=self._device, max_faces=max_faces)

    def _trial_dir(self, record: TrialRecord) -> Path:
        address = self._config.address
        run = Run(self._config.run_dir) if address is None else BucketRun(address, "workers")
        return run.checkpoints(record.trial_id)

    def _weights_of(self, record: TrialRecord) -> Weights:
        backbone = record.recipe.backbone
        if backbone not in self._weights:
            self._weights[backbone] = load_weights(weights_here(self._config), backbone)
        return self._weights[backbone]


class NoNodeError(Exception):
    """No node is there on which a judge could run."""


class RemoteJudge:
    """Asks a judge on a node, which is started with the first question, and another one where that dies.

    Args:
        config: What a worker of the search is given.
        allocation: What a worker holds, and so the judge.
        preferred: Ids of nodes that have cached what is needed, the best first; they may be gone.
    """

    def __init__(self, config: GroupConfig, allocation: Allocation, *, preferred: Sequence[str]) -> None:
        self._config = config
        self._allocation = allocation
        self._preferred = list(preferred)
        self._left_out: set[str] = set()
        self._num_deaths = 0
        self._node = ""
        self._actor: Any = None

    def validation(self, record: TrialRecord) -> ValidationAnswers:
        """As `Answers.validation` of `ferray.search.outcome.answers`; raises as `ask`."""
        answers: ValidationAnswers = self.ask("validation", record)
        return answers

    def split(self, record: TrialRecord, split: str, max_faces: int | None) -> SplitPredictions:
        """As `Answers.split` there; raises as `ask`."""
        predictions: SplitPredictions = self.ask("split", record, split, max_faces)
        return predictions

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer of a judge to a question, the name of a method of `Judge`.

        Raises:
            NoNodeError: No node is there that could answer.
            FerrayError: Of the answer, or judges die again and again.
        """
        while True:
            if self._actor is None:
                with waiting("waiting for a node that judges the winner"):
                    self._place()
            try:
                return _wait_for(getattr(self._actor, question).remote(*arguments))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, FerrayError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                self._note_death(error)

    def close(self) -> None:
        """End the judge."""
        if self._actor is not None:
            with suppress(ray.exceptions.RayError):
                ray.kill(self._actor)
        self._actor = None

    def _place(self) -> None:
        """Start a judge on the first node that has room and sees what it needs."""
        while candidates := self._candidates():
            for node in candidates:
                strategy = NodeAffinitySchedulingStrategy(node, soft=False)
                self._actor = ray.remote(Judge).options(
                    num_cpus=self._allocation.cpus_per_worker,
                    num_gpus=self._allocation.gpus_per_worker,
                    scheduling_strategy=strategy,
                ).remote(self._config)  # fmt: skip
                try:
                    _wait_for(self._actor.is_ready.remote(), limit_s=PLACE_LIMIT_S)
                    fault = _wait_for(self._actor.open.remote())  # which may fetch the data
                except ray.exceptions.GetTimeoutError:
                    self.close()  # others hold its resources
                    continue
                except ray.exceptions.RayError as error:
                    fault = f"does not answer: {first_line(str(error))}"
                if not fault:
                    self._node = node
                    return
                log.warning("node %s is not asked to judge: %s", node, fault)
                self.close()
                self._left_out.add(node)
        raise NoNodeError

    def _candidates(self) -> list[str]:
        """The nodes that are alive, stay and are large enough, those that have cached features first."""
        leaving = set(ray_patches.draining_nodes())
        nodes = []
        for one in ray.nodes():
            has, node_id = one["Resources"], one["NodeID"]
            fits = has.get("CPU", 0) >= self._allocation.cpus_per_worker
            fits = fits and has.get("GPU", 0) >= self._allocation.gpus_per_worker
            if one["Alive"] and fits and node_id not in leaving | self._left_out:
                nodes.append(node_id)
        rank = {node: place for place, node in enumerate(self._preferred)}
        return sorted(nodes, key=lambda node: rank.get(node, len(rank)))

    def _note_death(self, error: Exception) -> None:
        """A judge has died; its question is asked again, elsewhere if its node is lost."""
        self.close()
        if self._node in self._candidates():
            self._num_deaths += 1
        log.warning("the judge on node %s has died; another one is asked: %s", self._node, first_line(str(error)))
        if self._num_deaths >= MAX_DEATHS:
            what = f"its process on a node has died {self._num_deaths} times: {first_line(str(error))}"
            raise SearchError("judging the winner", what, "See whether memory runs out there, then resume the search")


def _wait_for(answer: Any, *, limit_s: float | None = None) -> Any:
    """An answer, waited for so that Ctrl-C is seen.

    Raises:
        RayError: Of the call; GetTimeoutError after the limit.
    """
    began = monotonic()
    while not ray.wait([answer], timeout=POLL_S)[0]:
        if limit_s is not None and monotonic() - began > limit_s:
            raise ray.exceptions.GetTimeoutError
    return ray.get(answer)


def _best_epoch(record: TrialRecord) -> int | None:
    best = record.best()
    return None if best is None else best.epoch
