"""How many steps of the whole model does ferray make, next to a tuned script, on a machine whose speed drifts?

Both train the same point on the same faces; they take turns of some seconds, and all processes of the other one are
stopped meanwhile. Two seconds of a turn are not counted: Ray then makes good what it has missed. At an epoch's end
ferray writes a checkpoint and the script none; 9,000 faces are 282 steps, more than fifteen turns at 50 faces/s.

    python benchmarks/free_trunk.py --data data/fer2013 --weights FILE [--turns 15] [--seconds 7]

Printed: faces a second of both, their ratio with an interval (95 %, turns drawn again), and the pages a step that the
kernel had to give to each.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ladder_rungs.measure import usable_cpus
from ladder_rungs.prepare import SEED, VIEWS, prepare
from ladder_rungs.training import Job, write_job

from ferray.data.demo.photographs import demo_store
from ferray.files.storage import cache_dir

BENCHMARKS = Path(__file__).resolve().parent
MARK = "FREE_TRUNK"
BATCH = 32
EPOCHS = 1000
"""More than are reached. An epoch of few faces, as of the demo's, makes ferray write checkpoints in its turns."""
CATCHING_UP_S = 2.0
FIRST_STEPS = 4
"""Before they are counted: libraries and memory are set up in them."""


@dataclass
class Runner:
    """A command whose steps are counted, and all its processes."""

    name: str
    folder: Path
    command: list[str]
    turns: list[tuple[int, float]] = field(default_factory=list)
    """Steps and seconds."""
    pids: list[int] = field(default_factory=list)
    """Of all its processes, as of its last turn."""

    def start(self) -> None:
        """Let it come to its first steps, then stop it."""
        path = [BENCHMARKS / "ladder_rungs" / "steps", BENCHMARKS, BENCHMARKS.parent]
        variables = {MARK: self.name, "STEPS": str(self.folder / self.name), "RAY_USAGE_STATS_ENABLED": "0"}
        variables |= {"PYTHONPATH": os.pathsep.join(map(str, path)), "FERRAY_CACHE": str(self.folder / "cache")}
        with (self.folder / f"{self.name}.log").open("w") as log:
            self.process = subprocess.Popen(
                self.command, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
            )
        while self.steps < FIRST_STEPS:
            if self.process.poll() is not None:
                raise SystemExit((self.folder / f"{self.name}.log").read_text())
            time.sleep(0.1)
        self._find_processes()
        self.signal(signal.SIGSTOP)
        self._pages, self._first = self._count_pages(), self.steps

    @property
    def steps(self) -> int:
        """That were made so far."""
        file = self.folder / self.name
        return file.stat().st_size if file.exists() else 0

    def take_turn(self, seconds: float) -> None:
        """Run for some seconds, and stop."""
        self.signal(signal.SIGCONT)
        time.sleep(CATCHING_UP_S)
        self._find_processes()
        steps, began = self.steps, time.perf_counter()
        time.sleep(seconds)
        self.turns.append((self.steps - steps, time.perf_counter() - began))
        self.signal(signal.SIGSTOP)

    def end(self) -> None:
        """Let it leave, so that nothing of it is left behind."""
        if hasattr(self, "process"):
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(timeout=120)

    def signal(self, number: int) -> None:
        """To all its processes."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def rate(self, turns: list[int]) -> float:
        """Faces a second in some of the turns."""
        chosen = [self.turns[turn] for turn in turns]
        return BATCH * sum(steps for steps, _ in chosen) / sum(seconds for _, seconds in chosen)

    def pages_a_step(self) -> float:
        """That the kernel has given since the first steps."""
        return (self._count_pages() - self._pages) / max(1, self.steps - self._first)

    def _find_processes(self) -> None:
        self.pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if self._is_own(entry)]

    def _is_own(self, entry: Path) -> bool:
        try:
            return f"{MARK}={self.name}\0".encode() in (entry / "environ").read_bytes()
        except OSError:
            return False

    def _count_pages(self) -> int:
        count = 0
        for pid in self.pids:
            with suppress(OSError):
                count += int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])
        return count


def main() -> int:
    """Let both take turns, and print what they came to."""
    parser = argparse.ArgumentParser(description="Steps of the whole model, by turns with a script")
    parser.add_argument("--data", type=Path, metavar="DIR", help="store of faces (default: demo faces)")
    parser.add_argument("--weights", default="none", metavar="FILE", help="of the trunk (default: none)")
    parser.add_argument("--faces", type=int, default=9000, help="training faces at most (default: 9000)")
    parser.add_argument("--turns", type=int, default=15, help="of each (default: 15)")
    parser.add_argument("--seconds", type=float, default=7, help="of a turn, beside the first two (default: 7)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turns-", ignore_cleanup_errors=True) as name:
        runners = make_runners(Path(name).resolve(), options)
        try:
            for runner in runners:
                runner.start()
            for turn in range(options.turns):
                for runner in runners if turn % 2 else runners[::-1]:
                    runner.take_turn(options.seconds)
            report(*runners)
        finally:
            for runner in runners:
                runner.end()
    return 0


def make_runners(folder: Path, options: argparse.Namespace) -> list[Runner]:
    """Both, with one point."""
    data = options.data or demo_store(cache_dir())
    work = prepare(
        folder,
        data=data,
        weights=options.weights,
        mode="full",
        num_train=options.faces,
        num_validation=BATCH,
        num_points=1,
        epochs=EPOCHS,
    )
    assert work.points[0]["batch_size"] == BATCH
    job = Job(
        store=str(work.store),
        pictures=str(work.pictures),
        trunk=str(work.trunk),
        results=str(folder / "results.jsonl"),
        scratch=str(folder / "scratch"),
        freeze=work.freeze,
        precision=work.precision,
        epochs=EPOCHS,
        views=VIEWS,
        seed=SEED,
        cpus=usable_cpus(),
        lanes=1,
        points=work.points,
    )
    write_job(job, folder / "job.json")
    search = ["ferray.search", "--space", str(work.space), "--data", str(work.store), "--weights", str(work.trunk)]
    search += ["--max-trials", "1", "--wandb", "offline", "--seed", str(SEED), "--out", str(folder / "runs")]
    script = ["ladder_rungs.tuned", str(folder / "job.json"), "0"]
    return [
        Runner("ferray", folder, [sys.executable, "-m", *search]),
        Runner("script", folder, [sys.executable, "-m", *script]),
    ]


def report(ferray: Runner, script: Runner) -> None:
    """Rates, ratio and pages."""
    turns = list(range(len(ferray.turns)))
    draw = random.Random(0)
    drawn = [[draw.choice(turns) for _ in turns] for _ in range(2000)]
    ratios = sorted(ferray.rate(some) / script.rate(some) for some in drawn)
    for runner in (ferray, script):
        print(f"{runner.name}: {runner.rate(turns):.1f} faces/s, {runner.pages_a_step():,.0f} pages a step")
    ratio = ferray.rate(turns) / script.rate(turns)
    print(f"ferray / script: {ratio:.3f} [{ratios[50]:.3f}, {ratios[1949]:.3f}], {len(turns)} turns of each")


if __name__ == "__main__":
    sys.exit(main())
