"""`watch` of `python -m ferray.report`: a search while it runs, from another terminal or machine.

Begin at `run_watch`.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import RUN_HELP, as_typed, number_option
from ferray.records.bucket.fetch import search_folder

if TYPE_CHECKING:
    from ferray.records.run import Run
    from ferray.report.watch.folder import FolderWatcher
    from ferray.report.watch.view import SearchView

EXAMPLES = """\
  python -m ferray.report watch runs/first                  # until the search ends, or Ctrl-C
  python -m ferray.report watch s3://faces/runs/first       # from any machine that reads the bucket
  python -m ferray.report watch runs/first --once           # one view, for scripts
  python -m ferray.report watch runs/first --html           # its page, in a browser of this machine
"""

LINE_S = 30.0
"""Where the output is no terminal, a line is written so often."""

MAX_LOW = 40
"""Lines of the one view that is printed where there is no terminal."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Options of `watch`."""

    run_dir: Path
    once: bool
    every: float
    html: bool
    port: int


def add_watch_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `watch`; `prog` is the command as it was typed."""
    text = "how far a search is, from its folder alone, refreshed until it ends"
    watch = commands.add_parser(
        "watch",
        help=text,
        description=f"{text.capitalize()}. Exits with 0 if it goes on or has finished, else with 1.",
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    watch.add_argument("run_dir", type=search_folder, metavar="RUN", help=f"a search, which is only read: {RUN_HELP}")
    watch.add_argument("--once", action="store_true", help="print one view and end")
    watch.add_argument(
        "--every",
        type=number_option(float, 0.1, 3600),
        default=1.0,
        metavar="S",
        help="seconds between two views (default: 1)",
    )
    watch.add_argument(
        "--html",
        action="store_true",
        help="serve the page of the search to browsers of this machine, always up to date",
    )
    watch.add_argument(
        "--port",
        type=number_option(int, 0, 65535),
        default=0,
        metavar="N",
        help="of the page (default: one that is free)",
    )
    watch.set_defaults(options=WatchOptions)


def run_watch(options: WatchOptions) -> int:
    """Show a search until it ends."""
    from ferray.records.bucket.run import open_folder

    run = open_folder(options.run_dir)
    run.check_exists()
    try:
        if options.html:
            return _serve(run, options)
        last = _watch(run, options)
    except KeyboardInterrupt:
        print("no longer watched; this changes nothing for the search", file=sys.stderr)
        return 130
    return 1 if last.phase in ("interrupted", "failed", "lost") else 0


def _watch(run: "Run", options: WatchOptions) -> "SearchView":
    """Show views until the search ends; returns the last one."""
    from rich.console import Console

    from ferray.report.watch.drawing import draw
    from ferray.report.watch.folder import FolderWatcher
    from ferray.report.watch.view import OVER

    console, watcher = Console(), FolderWatcher(run)
    if options.once:
        view = watcher.read()
        height = console.height if console.is_terminal else MAX_LOW
        console.print(draw(view, width=console.width, height=height - 1))
        return view
    if not console.is_terminal or console.is_dumb_terminal:
        return _write_lines(watcher, options.every)
    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        size = console.size
        while True:
            view = watcher.read()
            if console.size != size:  # a terminal wraps old lines when its window gets narrower
                size = console.size
                console.clear()
            live.update(draw(view, width=console.width, height=console.height - 1), refresh=True)
            if view.phase in OVER:
                return view
            time.sleep(options.every)


def _write_lines(watcher: "FolderWatcher", every_s: float) -> "SearchView":
    """A line now, then one every `LINE_S` or `every_s` if that is longer, and one for the end."""
    from ferray.report.watch.drawing import describe
    from ferray.report.watch.view import OVER

    next_line = 0.0
    while True:
        view = watcher.read()
        is_over = view.phase in OVER
        if is_over or time.monotonic() >= next_line:
            print(describe(view), flush=True)
            next_line = time.monotonic() + max(LINE_S, every_s)
        if is_over:
            return view
        time.sleep(every_s)


def _serve(run: "Run", options: WatchOptions) -> int:
    from ferray.report.watch.server import PageServer

    with PageServer(run, port=options.port) as server:
        print(f"{server.url} shows {run.name} to browsers of this machine; Ctrl-C ends it", flush=True)
        server.serve_forever()
    return 0
