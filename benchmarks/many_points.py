"""What a point costs a search that trains nothing: Tune's loop, decisions, journal, dispatcher, proxies.

A search of many points is run without worker groups: an actor takes each trial, writes its record and reports its one
epoch at once. Then the journal is replayed, as `--resume` would. Printed are, by fifths of the search, milliseconds a
point, the memory of this process, the driver, and the files that it holds open; then the seconds of the replay.

    python benchmarks/many_points.py [--points 10000]
"""

# ruff: noqa: E402  Ray reads its environment when it is imported

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferray.search.fleet.cluster import connect, set_environment

set_environment(None)

import ray

from ferray import recipe as recipes
from ferray import space as spaces
from ferray.recipe import Recipe
from ferray.records.events import EventLog
from ferray.records.run import Run
from ferray.records.search_file import SearchFile
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.fleet.cluster import start_dispatcher
from ferray.search.fleet.messages import GroupInfo, TrialJob, TrialUpdate
from ferray.search.history.points import Suggestion
from ferray.search.history.recorded import History
from ferray.search.history.shared_epochs import SharedEpochs
from ferray.search.tune.decisions import Decisions
from ferray.search.tune.loop import TuneSettings, tune_until_done

ROW = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.5))


def main() -> None:
    """Search and replay, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, connect(None):
        run = Run(Path(name) / "run")
        space = spaces.read_space(write_space(Path(name) / "many.yaml"))
        dispatcher = start_dispatcher("dispatcher", has_scheduler=False)
        worker = Worker.options(num_cpus=0).remote(dispatcher, run.folder)
        serving = worker.serve.remote()
        clock = Clock(options.points)
        settings = TuneSettings(
            make_job=make_job,
            dispatcher_name="dispatcher",
            num_proxies=2,
            stop=threading.Event(),
            recorders=[
                clock,
                SharedEpochs([], has_scheduler=False),
                History(run, SearchFile.model_construct(), EventLog(run.journal()), EventLog(run.finals_journal())),
            ],
            observers=[],
        )
        tune_until_done(open_decisions(space, run, options.points), settings, scratch=Path(name) / "scratch")
        ray.get(dispatcher.close.remote())
        ray.get(serving)
        for line in clock.lines():
            print(line)
        begun = time.perf_counter()
        decisions = open_decisions(space, run, options.points)
        print(f"replay of {decisions.num_ended:,} points: {time.perf_counter() - begun:.2f} s")
        size = (run.folder / "journal.jsonl").stat().st_size
        print(f"journal: {size / options.points:.0f} bytes a point")


class Clock:
    """An observer that notes time and memory at each fifth of the search."""

    def __init__(self, points: int) -> None:
        self._ended = 0
        self._fifth = points // 5
        self._marks: list[tuple[float, float, int]] = []

    def trial_started(self, record: TrialRecord) -> None:
        """The first one starts the clock."""
        if not self._marks:
            self._mark()

    def epoch_ended(self, trial_id: str, row: EpochResult) -> None:
        """Of no interest."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Every fifth of the points is a mark."""
        self._ended += 1
        if self._ended % self._fifth == 0:
            self._mark()

    def lines(self) -> Iterator[str]:
        """What was noted, a line a fifth."""
        for fifth, (before, (now, memory, files)) in enumerate(zip(self._marks, self._marks[1:], strict=False), 1):
            cost = 1000 * (now - before[0]) / self._fifth
            held = f"driver {memory:.0f} MB, {files} open files"
            yield f"fifth {fifth} of {self._ended:,} points: {cost:.1f} ms a point, {held}"

    def _mark(self) -> None:
        status = Path("/proc/self/status").read_text().partition("VmRSS:")[2]
        self._marks.append((time.perf_counter(), int(status.split()[0]) / 1e3, len(os.listdir("/proc/self/fd"))))


@ray.remote
class Worker:
    """A worker group that has nothing to do but to write records."""

    def __init__(self, dispatcher: Any, folder: Path) -> None:
        self._dispatcher = dispatcher
        self._run = Run(folder)

    def serve(self) -> None:
        """Report one epoch of each trial, until there are no more."""
        info = GroupInfo(device="none", precision="float32")
        group = ray.get(self._dispatcher.register_group.remote("g", info))
        while (job := ray.get(self._dispatcher.take_trial.remote(group))) != "exit":
            if isinstance(job, TrialJob):
                record = TrialRecord(
                    trial_id=job.trial_id, number=job.number, recipe=job.recipe, state="done", epochs=(ROW,)
                )
                self._run.write_trial(record)
                update = TrialUpdate(rows=(ROW,), state="done")
                ray.get(self._dispatcher.release_trial.remote(group, job.trial_id, update))


def write_space(file: Path) -> Path:
    """Random learning rates without end."""
    file.write_text(
        "method: random\nmetric: {name: val_accuracy, goal: maximize}\nparameters:\n"
        "  learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}\n"
        "  epochs: {value: 1}\n"
    )
    return file


def settled(point: dict[str, Any]) -> Recipe:
    """The recipe of a point."""
    return Recipe(weights="none", precision="float32", image_size=32, epochs=1, learning_rate=point["learning_rate"])


def open_decisions(space: spaces.Space, run: Run, points: int) -> Decisions:
    """As a search opens them, with what is on record."""

    def identify(point: dict[str, Any]) -> str:
        return recipes.trial_id(settled(point), data_fingerprint="none", weights_fingerprint="none")

    return Decisions(space, EventLog(run.journal()), identify=identify, seed=0, max_points=points)


def make_job(suggestion: Suggestion) -> TrialJob:
    """A suggestion as a job for the worker."""
    return TrialJob(trial_id=suggestion.trial_id, number=suggestion.number, recipe=settled(suggestion.point))


if __name__ == "__main__":
    main()
