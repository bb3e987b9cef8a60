"""A table that is drawn again and again in one output of a notebook's cell. Begin at `NotebookTable`.

A cell's output is no terminal: what moves a cursor there is printed as it is. IPython, which every notebook has and
ferray does not need, replaces an output as a whole instead.
"""

import html
import io
import sys
from typing import Any

from rich.console import Console, RenderableType

WIDTH, HEIGHT = 100, 40
"""Characters of the table, at most."""


def in_notebook() -> bool:
    """Whether this process runs the cells of a notebook, rather than a terminal or a script."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class NotebookTable:
    """Has the methods of `rich.live.Live` that `ferray.search.live` calls."""

    def __init__(self) -> None:
        self._handle: Any = None

    def start(self) -> None:
        """The first drawing makes the output."""

    def update(self, table: RenderableType, *, refresh: bool) -> None:
        """Draw a table in place of the last one."""
        from IPython.display import display

        console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, color_system=None)
        with console.capture() as captured:
            console.print(table)
        text = "\n".join(line.rstrip() for line in captured.get().splitlines())
        bundle = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def stop(self) -> None:
        """The last table stays."""
