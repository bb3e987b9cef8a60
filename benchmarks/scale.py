"""What grows with the number of worker groups and of trials, simulated on one machine. Nothing is trained.

    dispatcher   calls of groups that take trials, report epochs and release them at once, in one process, without Ray
    folder       a trial's lease and records on this machine's disk
    bucket       requests of a trial and of its driver, counted by a service on loopback; their times say nothing
    resume       reading the records of a search of many trials: one by one from a folder, and from a bucket's index

    python benchmarks/scale.py [--groups 1 16 100 1000] [--trials 2000]

Needs `pip install -e '.[dev]'`, for the service. Docs: docs/scale.md.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferray.files.location import Address
from ferray.recipe import Recipe
from ferray.records.bucket.index import read_many, write_index
from ferray.records.bucket.run import BucketRun
from ferray.records.bucket.writer import BucketWriter
from ferray.records.run import Run
from ferray.records.search_file import to_search_file
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.records.writer import TrialWriter
from ferray.search.fleet.dispatcher import Dispatcher
from ferray.search.fleet.messages import GroupInfo, TrialJob, TrialUpdate

EPOCHS = 10
RECIPE = Recipe(precision="float32", image_size=64, epochs=EPOCHS)
ROWS = tuple(EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.123456789)) for epoch in range(1, EPOCHS + 1))
SEARCH = {
    "id": "0123abcd", "command": "", "openings": 1,
    "options": {"space": "grid", "data": None, "weights": "none", "set": [], "seed": 0},
    "data": {"folder": "faces", "fingerprint": "f", "size_px": 32}, "weights": {"vgg16": "w"}, "sessions": [],
    "test_readings": [],
}  # fmt: skip


def name_of(number: int) -> str:
    """A trial's id."""
    return f"{number:012x}"


def record_of(number: int, num_epochs: int = EPOCHS) -> TrialRecord:
    """A trial on record."""
    state = "done" if num_epochs == EPOCHS else "running"
    return TrialRecord(trial_id=name_of(number), number=number, recipe=RECIPE, epochs=ROWS[:num_epochs], state=state)


async def dispatch(num_groups: int, *, has_scheduler: bool) -> tuple[float, float]:
    """Microseconds of a call, and trials in a second; each group trains ten trials, one proxy more than groups."""
    dispatcher, numbers, calls = Dispatcher(has_scheduler), iter(range(10 * num_groups)), Counter[str]()

    async def proxy() -> None:
        for number in numbers:
            trial_id, epoch, state = name_of(number), 0, "running"
            await dispatcher.open_trial(TrialJob(trial_id=trial_id, number=number, recipe=RECIPE))
            while state == "running":
                update = await dispatcher.epochs_after(trial_id, epoch)
                epoch, state = epoch + len(update.rows), update.state
                calls["epochs_after"] += 1
            await dispatcher.close_trial(trial_id)
            calls["open and close"] += 2

    async def group(name: str) -> None:
        known = await dispatcher.register_group(name, GroupInfo(device="none", precision="float32"))
        while isinstance(job := await dispatcher.take_trial(known), TrialJob):
            await dispatcher.begin_trial(known, job.trial_id)
            for row in ROWS[:-1]:
                await dispatcher.report_epochs(known, job.trial_id, [row])
            await dispatcher.release_trial(known, job.trial_id, TrialUpdate(rows=ROWS[-1:], state="done"))
            calls["of groups"] += 3 + len(ROWS) - 1

    groups = [asyncio.create_task(group(f"group-{number}")) for number in range(num_groups)]
    began = time.perf_counter()
    await asyncio.gather(*(proxy() for _ in range(num_groups + 1)))
    seconds = time.perf_counter() - began
    await dispatcher.close()
    await asyncio.gather(*groups)
    return 1e6 * seconds / calls.total(), 10 * num_groups / seconds


def write_trials(writer: TrialWriter, num_trials: int) -> float:
    """Milliseconds of a trial: its lease, a record an epoch, and its end."""
    began = time.perf_counter()
    for number in range(num_trials):
        writer.take(name_of(number), (1, number))
        for epoch in range(1, EPOCHS):
            writer.write(record_of(number, epoch), note=lambda: None)
        writer.release(record_of(number), note=lambda: None)
    return 1e3 * (time.perf_counter() - began) / num_trials


@contextmanager
def service() -> Iterator[Counter[str]]:
    """S3 on loopback, found by boto3's environment; counts its requests by their method and the kind of the object."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    asked, moto = Counter[str](), DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start: Any) -> Any:
        asked[f"{environ['REQUEST_METHOD']} {(environ['PATH_INFO'].split('/') + [''] * 4)[4] or 'list'}"] += 1
        return moto(environ, start)

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import boto3

    boto3.client("s3").create_bucket(Bucket="runs")
    asked.clear()
    yield asked
    server.shutdown()


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 16, 100, 1000], metavar="N")
    parser.add_argument("--trials", type=int, default=2000, metavar="N", help="on record, for `resume`")
    options = parser.parse_args()
    print("dispatcher      groups   us a call   trials a second")
    for has_scheduler in (False, True):
        for num_groups in options.groups:
            call_us, rate = asyncio.run(dispatch(num_groups, has_scheduler=has_scheduler))
            kind = "  scheduler" if has_scheduler else "  none"
            print(f"{kind:14}{num_groups:8,}{call_us:12.0f}{rate:18,.0f}")
    with tempfile.TemporaryDirectory(prefix="ferray-scale-") as text, service() as asked:
        os.environ["FERRAY_CACHE"] = text
        folder = Path(text)
        print(f"folder: {write_trials(TrialWriter(Run(folder / 'few')), 50):.1f} ms a trial of {EPOCHS} epochs")
        address = Address("runs", "all/first")
        worker = BucketWriter(address)
        write_trials(worker, 50)
        print("bucket: requests of a trial:", {kind: count / 50 for kind, count in sorted(asked.items())})
        run = BucketRun(address, "runs")
        run.write_search(to_search_file(SEARCH, where=folder))
        asked.clear()
        for number in range(100):
            run.journal().append({"event": "end", "number": number, "trial_id": name_of(number)})
        print("bucket: requests of 100 lines of the journal:", dict(asked))
        _resume(folder, address, options.trials, asked)


def _resume(folder: Path, address: Address, num_trials: int, asked: Counter[str]) -> None:
    many = Run(folder / "many")
    for number in range(num_trials):
        many.write_trial(record_of(number))
    began = time.perf_counter()
    many.read_trials()
    print(f"resume: {1e3 * (time.perf_counter() - began) / num_trials:.2f} ms a record of a folder")
    writer, names = BucketWriter(address), [name_of(number) for number in range(num_trials)]
    for number in range(50, num_trials):
        writer.take(names[number], (1, number))
        writer.release(record_of(number), note=lambda: None)
    entries = read_many({name: address / f"records/{name}.json" for name in names}, max_bytes=2**20)
    for begin in range(0, num_trials, 200):
        write_index(address / "index", {name: entries[name] for name in names[begin : begin + 200]})
    asked.clear()
    began = time.perf_counter()
    other = BucketRun(address, "fetched")
    other.fetch()
    seconds = time.perf_counter() - began
    print(f"resume: {1e3 * seconds / num_trials:.2f} ms a record of an index; requests: {dict(asked)}")


if __name__ == "__main__":
    main()
