"""What does ferray make of one GPU? In ten minutes, the largest question first, each answer written down at once.

    python benchmarks/gpu.py --out gpu.jsonl                            # on a GPU
    python benchmarks/gpu.py --device cpu --tiny --out tiny.jsonl       # tries the script; its figures mean nothing

1. Do the tests that need a GPU pass? (`pytest -m gpu`, those that take seconds)
2. What are the device's own peaks: products of matrices, convolutions, copies within it and to it?
3. How many faces of 224 pixels a second does the whole VGG16 train on, which part of the peak is that, and which share
   of the time does the GPU wait for its input? The same run with inputs that lie on the device tells the last one.
4. How many faces a second does the frozen trunk turn into features?
5. How long do heads on cached features take one after the other, and in four processes that share the GPU?
6. What happens where the memory ends, and does the next run train?
7. Do whole searches run, with a GPU, with a quarter of one and without one? (the slow tests of `pytest -m gpu`)

The faces are random. A line of the output is one answer, in JSON. A question that fails is a line with the error, and
one for which too little time is left is a line that says so.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ferray.errors import FerrayError, TrainError
from ferray.model.backbones import BACKBONES
from ferray.model.weights import Weights, first_tensors, load_weights
from ferray.recipe import Recipe
from ferray.records.trial import EpochResult
from ferray.train.device import check_device
from ferray.train.environment import Environment
from ferray.train.fit import fit
from ferray.train.settle import device_name

REPOSITORY = Path(__file__).resolve().parent.parent
CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    size_px: int
    faces: int
    batch_sizes: tuple[int, ...]
    matrix: int
    """Side of the matrices of the peak."""
    heads: int
    head_epochs: int


FULL = Sizes(size_px=224, faces=2048, batch_sizes=(128, 32, 256), matrix=8192, heads=8, head_epochs=10)
TINY = Sizes(size_px=32, faces=64, batch_sizes=(16,), matrix=128, heads=4, head_epochs=1)


class RandomFaces:
    """What training needs of a store, in memory."""

    def __init__(self, num_train: int, num_validation: int, size_px: int) -> None:
        num_faces = num_train + num_validation
        self.folder, self.class_names, self.size_px = Path("random-faces"), CLASSES, size_px
        self.fingerprint = f"random, {num_train}, {num_validation}, {size_px}"
        self.manifest = SimpleNamespace(margin=0.0)
        self.labels: NDArray[np.int64] = np.arange(num_faces) % len(CLASSES)
        shape = (num_faces, size_px, size_px, 3)
        self.faces = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self._rows = {"train": slice(0, num_train), "validation": slice(num_train, num_faces)}

    def rows(self, split: str) -> slice:
        """The rows of a split."""
        return self._rows[split]

    def groups(self, split: str) -> NDArray[np.int64]:
        """Each face is a photograph."""
        return np.arange(len(self.labels))[self.rows(split)]


class InputsOnTheDevice:
    """The inputs of each batch are the same tensor, which is there already."""

    def __init__(self, inputs_BDHW: Tensor) -> None:
        self._inputs_BDHW = inputs_BDHW

    def open_epoch(self, epoch: int, raise_if_interrupted: Callable[[], None] = lambda: None) -> None:
        """Nothing."""

    def is_ready(self, epoch: int) -> bool:
        """Always."""
        return True

    def train(self, batches: Sequence[NDArray[np.int64]]) -> Generator[Tensor, None, None]:
        """The tensor, cut to the rows."""
        for rows in batches:
            yield self._inputs_BDHW[: len(rows)]

    validation = train


@dataclass(frozen=True)
class Bench:
    """The device and the sizes."""

    device: torch.device
    sizes: Sizes
    deadline: float

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.deadline - time.monotonic()

    def recipe(self, **settings: Any) -> Recipe:
        """The whole trunk free, two epochs; of these the second one counts."""
        usual = {"freeze": "none", "image_size": self.sizes.size_px, "epochs": 2}
        return Recipe(**(usual | {"precision": "bfloat16", "batch_size": self.sizes.batch_sizes[0]} | settings))

    def train(self, recipe: Recipe, store: RandomFaces, *, cache: Path | None = None) -> list[EpochResult]:
        """All epochs of a run."""
        environment = Environment(device=str(self.device), cache=cache)
        return list(fit(recipe, store, random_weights(), environment=environment))  # type: ignore[arg-type]

    def time(self, act: Callable[[], object], *, repeats: int = 10) -> float:
        """Shortest time in seconds."""
        shortest = float("inf")
        for _ in range(repeats):
            self.wait()
            started = time.perf_counter()
            act()
            self.wait()
            shortest = min(shortest, time.perf_counter() - started)
        return shortest

    def wait(self) -> None:
        """Until the device has nothing to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@cache
def random_weights() -> Weights:
    """Random ones in the place of pretrained ones, since speed does not depend on them."""
    none = load_weights("none", "vgg16")
    return dataclasses.replace(none, name="random", fingerprint="random", tensors=first_tensors(none, seed=0))


def describe(bench: Bench) -> Answer:
    """The machine."""
    answer: Answer = {"device": device_name(bench.device), "cpus": len(os.sched_getaffinity(0))}
    if bench.device.type == "cuda":
        answer |= {
            "capability": torch.cuda.get_device_capability(bench.device),
            "memory_gb": round(torch.cuda.mem_get_info(bench.device)[1] / 1e9, 1),
            "cuda": torch.version.cuda,
        }
    return answer


def run_quick_tests(bench: Bench) -> Answer:
    """The tests that need a GPU and take seconds."""
    return _run_tests(bench, "gpu and not slow", limit_s=240)


def run_slow_tests(bench: Bench) -> Answer:
    """Whole searches."""
    return _run_tests(bench, "gpu and slow", limit_s=600)


def _run_tests(bench: Bench, marks: str, *, limit_s: float) -> Answer:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, "tests/devices/test_gpu.py"]
    with tempfile.TemporaryFile("w+") as output:
        try:
            limit_s = min(limit_s, bench.left_s)
            code = subprocess.run(command, cwd=REPOSITORY, stdout=output, stderr=output, timeout=limit_s).returncode
        except subprocess.TimeoutExpired:
            code = -1
        output.seek(0)
        lines = output.read().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"exit_code": code, "summary": lines[-1] if lines else "", "failed": failed, "cut_off": code == -1}


def measure_peaks(bench: Bench) -> Answer:
    """The device's own limits, in TFLOP/s and GB/s."""
    side, device = bench.sizes.matrix, bench.device
    answer: Answer = {}
    for dtype in (torch.bfloat16, torch.float32):
        matrix = torch.randn(side, side, device=device).to(dtype)
        seconds = bench.time(lambda matrix=matrix: matrix @ matrix)  # type: ignore[misc]
        answer[f"matrix_tflops_{str(dtype).removeprefix('torch.')}"] = 2 * side**3 / seconds / 1e12
    channels, faces = 256, 64
    convolution = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=torch.bfloat16)
    convolution = convolution.to(memory_format=torch.channels_last)
    place = bench.sizes.size_px // 4
    features = torch.randn(faces, channels, place, place, device=device, dtype=torch.bfloat16)
    features = features.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = bench.time(lambda: convolution(features))
    answer["convolution_tflops_bfloat16"] = 2 * 9 * faces * (channels * place) ** 2 / seconds / 1e12
    block = torch.empty(side * side * 4, dtype=torch.uint8, device=device)
    answer["copy_gb_per_s"] = 2 * block.numel() / bench.time(block.clone) / 1e9  # read and written
    if device.type == "cuda":
        pinned = torch.empty(block.numel(), dtype=torch.uint8, pin_memory=True)
        answer["upload_gb_per_s"] = pinned.numel() / bench.time(lambda: block.copy_(pinned, non_blocking=True)) / 1e9
    return answer


def train_the_whole_trunk(bench: Bench) -> Generator[Answer, None, None]:
    """Faces a second, one answer for each setting."""
    store = RandomFaces(bench.sizes.faces, 32, bench.sizes.size_px)
    settings: list[dict[str, Any]] = [{"batch_size": size} for size in bench.sizes.batch_sizes]
    settings += [{"augmentation": "standard"}, {"precision": "float32"}, {"freeze": "blocks1-4"}]
    for chosen in settings:
        recipe = bench.recipe(**chosen)
        yield chosen | {"batch_size": recipe.batch_size} | _train_twice(bench, recipe, store)


def _train_twice(bench: Bench, recipe: Recipe, store: RandomFaces) -> Answer:
    """With its own inputs, and with inputs that lie on the device."""
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(bench.device)
    rate = bench.train(recipe, store)[-1].images_per_s
    answer: Answer = {"faces_per_s": rate}
    if bench.device.type == "cuda":
        answer["peak_memory_gb"] = torch.cuda.max_memory_allocated(bench.device) / 1e9
    if recipe.freeze == "none":
        size = recipe.image_size
        inputs = torch.randn(max(recipe.batch_size, 32), 3, size, size, device=bench.device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        ready = InputsOnTheDevice(inputs.bfloat16() if recipe.precision == "bfloat16" else inputs)
        with mock.patch("ferray.train.run.open_inputs", return_value=ready):
            alone = bench.train(recipe, store)[-1].images_per_s
        answer |= {"faces_per_s_without_input": alone, "waiting_share": max(0.0, 1 - rate / alone)}
        # A backward pass is two products for each one of the forward pass.
        answer["tflops"] = 3 * forward_flops(recipe) * rate / 1e12
    return answer


def forward_flops(recipe: Recipe) -> int:
    """Operations of the trunk for one face."""
    with torch.device("meta"):
        layers = BACKBONES[recipe.backbone].build_layers()
        face = torch.empty(1, 3, recipe.image_size, recipe.image_size)
    with FlopCounterMode(display=False) as counter:
        layers(face)
    return int(counter.get_total_flops())


def compute_features(bench: Bench) -> Answer:
    """A view of the training faces, computed once and not kept."""
    store = RandomFaces(bench.sizes.faces, 32, bench.sizes.size_px)
    recipe = bench.recipe(freeze="trunk", epochs=1)
    bench.train(recipe, RandomFaces(32, 32, bench.sizes.size_px))  # libraries are set up
    started = time.perf_counter()
    bench.train(recipe, store)
    seconds = time.perf_counter() - started
    return {"faces_per_s": len(store.labels) / seconds, "includes": "an epoch of a head on them"}


def train_heads(bench: Bench) -> Generator[Answer, None, None]:
    """The same heads in one process, and in four at once, with a cached view; all are ready when the clock starts."""
    with tempfile.TemporaryDirectory() as cache:
        for num_processes in (1, 4):
            per_process = bench.sizes.heads // num_processes
            command = [sys.executable, __file__, "--device", str(bench.device), "--heads", str(per_process)]
            command += ["--cache", cache] + (["--tiny"] if bench.sizes is TINY else [])
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            processes = [subprocess.Popen(command, **pipes) for _ in range(num_processes)]  # type: ignore[call-overload]
            try:
                for process in processes:
                    if process.stdout.readline().strip() != "ready":
                        raise RuntimeError("a process of heads has died; see above")
                started = time.perf_counter()
                for process in processes:
                    process.stdin.write("go\n")
                    process.stdin.flush()
                for process in processes:
                    if process.stdout.readline().strip() != "done":
                        raise RuntimeError("a process of heads has died; see above")
                seconds = time.perf_counter() - started
            finally:
                for process in processes:
                    process.stdin.close()
                    if process.wait(timeout=60) != 0:
                        process.kill()
            yield {"processes": num_processes, "heads": per_process * num_processes, "seconds": seconds}


def train_some_heads(bench: Bench, num_heads: int, cache: Path) -> int:
    """What each process of `train_heads` does."""
    torch.set_num_threads(1)
    store = RandomFaces(bench.sizes.faces, 32, bench.sizes.size_px)
    recipe = bench.recipe(freeze="trunk", epochs=bench.sizes.head_epochs, batch_size=32)
    bench.train(dataclasses.replace(recipe, epochs=1), store, cache=cache)  # computes the view, or maps it
    print("ready", flush=True)
    sys.stdin.readline()
    for seed in range(num_heads):
        bench.train(dataclasses.replace(recipe, seed=seed), store, cache=cache)
    bench.wait()
    print("done", flush=True)
    return 0


def fill_the_memory(bench: Bench) -> Answer:
    """The batch is doubled until the memory ends; then a small run must train."""
    if bench.device.type != "cuda":
        return {"skipped": "only a GPU's memory is asked"}
    batch_size, limit = bench.sizes.batch_sizes[0], 2**15
    error = ""
    while not error and batch_size < limit:
        batch_size *= 2
        recipe = bench.recipe(batch_size=batch_size, epochs=1)
        ready = InputsOnTheDevice(
            torch.zeros((1, 3, recipe.image_size, recipe.image_size), device=bench.device, dtype=torch.bfloat16)
            .expand(batch_size, -1, -1, -1)
        )  # fmt: skip
        try:
            with mock.patch("ferray.train.run.open_inputs", return_value=ready):
                bench.train(recipe, RandomFaces(batch_size, 32, 32))
        except TrainError as full:
            error = str(full)
    held = torch.cuda.memory_allocated(bench.device) / 1e9
    rows = bench.train(bench.recipe(batch_size=8, epochs=1), RandomFaces(32, 8, bench.sizes.size_px))
    return {"batch_size": batch_size, "error": error, "held_afterwards_gb": held, "trains_afterwards": len(rows) == 1}


QUESTIONS: dict[str, tuple[Callable[[Bench], Answer | Generator[Answer, None, None]], float]] = {
    "machine": (describe, 0),
    "tests": (run_quick_tests, 20),
    "peaks": (measure_peaks, 10),
    "whole trunk": (train_the_whole_trunk, 30),
    "features": (compute_features, 20),
    "heads": (train_heads, 60),
    "memory": (fill_the_memory, 40),
    "searches": (run_slow_tests, 120),
}
"""What is asked, in this order, and the seconds below which it is not begun."""


def main(argv: Sequence[str] | None = None) -> int:
    """Ask all questions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="default: cuda:0")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see whether this script works")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which no question is begun; default 10")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"), help="answers are added to this file")
    parser.add_argument("--only", action="append", choices=list(QUESTIONS), help="ask this; may be repeated")
    parser.add_argument("--heads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    try:
        check_device(given.device)
    except FerrayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    device = torch.device(given.device)
    if device.type != "cuda" and not given.tiny:
        print("error: without a GPU there is nothing to measure\n  Give --tiny to try the script", file=sys.stderr)
        return 2
    sizes = TINY if given.tiny else FULL
    bench = Bench(device, sizes, time.monotonic() + 60 * given.minutes)
    if given.heads is not None:
        return train_some_heads(bench, given.heads, given.cache)
    return ask(bench, given.only or list(QUESTIONS), given.out)


def ask(bench: Bench, questions: Sequence[str], out: Path) -> int:
    """Write each answer as soon as it is there; returns 1 if one failed."""
    num_failed = 0
    for question in questions:
        answer_it, needs_s = QUESTIONS[question]
        if bench.left_s < needs_s:
            write(out, question, {"skipped": f"{bench.left_s:.0f} s are left"})
            continue
        started = time.monotonic()
        try:
            answers = answer_it(bench)
            for answer in [answers] if isinstance(answers, dict) else answers:
                is_bad = answer.get("exit_code", 0) not in (0, 5) or answer.get("cut_off", False)
                num_failed += is_bad
                write(out, question, answer | {"took_s": time.monotonic() - started})
        except Exception as error:  # noqa: BLE001  the other questions are asked all the same
            num_failed += 1
            write(out, question, {"error": f"{type(error).__name__}: {error}"})
    return 1 if num_failed else 0


def write(out: Path, question: str, answer: Answer) -> None:
    """Add a line that survives the end of the process."""
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in answer.items()}
    line = json.dumps({"question": question, **rounded})
    with out.open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(re.sub(r"\s+", " ", line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
