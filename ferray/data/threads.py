"""Work spread over threads, with a progress bar: OpenCV and numpy run outside the interpreter's lock.

Begin at `Threads.map`.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from ferray.waiting import waiting

MAX_BATCH = 64
"""Most items that a thread takes at once: larger batches have less overhead ..."""
BATCHES_PER_THREAD = 8
"""... and at least so many batches per thread keep all threads busy until the end."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Threads:
    """How many threads share a piece of work, and whether a progress bar is shown. Neither changes a result."""

    num: int | None = None
    """Number of threads; None means one per core."""
    show_progress: bool = False
    """Whether a progress bar is drawn on stderr."""

    def map(
        self, function: Callable[[_Item], _Result], items: Sequence[_Item], *, title: str, unit: str
    ) -> Generator[_Result, None, None]:
        """Apply a function to each item; when the caller closes the iterator, no further item is begun.

        Args:
            function: Called from several threads, each with OpenCV on one core: that is faster than one picture at a
                time on all cores.
            items: Its arguments.
            title: Of the progress bar.
            unit: What the items are, in the plural.

        Yields:
            The results, in the order of the items.
        """
        num_threads = self.num or len(os.sched_getaffinity(0))
        size = max(1, min(MAX_BATCH, len(items) // (BATCHES_PER_THREAD * num_threads)))
        batches = [items[begin : begin + size] for begin in range(0, len(items), size)]
        with (
            _opencv_on_one_core(),
            ThreadPoolExecutor(num_threads) as pool,
            progress_bar(title, len(items), unit, is_shown=self.show_progress) as advance,
        ):
            for results in pool.map(lambda batch: [function(item) for item in batch], batches):
                advance(len(results))
                yield from results


@contextmanager
def _opencv_on_one_core() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def progress_bar(title: str, total: int, unit: str, *, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, unless there is nothing to do; where it cannot be drawn, lines as by `waiting`.

    Yields:
        A function that takes the number of items that were finished since its last call.
    """
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TextColumn(unit), progress.TimeElapsedColumn(), progress.TimeRemainingColumn(),
    )  # fmt: skip
    console, is_hidden = Console(stderr=True, force_jupyter=False), not is_shown or total == 0
    is_drawn = is_hidden or (console.is_terminal and not console.is_dumb_terminal)
    with progress.Progress(*columns, console=console, disable=is_hidden) as bar:
        task = bar.add_task(title, total=total)

        def so_far() -> str:
            return f"{title}: {bar.tasks[0].completed:,.0f} of {total:,} {unit}"

        with nullcontext() if is_drawn else waiting(so_far):
            yield lambda count: bar.advance(task, count)
