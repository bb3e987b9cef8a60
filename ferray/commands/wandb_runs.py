"""`wandb` of `python -m ferray.report`: W&B runs that were lost, made again from the records."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.commands.common import as_typed
from ferray.errors import RecordError
from ferray.waiting import waiting
from ferray.wording import short_path

EXAMPLES = """\
  python -m ferray.report wandb --rebuild runs/grid                   # online with a key, else files for `wandb sync`
  python -m ferray.report wandb --rebuild runs/grid --wandb offline
"""

PICTURES = ("heatmap.png", "curves.png")


@dataclass(frozen=True, kw_only=True)
class WandbOptions:
    """Options of `wandb`."""

    runs: list[Path]
    rebuild: bool
    wandb: str | None


def add_wandb_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `wandb`; `prog` is the command as it was typed."""
    text = "make the W&B runs of a search again from its records"
    parser = commands.add_parser(
        "wandb", help=text, description=f"{text.capitalize().replace('w&b', 'W&B')}.", allow_abbrev=False,
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of searches: runs/NAME")
    parser.add_argument("--rebuild", action="store_true", help="make complete runs from the records, under new ids")
    parser.add_argument(
        "--wandb", choices=("online", "offline"), help="default: online with a key and a server that answers"
    )
    parser.set_defaults(options=WandbOptions)


def run_wandb(options: WandbOptions) -> int:
    """Make the runs, and say where they are."""
    for folder in options.runs:
        _rebuild(folder, options.wandb)
    return 0


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
        print(f"send them:\nwandb sync {short_path(run.folder)}/wandb/offline-run-*-{made.prefix}*")


def _test_scores(best_dir: Path) -> dict[str, Any]:
    """As a search sends them when it ends."""
    from ferray.report.test_split.recorded import METRICS_FILE, read_recorded

    recorded = read_recorded(best_dir / METRICS_FILE)
    return {} if recorded is None else {f"test_{name}": value for name, value in recorded.numbers.items()}
