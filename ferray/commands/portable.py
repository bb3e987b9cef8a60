"""`export` and `latency` of `python -m ferray.report`: a model as one file for other programs, and its speed."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import number_option, path_option
from ferray.errors import RecipeError
from ferray.records.bucket.fetch import best_folder
from ferray.waiting import waiting

if TYPE_CHECKING:
    from ferray.predict.export import Exported
    from ferray.predict.latency import Latency
    from ferray.predict.quantize import QuantizationCost

MAX_NAMED = 20
"""Pictures that cannot be read and are named one by one."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `export`."""

    best_dir: Path
    format: str
    out: Path
    pictures: Path | None
    int8: Path | None
    json: bool


@dataclass(frozen=True, kw_only=True)
class LatencyOptions:
    """Options of `latency`."""

    best_dir: Path
    runtime: str
    device: str
    threads: int | None
    calls: int
    json: bool


def add_export_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of `export`."""
    text = "write a model as one file that runs without ferray, and compare its answers"
    export = commands.add_parser("export", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    export.add_argument(
        "best_dir", type=best_folder, metavar="MODEL", help="the folder `best` of a search: runs/NAME/best"
    )
    export.add_argument(
        "--format", default="onnx", choices=("onnx", "torch-export", "safetensors"),
        help="default: %(default)s, which needs the extra ferray[export]; safetensors has the tensors alone",
    )  # fmt: skip
    export.add_argument(
        "--out", type=path_option("--out"), required=True, metavar="FILE", help="FILE.json and FILE.md come beside it"
    )
    export.add_argument(
        "--pictures",
        type=path_option("--pictures"),
        metavar="DIR",
        help="compare for these, too: a folder or a picture",
    )
    export.add_argument(
        "--int8", type=path_option("--int8"), metavar="STORE",
        help="write integers of 8 bits, a quarter of the size, with ranges from training pictures of the store; its"
        " validation pictures show what that costs in accuracy; only for onnx",
    )  # fmt: skip
    export.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    export.set_defaults(options=ExportOptions)


def add_latency_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of `latency`."""
    text = "time a model on batches of 1 and 32 pictures, and show its size"
    latency = commands.add_parser("latency", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    latency.add_argument(
        "best_dir", type=best_folder, metavar="MODEL", help="the folder `best` of a search: runs/NAME/best"
    )
    latency.add_argument(
        "--runtime", default="torch", choices=("torch", "onnxruntime"),
        help="default: %(default)s; onnxruntime needs the extra ferray[export]",
    )  # fmt: skip
    latency.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N; only for torch")
    latency.add_argument(
        "--threads",
        type=number_option(int, 1, 1024),
        metavar="N",
        help="threads of the CPU (default: torch's choice)",
    )
    latency.add_argument(
        "--calls", type=number_option(int, 2, 10**6), default=30, metavar="N",
        help="timed calls of each size of batch, after a few for warming up (default: %(default)s)",
    )  # fmt: skip
    latency.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    latency.set_defaults(options=LatencyOptions)


def run_export(options: ExportOptions) -> int:
    """Write the file and say how it was compared."""
    if options.int8 is not None and options.format != "onnx":
        what = f"integers of 8 bits are written as onnx, not as {options.format}"
        raise RecipeError("--int8", what, "Leave --format out, or leave --int8 out")
    with waiting("importing torch"):
        from ferray.data.store.reader import open_store
        from ferray.predict.export import export_model
        from ferray.predict.sources import list_pictures

    store = None if options.int8 is None else open_store(options.int8)
    pictures = [] if options.pictures is None else list_pictures([str(options.pictures)], sys.stdin)
    with waiting(f"writing and comparing {options.out}"):
        exported = export_model(options.best_dir, options.out, form=options.format, pictures=pictures, int8=store)
    for one in exported.unreadable[:MAX_NAMED]:
        print(f"skipped: {one.path}: {one.reason}", file=sys.stderr)
    if len(exported.unreadable) > MAX_NAMED:
        print(f"skipped: {len(exported.unreadable) - MAX_NAMED:,} further pictures", file=sys.stderr)
    if options.json:
        print(json.dumps(exported.to_json() | {"skipped": len(exported.unreadable)}, indent=2))
    else:
        print(_format_exported(exported))
    return 0


def run_latency(options: LatencyOptions) -> int:
    """Time the model and print what it took."""
    if options.runtime != "torch" and options.device != "cpu":
        what = f"onnxruntime is measured on the CPU, not on {options.device}"
        raise RecipeError(f"--device {options.device}", what, "Leave --device out, or use --runtime torch")
    with waiting("importing torch"):
        from ferray.predict.latency import measure_latency

    with waiting("timing the model"):
        latency = measure_latency(
            options.best_dir,
            device=options.device,
            threads=options.threads,
            calls=options.calls,
            runtime=options.runtime,
        )
    print(json.dumps(latency.to_json(), indent=2) if options.json else _format_latency(latency))
    return 0


def _format_latency(latency: "Latency") -> str:
    lines = [
        f"runtime     {latency.runtime}, trunk in {latency.precision}, pictures of {latency.size_px} pixels",
        f"device      {latency.device}: {latency.device_name}",
        f"threads     {latency.threads}",
        f"parameters  {latency.num_parameters:,}",
        f"on disk     {latency.num_bytes / 1e6:,.1f} MB",
        "",
        f"{'batch':>5} {'p50 ms':>9} {'p95 ms':>9} {'pictures/s':>11}",
    ]
    for row in latency.batches:
        lines.append(f"{row.batch:>5} {row.p50_ms:>9.2f} {row.p95_ms:>9.2f} {row.pictures_per_s:>11,.1f}")
    timed = f"{latency.calls} calls each, after a warm-up; from pictures in memory to probabilities in memory"
    return "\n".join([*lines, "", timed])


def _format_exported(exported: "Exported") -> str:
    parity, trained = exported.parity, exported.parity_as_trained
    size, precision = exported.facts["size_px"], exported.facts["recipe"]["precision"]
    return "\n".join(
        [
            f"{exported.file}: {exported.num_bytes / 1e6:,.1f} MB, {exported.facts['format']}",
            f"input         uint8 RGB, (batch, {size}, {size}, 3)",
            f"output        {len(exported.facts['class_names'])} probabilities,"
            f" temperature {exported.facts['temperature']:.4g}",
            f"compared      {parity.num_pictures} pictures, {exported.num_drawn} of them drawn at random",
            f"torch float32 same class for {parity.num_same}; largest difference {parity.max_difference:.1e}",
            f"as trained    same class for {trained.num_same}; largest difference {trained.max_difference:.1e}"
            f" ({precision}, as `ferray predict`)",
            *_format_cost(exported.cost),
            f"read {exported.file}.md for how pictures are cropped and resized",
        ]
    )


def _format_cost(cost: "QuantizationCost | None") -> list[str]:
    if cost is None:
        return []
    low, high = cost.interval
    return [
        f"8 bits        accuracy {cost.accuracy_int8:.4f}, in float32 {cost.accuracy_float:.4f}, on"
        f" {cost.num_pictures:,} validation pictures",
        f"              difference {cost.difference:+z.4f} [{low:+z.4f}, {high:+z.4f}]; same class for"
        f" {cost.num_same:,}; float32 has {cost.num_bytes_float / 1e6:,.1f} MB",
    ]
