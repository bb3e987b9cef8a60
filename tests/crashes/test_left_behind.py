"""What a search leaves behind: its folder, and nothing else, however it ended."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.place import OTHERS, Place, make_place
from fixtures.process import processes, wait_until
from fixtures.search import Searches, finish, threads_of
from fixtures.undisturbed import NUM_TRIALS, Undisturbed

from ferray.commands.train import main as train
from ferray.data.store.reader import Store
from ferray.records.run import Run

pytestmark = pytest.mark.timeout(900)  # a search takes 25 s, and 200 on a machine that is busy

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.01, 0.001, 0.0001]}
  epochs: {value: 20}
  batch_size: {value: 16}
"""

ASHA = """\
method: random
metric: {name: val_loss, goal: minimize}
run_cap: 8
early_terminate: {type: hyperband, min_iter: 1, eta: 3}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 0.00001, max: 0.1}
  epochs: {value: 9}
  batch_size: {value: 16}
"""

ORPHANED_S = 120.0
"""How long they may take where the driver was killed and could not end them."""

KNOWN_LINES = (
    r"demo faces, drawn by code: accuracy on them means nothing for real ones\. Real data: .*",
    r"search grid: 6 points of .*grid\.yaml",
    r"42 training, 21 validation, 21 held-out test faces",
    r"\d/6: (\d more ended, and )?trial \d done \(dropout [\d.]+, learning_rate [\d.e-]+\): "
    r"val_accuracy [01]\.\d{4} in epoch \d of 3(, [\d.]+ s)?",
    r"\d/6 trials, \d+ epochs, .* spent.*",  # where the machine is so busy that nothing ended for half a minute
    r"[\w ,']+ \.\.\.( \(\d+ s so far\))?",  # what it waits for, where that takes long
    r"no worker group is ready yet: the worker groups are starting \.\.\.( \(\d+ s so far\))?",
    r"cache: .*; of the 1 view that this needs, [01] (is|are) there",
    r"time: .*",
)
"""All lines that an undisturbed search may write to a log."""

ENDED_LINE = re.compile(r"\d/6: (?:(\d) more ended, and )?trial \d done")


@pytest.fixture
def place(tmp_path: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with make_place(Searches(tmp_path, tiny_store), monkeypatch) as place:
        yield place


def test_a_search_leaves_its_folder_and_nothing_else(undisturbed: Undisturbed) -> None:
    assert undisturbed.left == ""


def test_an_undisturbed_search_logs_only_its_own_lines(undisturbed: Undisturbed) -> None:
    lines = undisturbed.err.splitlines()
    strange = [line for line in lines if not any(re.fullmatch(known, line) for known in KNOWN_LINES)]
    assert strange == [], "\n".join(strange)
    ended = [int(found[1] or 0) + 1 for line in lines if (found := ENDED_LINE.match(line))]
    assert sum(ended) == NUM_TRIALS
    assert not re.search(r"\bray\b|raylet|^wandb:", undisturbed.out, re.IGNORECASE | re.MULTILINE)


KILLED_ACTOR = """\
from ferray.search.fleet.cluster import connect, set_environment
set_environment(None)
import os, signal, threading, time
import ray
from ray._private import worker

was_called, print_original = threading.Event(), worker.print_to_stdstream

def print_and_note(*arguments, **options):
    print_original(*arguments, **options)
    was_called.set()

worker.print_to_stdstream = print_and_note  # Ray prints messages of dead workers in a thread of its own

class Actor:
    def pid(self):
        return os.getpid()
    def wait(self):
        time.sleep(1000)

with connect(None):
    actor = ray.remote(num_cpus=0)(Actor).remote()
    pid, waiting = ray.get(actor.pid.remote()), actor.wait.remote()
    os.kill(pid, signal.SIGKILL)
    print("called" if was_called.wait(60) else "not called")
"""


@pytest.mark.slow
def test_ray_prints_nothing_about_a_worker_that_dies() -> None:
    """The search itself prints a line about the trial."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_ACTOR], capture_output=True, text=True, timeout=200, check=False
    )
    own = "starting Ray ...\n"  # where that takes more than three seconds
    assert (done.stdout, done.stderr.removeprefix(own)) == ("called\n", "")


def test_no_file_of_a_search_names_the_folder_that_it_lies_in(undisturbed: Undisturbed) -> None:
    files = [path for path in undisturbed.run.folder.rglob("*") if path.is_file() and "wandb" not in path.parts]
    assert len(files) > 20
    assert [path.name for path in files if str(undisturbed.run.folder).encode() in path.read_bytes()] == []


def test_the_best_trial_trained_alone_with_as_many_threads_is_the_same_model_bit_by_bit(
    undisturbed: Undisturbed, tiny_store: Store, tmp_path: Path
) -> None:
    best, store = undisturbed.run.best_dir, tiny_store.folder
    asked = ["--recipe", str(best / "recipe.json"), "--data", str(store), "--weights", "none", "--device", "cpu"]
    with threads_of(undisturbed.run.read_trials()[0]):
        assert train([*asked, "--out", str(tmp_path / "alone")]) == 0
    for name in ("model.safetensors", "recipe.json", "classes.json", "preprocessing.json"):
        assert (tmp_path / "alone" / "best" / name).read_bytes() == (best / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "space, options, code",
    [
        (ASHA, (), 0),
        (GRID, ("--max-trials", "2"), 0),
        (GRID, ("--gpus-per-worker", "1"), 2),
    ],
    ids=["with trials that were stopped", "limited", "refused when the cluster was up"],
)
def test_however_a_search_ends_nothing_is_left(space: str, options: tuple[str, ...], code: int, place: Place) -> None:
    finish(place.searches.start(space, "some", *options), code=code)
    place.check_nothing_is_left()


def wait_for_first_trial(process: "subprocess.Popen[str]", place: Place) -> None:
    """Wait until a trial has ended; its line may come later, together with those of others."""
    journal = place.searches.folder / "runs" / "grid" / "journal.jsonl"
    wait_until(lambda: process.poll() is not None or (journal.exists() and '"event":"end"' in journal.read_text()))
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_search_leaves_only_what_a_resume_needs(number: int, place: Place) -> None:
    process = place.searches.start(GRID, "grid")
    wait_for_first_trial(process, place)
    if number == signal.SIGTERM:
        process.send_signal(number)
    else:
        os.killpg(process.pid, number)  # as a terminal does: Ray's and W&B's processes get it, too
    _, err = finish(process, code=130)
    assert "interrupted; every finished epoch is kept. Go on: " in err
    assert "Traceback" not in err
    place.check_nothing_is_left()


@pytest.mark.slow
def test_a_search_goes_on_when_nobody_reads_its_output_any_more(place: Place) -> None:
    process = place.searches.start(GRID, "grid")
    wait_for_first_trial(process, place)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=280) == 0
    run = Run(place.searches.folder / "runs" / "grid")
    assert [record.state for record in run.read_trials()] == ["done"] * 3
    assert (run.best_dir / "metrics.json").exists()
    place.check_nothing_is_left()


@pytest.mark.slow
def test_after_the_driver_was_killed_its_processes_end_by_themselves_and_the_folder_can_be_moved(
    place: Place,
) -> None:
    process = place.searches.start(GRID, "grid")
    wait_for_first_trial(process, place)
    os.kill(process.pid, signal.SIGKILL)  # the driver alone: nothing ends its children
    began = time.monotonic()
    wait_until(lambda: not processes(place.mark), within_s=ORPHANED_S)
    print(f"the last process ended {time.monotonic() - began:.0f} s after the driver")
    process.communicate()
    for left in set(os.listdir(place.temporary)) - OTHERS:  # which the killed driver could not remove
        assert re.fullmatch(r"ferray-\w+|tmp\w+wandb-(artifacts|media)", left)
        shutil.rmtree(place.temporary / left)
    runs = place.searches.folder / "runs"
    (runs / "grid").rename(runs / "moved")
    place.searches.resume("moved")
    place.check_nothing_is_left()
    assert [record.state for record in Run(runs / "moved").read_trials()] == ["done"] * 3
