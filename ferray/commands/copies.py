"""`ferray report fetch`: a search from a bucket as a folder of this machine."""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ferray.commands.common import as_typed, path_option
from ferray.errors import RecordError
from ferray.files.location import to_address
from ferray.records.bucket.fetch import search_folder
from ferray.records.bucket.run import open_folder
from ferray.wording import DEFAULT_OUT, short_path

EXAMPLES = """\
  python -m ferray.report fetch s3://faces/runs/grid                     # into runs/grid
  python -m ferray.report fetch s3://faces/runs/grid --checkpoints       # with the checkpoints of all trials
"""


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Options of `fetch`."""

    address: str
    out: Path
    checkpoints: bool


def add_fetch_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `fetch`; `prog` is the command as it was typed."""
    text = "bring a search from a bucket into a folder of this machine"
    fetch = commands.add_parser(
        "fetch", help=text, description=f"{text.capitalize()}. The bucket is only read.", allow_abbrev=False,
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    fetch.add_argument("address", metavar="ADDRESS", help="s3://BUCKET/RUNS/NAME")
    fetch.add_argument(
        "--out",
        type=path_option("--out"),
        default=Path(DEFAULT_OUT),
        metavar="DIR",
        help="parent folder (default: runs)",
    )
    fetch.add_argument("--checkpoints", action="store_true", help="the checkpoints of its trials, too")
    fetch.set_defaults(options=FetchOptions)


def run_fetch(options: FetchOptions) -> int:
    """Fetch, and say where it is."""
    run = open_folder(search_folder(str(to_address(options.address, option="ADDRESS"))))
    folder = options.out / run.name
    if folder.exists() and open_folder(folder).read_search().id != run.read_search().id:
        raise RecordError(str(folder), "holds another search", "Name another parent folder with --out")
    if options.checkpoints:
        for record in run.read_trials():
            run.checkpoints(record.trial_id)
    shutil.copytree(run.folder, folder, ignore=_left_out(options), dirs_exist_ok=True)
    print(f"{short_path(folder.resolve())}: {len(run.read_trials())} trials of {run.place}")
    return 0


def _left_out(options: FetchOptions) -> Callable[[str, list[str]], list[str]]:
    """What is of the copy alone, and checkpoints that are left of another fetch."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        is_trial = Path(folder).parent.name == "trials"
        return [
            name
            for name in names
            if name.startswith(".") or (is_trial and not options.checkpoints and name.endswith(".safetensors"))
        ]

    return left_out
