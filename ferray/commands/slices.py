"""`slices` of `python -m ferray.report`: where a model is weak."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ferray.records.bucket.fetch import best_folder


@dataclass(frozen=True, kw_only=True)
class SlicesOptions:
    """Options of `slices`."""

    best_dir: Path
    data: str
    by: str | None
    json: bool


def add_slices_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The parser of `slices`."""
    text = "accuracy on parts of the test split, from the predictions on record; the model is not run"
    slices = commands.add_parser("slices", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    slices.add_argument(
        "best_dir", type=best_folder, metavar="BEST", help="the folder `best` of a search: runs/NAME/best"
    )
    slices.add_argument("--data", required=True, metavar="DIR", help="the store of that search")
    slices.add_argument("--by", metavar="COLUMN", help="a column of the store's table (default: all)")
    slices.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    slices.set_defaults(options=SlicesOptions)


def run_slices(options: SlicesOptions) -> int:
    """Print the slices, the weakest first."""
    from ferray.data.store.fetched import find_store
    from ferray.data.store.reader import open_store
    from ferray.report.slices import score_recorded_slices, worst_to_json
    from ferray.report.terminal import format_slices

    store = open_store(find_store(options.data, option="--data"))
    slices, shown = score_recorded_slices(options.best_dir, store, by=options.by), store.manifest.shown
    if options.json:
        print(json.dumps({"slices": [asdict(one) for one in slices], "worst": worst_to_json(slices)}, indent=2))
    else:
        print(format_slices(slices, f"{options.best_dir} on the test split of {options.data}", shown))
    return 0
