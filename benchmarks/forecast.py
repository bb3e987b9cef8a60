"""How good the forecast of a search's time is: at its start, after its first trial, and at half of its time.

Small searches of demo faces run one after the other, as a user runs them; their `live.json` is read meanwhile, as
`ferray report watch` reads it. Printed is for each the time it took, and the forecast at three moments, each as a ratio
to that time: 1.00 is right, 2.00 is twice too long. The first search of a kind knows no rate of this machine.

    python benchmarks/forecast.py [--searches 5] [--keep DIR]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ferray.report.watch.status import read_status
from ferray.report.watch.view import SearchView

GRID = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.01, 0.001, 0.0001, 0.00001]}
  dropout: {values: [0.0, 0.5]}
  batch_size: {values: BATCHES}
  epochs: {value: EPOCHS}
"""
HALVING = """\
method: random
run_cap: TRIALS
metric: {name: val_accuracy, goal: maximize}
early_terminate: {type: hyperband, min_iter: RUNG, eta: 3}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}
  dropout: {min: 0.0, max: 0.7}
  batch_size: {values: BATCHES}
  epochs: {value: EPOCHS}
"""


def fill(text: str, **values: object) -> str:
    """A space with its numbers."""
    for name, value in values.items():
        text = text.replace(name.upper(), str(value))
    return text


SEARCHES = (
    ("grid, 8 x 60 epochs, nothing known", fill(GRID, batches="[32]", epochs=60)),
    ("the same again", fill(GRID, batches="[32]", epochs=60)),
    ("grid, 8 x 150 epochs", fill(GRID, batches="[32]", epochs=150)),
    ("halving, 24 of at most 90 epochs", fill(HALVING, batches="[32]", epochs=90, trials=24, rung=10)),
    ("grid, 16 x 40 epochs, 2 batch sizes", fill(GRID, batches="[16, 64]", epochs=40)),
    ("the same again", fill(GRID, batches="[16, 64]", epochs=40)),
    ("halving, 40 of at most 54 epochs", fill(HALVING, batches="[16, 64]", epochs=54, trials=40, rung=6)),
    ("grid, altered pictures", fill(GRID, batches="[32]", epochs=60) + "  augmentation: {value: light}\n"
     "  augmentation_views: {value: 1}\n"),
    ("grid, 24 x 20 epochs, patience 5", fill(GRID, batches="[16, 32, 64]", epochs=20) + "  patience: {value: 5}\n"),
    ("halving, 24 of at most 90 epochs again", fill(HALVING, batches="[32]", epochs=90, trials=24, rung=10)),
)  # fmt: skip
"""Name and space of each search."""


@dataclass(frozen=True)
class Course:
    """The views of one search, in order."""

    views: Sequence[SearchView]

    @property
    def took_s(self) -> float:
        """Seconds from its plan to its end."""
        return self.views[-1].spent_s

    def at_start(self) -> str:
        """Before a trial has begun."""
        return self._ratio(next((view for view in self.views if view.phase == "starting"), None))

    def after_first(self) -> str:
        """When the first trial has ended."""
        return self._ratio(next((view for view in self.views if view.phase == "training" and view.num_ended), None))

    def at_half(self) -> str:
        """The last view before half of the time."""
        before = [view for view in self.views if view.spent_s <= self.took_s / 2]
        return self._ratio(before[-1] if before else None)

    def _ratio(self, view: SearchView | None) -> str:
        if view is None or view.left_s is None:
            return f"{'none':>6}"
        return f"{(view.spent_s + view.left_s) / self.took_s:6.2f}"


def main() -> None:
    """Search, and print a line for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=5, choices=range(1, len(SEARCHES) + 1), metavar="N")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the searches stay (default: nowhere)")
    options = parser.parse_args()
    print(f"{'search':40} {'took':>7} {'start':>6} {'first':>6} {'half':>6}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        for number, (title, space) in enumerate(SEARCHES[: options.searches]):
            course = follow(folder, f"search-{number}", space)
            ratios = f"{course.at_start()} {course.after_first()} {course.at_half()}"
            print(f"{title:40} {course.took_s:5.1f} s {ratios}", flush=True)


def follow(folder: Path, name: str, space: str) -> Course:
    """Run a search and read what it says of itself."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text(space)
    command = [
        sys.executable,
        "-m",
        "ferray.search",
        "--space",
        str(file),
        "--name",
        name,
        "--out",
        str(folder / "runs"),
    ]
    environment = os.environ | {"FERRAY_CACHE": str(folder / "cache")}
    views: list[SearchView] = []
    with (
        (folder / f"{name}.log").open("w") as log,
        subprocess.Popen([*command, "--wandb", "disabled"], env=environment, stdout=log, stderr=log) as process,
    ):
        while process.poll() is None:
            time.sleep(0.2)
            status = read_status(folder / "runs" / name)
            if status is not None and (not views or status.view.at != views[-1].at):
                views.append(status.view)
    if process.returncode or not views:
        raise SystemExit(f"{' '.join(command)} failed; see {folder}, which --keep keeps")
    last = read_status(folder / "runs" / name)
    assert last is not None, "it was there before"
    views.append(last.view)
    lines = [f"{view.spent_s:.1f} {view.phase} {view.num_ended} {view.num_epochs} {view.left_s}" for view in views]
    (folder / f"{name}.course").write_text("\n".join(lines))
    return Course(views)


if __name__ == "__main__":
    main()
