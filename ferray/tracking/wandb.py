"""W&B: one run per trial, and one run for the search itself, sent while the search runs.

The driver's thread only puts calls into a queue, and a second thread makes them (see `mirror`), so that W&B can neither
end nor delay a search. If the server does not answer, a search waits `EXIT_S` at most when it ends.

Begin at `Tracker`; `track_search` makes that of a search.
"""

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ferray.records.run import Run
from ferray.records.search_file import SearchFile
from ferray.records.trial import EpochResult, TrialRecord
from ferray.space import Space, to_sweep_config
from ferray.tracking.mirror import EXIT_S, FLUSH_S, Mirror
from ferray.tracking.mode import Destination, Mode, choose_mode
from ferray.tracking.names import AgentTask, RunNames, SearchNames
from ferray.tracking.sent_log import SentLog
from ferray.tracking.sweep import AgentSweep, SearchSweep
from ferray.waiting import waiting

__all__ = ["Destination", "Mode", "Tracker", "choose_mode", "origin_of", "track_search"]

log = logging.getLogger(__name__)

HIDDEN = (
    "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_MODE", "WANDB_RESUME",
    "WANDB_RESUME_FROM", "WANDB_FORK_FROM",
)  # fmt: skip
"""Variables of a wandb agent, or of another process of wandb, that started this one: they would merge runs into its.
Beside them those of one run that do not go with how ferray opens runs: wandb would open none."""

DEFAULT_DESTINATION = Destination()

DATA_DIR = "WANDB_DATA_DIR"
"""Where tables are kept for `wandb sync`: beside the runs and not in the user's home, unless the user has set it."""


def origin_of(search: SearchFile, space: Space) -> dict[str, str]:
    """Of what search, space and data a run is: a part of the configuration of all runs of a search."""
    return {"search_id": search.id, "space": space.name, "data_fingerprint": search.data.fingerprint}


def track_search(
    run: Run, search: SearchFile, space: Space, *, mode: Mode, has_original_times: bool = False
) -> "Tracker":
    """The tracker of a search, whose runs say of what search, space and data they are.

    Args:
        run: The search's folder.
        search: The content of its `search.json`.
        space: As it is searched now.
        mode: As for `Tracker`.
        has_original_times: As for `Tracker`.
    """
    origin = origin_of(search, space)
    return Tracker(
        run,
        mode=mode,
        search_id=search.id,
        sweep=to_sweep_config(space, name=run.name),
        config=search.options.to_json() | origin,
        trial_config=origin,
        destination=Destination(project=space.project, entity=space.entity),
        has_original_times=has_original_times,
    )


class Tracker:
    """Mirrors a search to W&B; a context manager, and an observer of `ferray.search.tune.loop`.

    Nothing is imported or started before the first trial, so that Ray's processes, which start before, do not inherit
    it. Trials that are still open at the end of the block end as interrupted.

    Args:
        run: The search's folder; W&B's files are written to its folder `wandb`.
        mode: The mode, from `choose_mode`; with `disabled`, every method does nothing.
        search_id: Unique to the search; run ids are `SEARCH_ID-TRIAL_ID`.
        agent: The one run that this process was started for by `wandb agent`; None for the runs of a search.
        sweep: The configuration of the W&B sweep that is made online, from `ferray.space.to_sweep_config`; None for
            none, and for the run of an agent, which has one.
        config: The configuration of the search's own run.
        trial_config: What the configuration of each trial's run has beside its recipe: of what search and data it is.
        destination: W&B project and entity; the variables `WANDB_PROJECT` and `WANDB_ENTITY` win.
        has_original_times: Whether epochs get the times of the records, not those at which they are sent.
    """

    def __init__(
        self,
        run: Run,
        *,
        mode: Mode,
        search_id: str = "",
        agent: AgentTask | None = None,
        sweep: Mapping[str, Any] | None = None,
        config: Mapping[str, Any],
        trial_config: Mapping[str, Any] | None = None,
        destination: Destination = DEFAULT_DESTINATION,
        has_original_times: bool = False,
    ) -> None:
        sent_log, settled = SentLog(run.folder), destination.settled()
        names: RunNames = agent or SearchNames(name=run.name, search_id=search_id, sent_log=sent_log)
        self._mirror = Mirror(
            run,
            mode,
            names=names,
            sweep=AgentSweep(agent.sweep) if agent else SearchSweep(sent_log, sweep, settled),
            sent_log=sent_log,
            config=dict(config),
            trial_config=dict(trial_config or {}),
            destination=settled,
            has_original_times=has_original_times,
        )
        self._enabled = mode != "disabled"
        self._acts: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._environment: dict[str, str | None] = {}
        self._data_dir = str(run.folder / "wandb")

    def __enter__(self) -> Self:
        if self._enabled:
            self._environment = {name: os.environ.pop(name, None) for name in HIDDEN}
            if DATA_DIR not in os.environ:
                self._environment[DATA_DIR] = None
                os.environ[DATA_DIR] = self._data_dir
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._mirror.deadline = time.monotonic() + EXIT_S * 2 / 3
            self._acts.put(self._mirror.close)
            self._acts.put(None)
            with waiting(f"sending the last to W&B, which takes {EXIT_S:.0f} s at most"):
                self._thread.join(EXIT_S)
            if self._thread.is_alive() or self._mirror.is_incomplete:
                log.warning("W&B: not all was sent within %.0f s; the rest is sent if the search is resumed", EXIT_S)
        self._enabled = False
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    @property
    def has_given_up(self) -> bool:
        """Whether nothing more is sent, after too many errors."""
        return self._mirror.has_given_up

    def wait(self) -> None:
        """Until W&B has been sent all that was reported, or has failed too often; a search never waits for that."""
        done = threading.Event()
        self._call(done.set)
        if self._thread is not None:
            done.wait()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins or continues; the epochs that it has already are sent if W&B lacks them."""
        self._call(partial(self._mirror.start, record))

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """A trial has one more epoch."""
        self._call(partial(self._mirror.add, trial_id, row))

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is done, stopped or failed; its run gets that state."""
        self._call(partial(self._mirror.end, record))

    def search_ended(
        self,
        *,
        records: Sequence[TrialRecord],
        best: TrialRecord | None,
        files: Sequence[Path],
        summary: Mapping[str, Any],
    ) -> None:
        """Send the search's own run, with the table of trials, pictures and the best model, and what other runs lack.

        Args:
            records: All trials.
            best: The trial with the best model; None if there is none.
            files: Pictures (`.png`) become images, folders become artifacts; other files are not sent.
            summary: Numbers on the best model, such as its test score.
        """
        self._call(partial(self._mirror.end_search, records, best, tuple(files), dict(summary)))

    def _call(self, act: Callable[[], None]) -> None:
        if not self._enabled:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="wandb-mirror", daemon=True)
            self._thread.start()
        self._acts.put(act)

    def _work(self) -> None:
        # W&B's process inherits this: it would end with the terminal, before the search has sent it the last epochs.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        while True:
            try:
                act = self._acts.get(timeout=FLUSH_S)
            except queue.Empty:
                act = self._mirror.note_flushed
            if act is None:
                return
            try:
                act()
            except Exception:  # whatever it is, the search continues
                log.warning("W&B: an unexpected error; the search continues", exc_info=True)
