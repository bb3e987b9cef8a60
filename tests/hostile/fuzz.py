"""`make fuzz`: a million hostile files and more, in two processes, and what they broke.

    PYTHONPATH=tests:. python tests/hostile/fuzz.py                          # every parser, its share of the cases
    PYTHONPATH=tests:. python tests/hostile/fuzz.py --only space --cases 5000 --seed 7

A parser ends early after `MOST_FOUND` faults of different kinds; each is printed with its smallest file.
"""

import argparse
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from hostile.cases import BrokenPromiseError, Parser
from hostile.parsers import CASES, make_parser

MOST_FOUND = 20
"""Kinds of faults of a parser after which it is left."""
MOST_EDITS = 6
TELL_EVERY_S = 60.0


def main() -> int:
    arguments = _parse()
    names = arguments.only.split(",") if arguments.only else list(CASES)
    counts = {name: arguments.cases or int(CASES[name] * arguments.scale) for name in names}
    total, num_found = 0, 0
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        jobs = {name: pool.submit(fuzz, name, count, arguments.seed) for name, count in counts.items()}
        for name, job in jobs.items():
            done, accepted, found, slowest_s, seconds = job.result()
            total, num_found = total + done, num_found + len(found)
            share = 100 * accepted / max(done, 1)
            print(
                f"{name:14} {done:>9,} cases  {share:5.1f} % accepted  slowest {slowest_s:6.3f} s  {seconds:6.0f} s"
                f"  {len(found)} found",
                flush=True,
            )
            for what, data in found.items():
                print(f"  {what}\n    smallest: {len(data):,} bytes {data[:300]!r}", flush=True)
    print(f"{total:,} cases, {num_found} found")
    return 1 if num_found else 0


def fuzz(name: str, count: int, seed: int) -> tuple[int, int, dict[str, bytes], float, float]:
    """Run one parser.

    Returns:
        Cases, how many were accepted, the smallest file of each kind of fault, the slowest case and the time of all.
    """
    found: dict[str, bytes] = {}
    accepted, slowest_s, done = 0, 0.0, 0
    begin = told = time.perf_counter()
    logging.disable()  # warnings about each broken file
    told_to = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders in C write to it of each
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        parser = make_parser(name, Path(folder))
        for seed_file in parser.seeds:
            assert parser.one_case(seed_file), f"{name}: a valid file is refused"
        for done in range(1, count + 1):
            data = draw(parser, random.Random(f"{seed}/{name}/{done}"))
            started = time.perf_counter()
            try:
                accepted += parser.one_case(data)
            except BrokenPromiseError as error:
                kind = _kind(error)
                found[kind] = min(found.get(kind, data), data, key=len)
                if len(found) >= MOST_FOUND:
                    break
            now = time.perf_counter()
            slowest_s = max(slowest_s, now - started)
            if now - told > TELL_EVERY_S:
                told = now
                print(f"  {name}: {done:,} of {count:,}, {len(found)} found", file=told_to)
    return done, accepted, found, slowest_s, time.perf_counter() - begin


def draw(parser: Parser, random: random.Random) -> bytes:
    """One file: nearly always a valid one with edits, now and then bytes of no form at all."""
    if random.random() < 0.02:
        return random.randbytes(int(random.random() ** 2 * 2000))
    num = 1 + int(random.random() ** 2 * MOST_EDITS)
    edits = [(random.random(), random.random(), random.random()) for _ in range(num)]
    return parser.file_of(random.random(), edits)


def _kind(error: BaseException) -> str:
    """A fault by its text without its values, and the last line of ferray's that it came from."""
    cause = error.__cause__ or error
    lines = [frame for frame in traceback.extract_tb(cause.__traceback__) if "/ferray/" in frame.filename]
    where = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}" if lines else ""
    return (
        f"{type(cause).__name__} at {where}: {str(error)[:160]}" if not lines else f"{type(cause).__name__} at {where}"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parsers, with commas between them")
    parser.add_argument("--cases", type=int, help="of each parser (default: its share of a million)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the shares (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
