"""The W&B sweep that the runs of a search belong to.

W&B compares the runs of a sweep side by side. A run belongs to one by the setting `sweep_id`, without an agent; the
variable `WANDB_SWEEP_ID` would take the run's own id and project from it. The sweep is made online only: a run with an
invented sweep could not be synced.

The client has no public call that makes a sweep and prints nothing, so the requests are here; they are those of the
commands `wandb sweep`, `--update` and `--stop` of wandb 0.31.

Begin at `SearchSweep`.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

import yaml

from ferray.tracking.mode import Destination
from ferray.tracking.sent_log import SentLog, SentSweep

log = logging.getLogger(__name__)

ANSWER_S = 10
"""Longest wait for one answer about a sweep; the runs of a search wait for the first ones."""

_UPSERT = """
mutation UpsertSweep(
    $id: ID, $config: String, $state: String, $entityName: String, $projectName: String
) {
    upsertSweep(input: {
        id: $id, config: $config, state: $state, entityName: $entityName, projectName: $projectName
    }) {
        sweep { id name project { name entity { name } } }
        configValidationWarnings
    }
}
"""


class RunSweep(Protocol):
    """The sweep that runs belong to."""

    def open(self, *, is_online: bool) -> str | None:
        """Its id, for the first run and all that follow; None for runs without a sweep."""

    def leave(self, error: Exception) -> bool:
        """Have no sweep from now on if an error of the first run is about it; whether it is."""

    def finish(self) -> None:
        """All is sent; raises nothing."""


class AgentSweep:
    """The sweep of the agent that started this process: it is the agent's to finish.

    Args:
        name: Its id.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self, *, is_online: bool) -> str | None:
        """As `RunSweep`."""
        return self._name

    def leave(self, error: Exception) -> bool:
        """As `RunSweep`: a run without it would not be the agent's."""
        return False

    def finish(self) -> None:
        """As `RunSweep`."""


class SearchSweep:
    """The sweep of a search, made with its first run, kept in the log of what was sent, and finished with the search.

    No error of W&B's leaves it: a sweep that cannot be made is a warning, and the runs go without.

    Args:
        sent_log: Keeps it, so that a resumed search goes on with the same one.
        config: As `ferray.space.to_sweep_config` makes it; None for no sweep.
        destination: Project and entity, settled.
    """

    def __init__(self, sent_log: SentLog, config: Mapping[str, Any] | None, destination: Destination) -> None:
        self._sent_log = sent_log
        self._config = config
        self._destination = destination
        self._is_open = False
        self._is_left = config is None

    def open(self, *, is_online: bool) -> str | None:
        """As `RunSweep`: online it is made, or opened again with the space as it is now; offline the recorded one."""
        if self._is_left:
            return None
        recorded = self._recorded()
        if is_online and not self._is_open:
            self._is_open = True  # whatever happens, it is tried once
            try:
                self._upsert(recorded, config=yaml.safe_dump(self._config, sort_keys=False), state="RUNNING")
            except Exception as error:  # noqa: BLE001 - whatever wandb raises, the runs are sent
                if recorded is None:
                    self._is_left = True
                    log.warning("W&B: no sweep, the runs go without one: %s: %s", type(error).__name__, error)
                    return None
                # The runs may join it nevertheless; if it is gone, opening the first one says so.
                log.info("W&B: sweep %s was not opened again: %s: %s", recorded.name, type(error).__name__, error)
            recorded = self._recorded()
        return None if recorded is None else recorded.name

    def leave(self, error: Exception) -> bool:
        """As `RunSweep`: it may have been deleted."""
        if self._is_left or "sweep" not in str(error).lower():
            return False
        self._is_left = True
        log.warning("W&B: the sweep of this search is gone, the runs go without one: %s", error)
        return True

    def finish(self) -> None:
        """As `RunSweep`; a search that was interrupted does not come here, so its sweep stays open."""
        recorded = self._recorded()
        if self._is_left or recorded is None or recorded.state != "RUNNING":
            return
        try:
            self._upsert(recorded, state="FINISHED")
        except Exception as error:  # noqa: BLE001 - as in `open`
            path = f"{recorded.entity}/{recorded.project}/{recorded.name}"
            log.warning(
                "W&B: the sweep is still running: %s: %s; `wandb sweep --stop %s`", type(error).__name__, error, path
            )

    def _recorded(self) -> SentSweep | None:
        """The sweep on record, unless it is in another project than the runs."""
        sweep = self._sent_log.sweep()
        wanted = self._destination
        if sweep is None or sweep.project != wanted.project or wanted.entity not in (None, sweep.entity):
            return None
        return sweep

    def _upsert(self, sweep: SentSweep | None, *, state: str, config: str | None = None) -> None:
        """Make the sweep, or change it, and record it."""
        variables = {
            "id": None if sweep is None else sweep.id,
            "config": config,
            "state": state,
            "entityName": self._destination.entity if sweep is None else sweep.entity,
            "projectName": self._destination.project,
        }
        answer = _ask(_UPSERT, variables)["upsertSweep"]
        for warning in answer.get("configValidationWarnings") or ():
            log.debug("W&B, on the sweep: %s", warning)
        made, project = answer["sweep"], answer["sweep"]["project"]
        self._sent_log.write_sweep(
            SentSweep(
                name=made["name"], id=made["id"], project=project["name"], entity=project["entity"]["name"], state=state
            )
        )


def _ask(query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The answer of W&B's server to a request in GraphQL; raises what wandb raises."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # it prints which key it has found
    try:
        api = wandb.Api(timeout=ANSWER_S)
        answer: dict[str, Any] = api._service_api.execute_graphql(query, variables=variables)
        return answer
    finally:
        os.environ.pop("WANDB_SERVICE", None)  # or processes that start later would log through this wandb-core
