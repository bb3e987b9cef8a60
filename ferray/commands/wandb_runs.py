"""`wandb` of `python -m ferray.report`: a W&B workspace of searches, and runs that were lost made again."""

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.commands.common import RUN_HELP, as_typed, path_option
from ferray.errors import RecordError
from ferray.records.bucket.fetch import search_folder
from ferray.waiting import waiting
from ferray.wording import short_path

EXAMPLES = """\
  python -m ferray.report wandb runs/grid runs/asha                   # a workspace that compares them
  python -m ferray.report wandb --rebuild runs/grid                   # online with a key, else files for `wandb sync`
  python -m ferray.report wandb --rebuild runs/grid --wandb offline
"""

WORKSPACE_FILE = "wandb-workspace.json"

PICTURES = ("heatmap.png", "curves.png")


@dataclass(frozen=True, kw_only=True)
class WandbOptions:
    """Options of `wandb`."""

    runs: list[Path]
    rebuild: bool
    wandb: str | None
    out: Path | None


def add_wandb_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `wandb`; `prog` is the command as it was typed."""
    text = "compare searches in a W&B workspace, or make lost W&B runs again from the records"
    parser = commands.add_parser(
        "wandb", help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False,
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", type=search_folder, nargs="+", metavar="RUN", help=f"searches: {RUN_HELP}")
    parser.add_argument("--rebuild", action="store_true", help="make complete runs from the records, under new ids")
    parser.add_argument(
        "--wandb", choices=("online", "offline"), help="default: online with a key and a server that answers"
    )
    parser.add_argument(
        "--out", type=path_option("--out"), metavar="FILE",
        help=f"where to keep what the workspace shows, and its address (default: RUN/{WORKSPACE_FILE} of the first)",
    )  # fmt: skip
    parser.set_defaults(options=WandbOptions)


def run_wandb(options: WandbOptions) -> int:
    """Make the workspace or the runs, and say where they are."""
    if not options.rebuild:
        _compare(options)
        return 0
    for folder in options.runs:
        _rebuild(folder, options.wandb)
    return 0


def _compare(options: WandbOptions) -> None:
    from ferray.files import storage
    from ferray.records.run import Run
    from ferray.tracking.wandb import choose_mode
    from ferray.tracking.workspace import has_workspaces, plan_workspace, save_workspace

    runs = [Run(folder) for folder in options.runs]
    plan = plan_workspace(runs)
    file = options.out or runs[0].folder / WORKSPACE_FILE
    mode, sentence = choose_mode(options.wandb)
    known = _known_address(file, plan.search_ids)
    missing = "pip install 'ferray[reports]'" if not has_workspaces() else None
    if mode == "online" and missing is None:
        with waiting("making the workspace"):
            address: str | None = save_workspace(plan, url=known)
        print(f"{'changed' if known else 'made'}: {address}")
    else:
        address = known
        reason = sentence.split(";")[0] if mode != "online" else f"first {missing}"
        print(f"not made: {reason}. Later, with a key, run the same command")
    storage.write_json(file, {**plan.to_json(), "url": address})
    print(f"{short_path(file.resolve())}: what it shows")


def _known_address(file: Path, search_ids: tuple[str, ...]) -> str | None:
    """The address of the workspace that was made for the same searches before."""
    from ferray.files import storage

    if not file.exists():
        return None
    match storage.read_json(file):
        case {"url": str(url), "search_ids": list(ids)} if set(ids) == set(search_ids):
            return url
        case {"search_ids": list()}:
            return None
    raise RecordError(str(file), "not the file of a workspace", "Name another with --out")


def _rebuild(folder: Path, asked: str | None) -> None:
    from ferray.records.run import Run
    from ferray.tracking.rebuild import rebuild_runs
    from ferray.tracking.wandb import choose_mode

    run = Run(folder)
    run.check_exists()
    mode, _ = choose_mode(asked)
    if mode == "disabled":
        raise RecordError("WANDB_MODE", "disabled, so that no run can be made", "Give --wandb offline")
    files = [file for file in (*(run.folder / name for name in PICTURES), run.best_dir) if file.exists()]
    with waiting("making the runs again"):
        made = rebuild_runs(run, mode=mode, files=files, summary=_test_scores(run.best_dir))
    print(f"{short_path(run.folder)}: runs of {made.num_trials} trials and one of the search, {mode}: {made.prefix}*")
    if mode == "offline":
        print(f"send them:\nwandb sync {shlex.quote(str(short_path(run.folder)))}/wandb/offline-run-*-{made.prefix}*")


def _test_scores(best_dir: Path) -> dict[str, Any]:
    """As a search sends them when it ends."""
    from ferray.report.test_split.recorded import METRICS_FILE, read_recorded

    recorded = read_recorded(best_dir / METRICS_FILE)
    return {} if recorded is None else {f"test_{name}": value for name, value in recorded.numbers.items()}
