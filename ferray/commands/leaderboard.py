"""`leaderboard` of `python -m ferray.report`: the best points of a search, the size of their models, and their speed.

Begin at `run_leaderboard`.
"""

import argparse
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.commands.common import RUN_HELP, number_option
from ferray.errors import RecordError
from ferray.model.size import Parameters, count_parameters
from ferray.recipe import FIELD_NAMES, Recipe, to_values
from ferray.records.bucket.fetch import search_folder
from ferray.records.points import REPEATED, Point
from ferray.records.run import Run
from ferray.report.columns import GAP, WIDTH, fit_settings
from ferray.waiting import waiting


@dataclass(frozen=True, kw_only=True)
class LeaderboardOptions:
    """Options of `leaderboard`."""

    run_dir: Path
    top: int
    latency: bool
    threads: int | None
    json: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One point."""

    point: Point
    parameters: Parameters
    p50_ms: float | None
    """Median time of one picture; None where it was not asked for."""

    @property
    def megabytes(self) -> float:
        """Of all parameters as float32."""
        return 4 * self.parameters.total / 1e6

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "number": self.point.number,
            "score": self.point.mean,
            "spread": self.point.spread,
            "trials": len(self.point.records),
            "trunk_parameters": self.parameters.trunk,
            "head_parameters": self.parameters.head,
            "p50_ms": self.p50_ms,
            "recipe": to_values(self.point.recipe),
        }


def add_leaderboard_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of `leaderboard`."""
    text = "the best points of a search, with the parameters of their models and, if asked for, their speed"
    parser = commands.add_parser("leaderboard", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    parser.add_argument("run_dir", type=search_folder, metavar="RUN", help=f"a search: {RUN_HELP}")
    parser.add_argument(
        "--top", type=number_option(int, 1, 10**6), default=10, metavar="N", help="points (default: %(default)s)"
    )
    parser.add_argument(
        "--latency", action="store_true", help="time each model for one picture on this machine's CPU, in a few seconds"
    )
    parser.add_argument(
        "--threads", type=number_option(int, 1, 1024), metavar="N", help="of the CPU (default: torch's choice)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(options=LeaderboardOptions)


def run_leaderboard(options: LeaderboardOptions) -> int:
    """Rank the points, measure what is asked for, and print a table."""
    from ferray.data.store.fetched import read_manifest_of
    from ferray.report.results.read import read_results

    results = read_results(Run(options.run_dir))
    points = results.points[: options.top]
    if not points:
        raise RecordError(str(results.run.folder), "no trial has finished an epoch", "Resume the search first")
    num_classes = len(read_manifest_of(results.search.data.folder).class_names)
    rows = [
        Row(
            point=point,
            parameters=count_parameters(point.recipe, num_classes=num_classes),
            p50_ms=_measure(point.recipe, options, num_classes=num_classes) if options.latency else None,
        )
        for point in points
    ]
    metric = points[0].recipe.monitor
    if options.json:
        print(json.dumps({"metric": metric, "points": [row.to_json() for row in rows]}, indent=2))
    else:
        print(_format(rows, metric=metric, has_latency=options.latency))
    return 0


def _measure(recipe: Recipe, options: LeaderboardOptions, *, num_classes: int) -> float:
    with waiting(f"timing {recipe.backbone}"):
        from ferray.predict.latency import measure_recipe
        from ferray.train.device import set_threads

        set_threads(options.threads)
        return measure_recipe(recipe, num_classes=num_classes).p50_ms


def _format(rows: Sequence[Row], *, metric: str, has_latency: bool) -> str:
    several = any(len(row.point.records) > 1 for row in rows)
    cells = [_cells(row, several=several, has_latency=has_latency) for row in rows]
    heads = ["point", "score", *(["+- sd", "trials"] if several else []), "params", "MB"]
    heads += ["p50 ms"] if has_latency else []
    widths = [max(map(len, texts)) for texts in zip(heads, *cells, strict=True)]
    recipes = [row.point.recipe for row in rows]
    differing = [name for name in FIELD_NAMES if name not in REPEATED and len({getattr(r, name) for r in recipes}) > 1]
    room = WIDTH - sum(widths) - GAP * (len(widths) - 1)
    columns, left_out = fit_settings(differing, [to_values(recipe) for recipe in recipes], room=room)
    widths += [column.width for column in columns]
    words = [[head] for head in heads] + [column.header.splitlines() for column in columns]
    height = max(map(len, words))
    lines = [  # names of several words take a line for each, the last one just above the values
        _line(texts, widths) for texts in zip(*([""] * (height - len(one)) + one for one in words), strict=True)
    ]
    lines += [
        _line([*texts, *(column.cells[place] for column in columns)], widths) for place, texts in enumerate(cells)
    ]
    note = f"score: {metric}; params: of trunk and head; MB: as float32"
    note += "; p50 ms: median of one picture on this CPU" if has_latency else ""
    notes = [note, *([f"no room for {', '.join(left_out)}"] if left_out else [])]
    return "\n".join([*lines, *(line for text in notes for line in textwrap.wrap(text, WIDTH))])


def _cells(row: Row, *, several: bool, has_latency: bool) -> list[str]:
    spread = "" if row.point.spread is None else f"{row.point.spread:.4f}"
    cells = [str(row.point.number), f"{row.point.mean:.4f}"]
    cells += [spread, str(len(row.point.records))] if several else []
    cells += [f"{row.parameters.total / 1e6:.1f} M", f"{row.megabytes:.1f}"]
    return cells + ([f"{row.p50_ms:.2f}"] if has_latency else [])


def _line(texts: Sequence[str], widths: Sequence[int]) -> str:
    return (" " * GAP).join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True)).rstrip()
