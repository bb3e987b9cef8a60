"""One search from its options to its end, as the command runs it and as `ferray.search` does.

Light until there is something to train: torch and Ray are imported when the plan has been made and checked. Begin at
`run_session`; `open_plan` makes the plan alone.
"""

import importlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ferray.files.location import read_location
from ferray.files.storage import cache_dir
from ferray.search.options import SearchOptions, Show
from ferray.signals import StopRequest, say_from_handler
from ferray.waiting import waiting

if TYPE_CHECKING:
    from ferray.search.history.recorded import History
    from ferray.search.plan import Plan
    from ferray.search.tune.loop import Observer

log = logging.getLogger(__name__)


def run_session(
    options: SearchOptions, stop: StopRequest, *, show: Show = "text", observers: "Sequence[Observer]" = ()
) -> tuple["Plan", bool]:
    """Plan and search.

    Args:
        options: What was asked for.
        stop: Ends it early; raises KeyboardInterrupt where nothing is lost by it.
        show: What is printed on stdout at the end.
        observers: Informed of trials and epochs, as `ferray.search.tune.loop.TuneSettings` says.

    Returns:
        The plan, and whether the search came to its end; False if it was interrupted.

    Raises:
        FerrayError: Place, fault and way out.
        KeyboardInterrupt: It was interrupted before its folder was there.
    """
    with ExitStack() as stack:
        with stop.raised():
            plan, history = stack.enter_context(open_plan(options))
            from ferray.search.fleet.cluster import connect, ray_environment

            cache_dir()  # without one, an error now
            stack.enter_context(ray_environment(plan.address))
            threading.Thread(target=_import_torch, name="import", daemon=True).start()
            # A new search has something to train: Ray starts while the thread imports torch.
            cluster = stack.enter_context(connect(plan.address)) if history is None else None
            with waiting("importing torch and Ray Tune"):
                from ferray.search.run import run
        return plan, run(plan, history, cluster, stop, show=show, observers=observers) == 0


def _import_torch() -> None:
    """In a thread, ahead of who needs it, to whom an error is raised then; as where the process ends meanwhile."""
    with suppress(BaseException):
        importlib.import_module("torch")


def announce_stop() -> None:
    """Say what the first Ctrl-C does; for signal handlers."""
    say_from_handler("stopping: every finished epoch is kept; once more to end at once")


@contextmanager
def open_plan(options: SearchOptions) -> Iterator[tuple["Plan", "History | None"]]:
    """The plan of a search, checked, its warnings logged; the folder of one that is resumed is locked meanwhile.

    Yields:
        The plan, and the records of the search that is resumed; None for a new one.

    Raises:
        FerrayError: Place, fault and way out.
    """
    from ferray.search.history.resume import open_history
    from ferray.search.inputs import bring_inputs
    from ferray.search.plan import make_plan
    from ferray.search.preflight import check_changes, check_plan, check_same_data

    options = _with_paths(options)
    with ExitStack() as stack:
        with waiting("reading the plan and the records"):
            history = None if options.resume is None else stack.enter_context(open_history(options))
            plan = make_plan(options, history)
        plan = bring_inputs(plan, history, is_dry=options.dry_run)
        with waiting("checking the plan"):
            if history is not None:
                check_same_data(plan, history)
            if history is None or plan.extension is not None:
                warnings = check_plan(plan, is_dry=options.dry_run)
            else:
                warnings = check_changes(plan, options)
        for line in warnings:
            log.warning("%s", line)
        yield plan, history


def _with_paths(options: SearchOptions) -> SearchOptions:
    """The options with paths where they may name `file://`, and with addresses in buckets as records have them.

    Raises:
        StorageError: One names what is neither.
    """

    def location_of(name: str, text: str | None) -> str | None:
        return None if text is None else read_location(text, option=f"--{name}")

    return replace(
        options,
        out=read_location(options.out, option="--out"),
        data=location_of("data", options.data),
        weights=location_of("weights", options.weights),
    )
