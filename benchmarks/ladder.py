"""A ladder of ways to do the same search on the same work, measured in one call.

Every way trains the same points (learning rate, batch size, dropout, augmentation) of a head on a VGG16 trunk, on the
same faces with the same pictures, from a tutorial's script to ferray; see RUNGS. Each runs in processes of its own, one
way after the other. A way that would take too long is given the first points only, and its time for all is
extrapolated and marked `~`.

    python benchmarks/ladder.py [--data DIR] [--weights FILE] [--mode frozen] [--points 1,2,4,8] [--rungs 2,6,7]

Overhead is the share of the makespan in which nothing trains: 1 - seconds of training and validation of the points /
(makespan x points at once); a cache that is filled counts as training, and so do ferray's checkpoints. The last column
compares best validation accuracies with rung 6, point by point: mean difference and its standard error.

Begin at `main`; the ways themselves are `benchmarks/ladder_rungs/`.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ladder_rungs.measure import Usage, run_measured, usable_cpus
from ladder_rungs.prepare import MODES, SEED, VIEWS, Work, prepare
from ladder_rungs.training import Job, write_job

from ferray.data.demo.photographs import demo_store
from ferray.files.storage import cache_dir
from ferray.train.settle import device_name

Commands = list[list[str]]
BASE = "6"
"""The rung whose accuracies the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A way to search."""

    name: str
    title: str
    module: str = ""
    """Of `ladder_rungs`; empty for ferray."""
    process_a_point: bool = False
    slow: bool = False
    """Whether the trunk runs in every epoch, so that few points are enough to know it."""
    lanes: Callable[[int], int] = lambda cpus: 1
    """Points at once on so many cores."""
    ray: bool = False
    variables: tuple[tuple[str, str], ...] = ()


FAST_POLL = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.05")
RUNGS = (
    Rung(name="1", title="naive script, a process a point", module="naive", process_a_point=True, slow=True),
    Rung(name="2", title="tuned script, a process a point", module="tuned", process_a_point=True, slow=True),
    Rung(
        name="3",
        title="Tune, a TorchTrainer.fit a trial",
        module="ray_train",
        slow=True,
        lanes=lambda cpus: max(1, cpus // 2),  # a CPU drives, a CPU trains
        ray=True,
    ),
    Rung(
        name="3b",
        title="the same, polled each 0.05 s",
        module="ray_train",
        slow=True,
        lanes=lambda cpus: max(1, cpus // 2),
        ray=True,
        variables=(FAST_POLL,),
    ),
    Rung(name="4", title="Tune alone, reuse_actors", module="ray_tune", slow=True, lanes=lambda cpus: cpus, ray=True),
    Rung(name="5", title="Optuna alone", module="optuna_alone", slow=True),
    Rung(name="6", title="script with cached features", module="cached"),
    Rung(name="7", title="ferray, cold cache"),
    Rung(name="7w", title="ferray, warm cache"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a rung came to; times in seconds."""

    rung: Rung
    num_points: int
    """That were asked for."""
    usage: Usage
    lanes: int
    results: tuple[dict[str, Any], ...]
    """A line a point that was run: its number, begun, ended, trained_s, accuracies."""

    @property
    def makespan_s(self) -> float:
        """For all points; extrapolated by what each further point takes, where not all were run."""
        ends = sorted(result["ended"] for result in self.results)
        missing = self.num_points - len(ends)
        if not missing:
            return self.usage.seconds
        if self.rung.process_a_point:  # all alike, their start-up included
            return self.usage.seconds * self.num_points / len(ends)
        lanes = min(self.lanes, len(ends))
        if len(ends) > lanes:
            each = (ends[-1] - ends[lanes - 1]) / (len(ends) - lanes)
        else:  # the one wave there was, its own start-up included
            each = (ends[-1] - min(result["begun"] for result in self.results)) / lanes
        return self.usage.seconds + missing * each

    @property
    def overhead(self) -> float:
        """Share of the measured makespan, of all lanes, in which nothing trained."""
        trained_s = sum(result["trained_s"] for result in self.results)
        return 1 - trained_s / (self.usage.seconds * min(self.lanes, len(self.results)))

    def best(self) -> dict[int, float]:
        """Best validation accuracy by the point's number."""
        return {result["point"]: max(result["accuracies"]) for result in self.results}


def main() -> int:
    """Measure and print a table for each number of points."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left behind
    chosen = [rung for rung in RUNGS if rung.name in options.rungs]
    with tempfile.TemporaryDirectory(prefix="ladder-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        work = prepare(
            folder,
            data=options.data or demo_store(cache_dir()),
            weights=options.weights,
            mode=options.mode,
            num_train=options.faces,
            num_validation=options.validation_faces,
            num_points=max(options.points),
            epochs=options.epochs,
        )
        say(f"{work.num_train} training and {work.num_validation} validation faces; convolutions in {work.precision}")
        tables: dict[int, list[Row | Rung]] = {}
        known: dict[tuple[str, int], Row | Rung] = {}
        for num_points in options.points:
            tables[num_points] = [climb(rung, num_points, options, work, folder, known) for rung in chosen]
            print_table(tables[num_points], num_points, options, work)
    if options.json is not None:
        options.json.write_text(json.dumps(raw(tables, options, work), indent=1) + "\n")
    return 1 if any(isinstance(row, Rung) for rows in tables.values() for row in rows) else 0


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="store of faces made by ferray.data (default: demo faces)")
    add("--weights", default="none", metavar="FILE", help="of the trunk: a file, 'imagenet' or 'none' (default)")
    add("--mode", choices=MODES, default="frozen", help="what is trained on which pictures (default: frozen)")
    add("--rungs", default=",".join(rung.name for rung in RUNGS), help="some of the ways; 7 is 7 and 7w (default: all)")
    add("--points", default="8", help="points of the search; 1,2,4,8 measures a curve (default: 8)")
    add("--slow-points", type=int, default=2, help="points that rungs 1 to 5 are given at most (default: 2)")
    add("--epochs", type=int, default=3, help="epochs of a point (default: 3)")
    add("--faces", type=int, default=256, help="training faces (default: 256)")
    add("--validation-faces", type=int, default=128, help="validation faces (default: 128)")
    add("--limit", type=float, default=900, help="seconds after which a rung is given up (default: 900)")
    add("--json", type=Path, metavar="FILE", help="keep the raw figures")
    options = parser.parse_args()
    options.points = sorted({int(word) for word in options.points.split(",")})
    options.rungs = {name for word in options.rungs.split(",") for name in ([word, "7w"] if word == "7" else [word])}
    unknown = options.rungs - {rung.name for rung in RUNGS}
    if unknown or options.points[0] < 1 or options.slow_points < 1:
        parser.error(f"unknown rungs {sorted(unknown)}" if unknown else "points start at 1")
    return options


def climb(
    rung: Rung,
    num_points: int,
    options: argparse.Namespace,
    work: Work,
    folder: Path,
    known: dict[tuple[str, int], Row | Rung],
) -> Row | Rung:
    """A rung's row, the rung itself if it failed; a slow one is not measured again for more points than it is given."""
    lanes = torch.cuda.device_count() if torch.cuda.is_available() else usable_cpus()
    lanes = rung.lanes(lanes) if not torch.cuda.is_available() or rung.ray else 1
    run_points = min(num_points, max(options.slow_points, lanes)) if rung.slow else num_points
    if (rung.name, run_points) not in known:
        say(f"rung {rung.name}, {rung.title}: {run_points} points")
        place = folder / f"rung-{rung.name}-{run_points}"
        place.mkdir()
        measure = measure_rung if rung.module else measure_ferray
        known[rung.name, run_points] = measure(rung, run_points, lanes, options, work, place)
    row = known[rung.name, run_points]
    return replace(row, num_points=num_points) if isinstance(row, Row) else row


def measure_rung(
    rung: Rung, run_points: int, lanes: int, options: argparse.Namespace, work: Work, place: Path
) -> Row | Rung:
    """Run a script of `ladder_rungs`."""
    results, job_file = place / "results.jsonl", place / "job.json"
    job = Job(
        store=str(work.store),
        pictures=str(work.pictures),
        trunk=str(work.trunk),
        results=str(results),
        scratch=str(place / "scratch"),
        freeze=work.freeze,
        precision=work.precision,
        epochs=options.epochs,
        views=VIEWS,
        seed=SEED,
        cpus=usable_cpus(),
        lanes=lanes,
        points=work.points[:run_points],
    )
    write_job(job, job_file)
    command = [sys.executable, "-m", f"ladder_rungs.{rung.module}", str(job_file)]
    commands = [[*command, str(number)] for number in range(run_points)] if rung.process_a_point else [command]
    usage = run(rung, commands, {}, options, place)
    lines = results.read_text().splitlines() if results.exists() else []
    rows = tuple(json.loads(line) for line in lines)
    return judge(Row(rung=rung, num_points=run_points, usage=usage, lanes=lanes, results=rows), run_points, place)


def measure_ferray(
    rung: Rung, run_points: int, lanes: int, options: argparse.Namespace, work: Work, place: Path
) -> Row | Rung:
    """Run `python -m ferray.search`; the warm rung follows the cold one and finds its cache."""
    cache = place.parent / "ferray-cache"
    if rung.name == "7":
        shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, "-m", "ferray.search", "--space", str(work.space), "--data", str(work.store)]
    command += ["--weights", str(work.trunk), "--max-trials", str(run_points), "--wandb", "offline"]
    command += ["--seed", str(SEED), "--out", str(place / "runs"), "--name", "ladder"]
    usage = run(rung, [command], {"FERRAY_CACHE": str(cache)}, options, place)
    found = place / "runs" / "ladder"
    rows = []
    for file in found.glob("trials/*/record.json"):
        record = json.loads(file.read_text())
        point = {name: record["recipe"][name] for name in work.points[0]}
        epochs = record["epochs"]
        if len(epochs) == options.epochs:
            trained_s, accuracies = sum(row["seconds"] for row in epochs), [row["val_accuracy"] for row in epochs]
            ended = file.stat().st_mtime
            number = work.points.index(point)
            rows.append({"point": number, "begun": ended, "ended": ended, "trained_s": trained_s})
            rows[-1]["accuracies"] = accuracies
    if rows:
        lanes = json.loads((found / "search.json").read_text())["sessions"][-1]["groups"]["num_groups"]
    return judge(
        Row(rung=rung, num_points=run_points, usage=usage, lanes=lanes, results=tuple(rows)), run_points, place
    )


def run(rung: Rung, commands: Commands, variables: dict[str, str], options: argparse.Namespace, place: Path) -> Usage:
    """Run a rung's commands in an environment that is the same for all but for what the rung is about."""
    here = Path(__file__).resolve().parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FERRAY_"))}
    environment |= {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)]), "NO_ALBUMENTATIONS_UPDATE": "1"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", **variables, **dict(rung.variables)}
    if rung.ray:  # loopback only, and a token that no file keeps, as ferray starts its own
        environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return run_measured(commands, environment=environment, folder=place, log=place / "log.txt", limit_s=options.limit)


def judge(row: Row, run_points: int, place: Path) -> Row | Rung:
    """The row, or its rung alone if a point is missing; the end of its log says why."""
    if row.usage.returncode == 0 and len(row.results) == run_points:
        say(f"  {row.usage.seconds:.1f} s")
        return row
    say(f"  failed with {row.usage.returncode}, {len(row.results)} of {run_points} points; the end of its log:")
    say("\n".join((place / "log.txt").read_text(errors="replace").splitlines()[-20:]))
    return row.rung


def print_table(rows: Sequence[Row | Rung], num_points: int, options: argparse.Namespace, work: Work) -> None:
    """A line a rung."""
    base = next((row for row in rows if isinstance(row, Row) and row.rung.name == BASE), None)
    print(
        f"\n{options.mode}: {num_points} points x {options.epochs} epochs x {work.num_train} faces,"
        f" {work.num_validation} to validate; {describe_device()}, {work.precision}"
    )
    print(
        f"{'rung':36} {'points':>6} {'makespan s':>10} {'for all s':>9} {'images/s':>8} {'CPU s':>7} {'peak MB':>7}"
        f" {'overhead':>8}  against rung {BASE}"
    )
    for row in rows:
        if isinstance(row, Rung):
            print(f"{row.name:3} {row.title:32} not measured")
            continue
        trained, usage = len(row.results), row.usage
        rate = trained * options.epochs * work.num_train / usage.seconds
        mark = " " if trained == num_points else "~"
        peak = "-" if usage.peak_bytes is None else f"{usage.peak_bytes / 1e6:.0f}"
        print(
            f"{row.rung.name:3} {row.rung.title:32} {trained:>6} {usage.seconds:>10.1f} {mark}{row.makespan_s:>8.1f}"
            f" {rate:>8.1f} {usage.cpu_s:>7.1f} {peak:>7} {row.overhead:>8.0%}  {difference(row, base)}"
        )


def difference(row: Row, base: Row | None) -> str:
    """Mean paired difference in best validation accuracy, with its standard error where there are two or more."""
    if base is None:
        return "not measured"
    mine, theirs = row.best(), base.best()
    gaps = [mine[point] - theirs[point] for point in mine if point in theirs]
    mean = f"{statistics.fmean(gaps):+.4f}"
    return f"{mean} +- {statistics.stdev(gaps) / len(gaps) ** 0.5:.4f} (n={len(gaps)})" if len(gaps) > 1 else mean


def raw(tables: dict[int, list[Row | Rung]], options: argparse.Namespace, work: Work) -> dict[str, Any]:
    """All that was measured, for the file."""
    packages = ("ferray", "ray", "torch", "torchvision", "optuna", "albumentations")
    rows = []
    for num_points, table in tables.items():
        for row in table:
            name = row.name if isinstance(row, Rung) else row.rung.name
            values: dict[str, Any] = {"rung": name, "num_points": num_points, "measured": isinstance(row, Row)}
            if isinstance(row, Row):
                values |= {"lanes": row.lanes, "usage": asdict(row.usage), "results": row.results}
                values |= {"makespan_for_all_s": row.makespan_s, "overhead": row.overhead}
            rows.append(values)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": describe_device(),
        "cpus": usable_cpus(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "mode": options.mode,
        "epochs": options.epochs,
        "faces": work.num_train,
        "validation_faces": work.num_validation,
        "precision": work.precision,
        "points": work.points,
        "rows": rows,
    }


def describe_device() -> str:
    """The accelerator, or the processor and the cores that may be used."""
    if torch.cuda.is_available():
        return device_name(torch.device("cuda"))
    return f"{usable_cpus()} cores, {device_name(torch.device('cpu'))}"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
