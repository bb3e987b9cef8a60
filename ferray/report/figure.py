"""A picture in the project's style, as a PNG file: written completely or not at all, the same for the same input.

Figures are made without pyplot, which keeps global state. matplotlib is imported when the first picture is drawn.
Begin at `open_figure`.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray.files import storage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST_COLORS = ("#0072B2", "#D55E00", "#009E73")
"""Three colors that people with any color vision can tell apart (Okabe and Ito)."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "text.parse_math": False,
}


@contextmanager
def open_figure(file: Path, *, size: tuple[float, float] = (6.4, 4.8)) -> Iterator["Figure"]:
    """Open a figure in the project's style; it becomes a PNG file when the block ends.

    Args:
        file: The PNG file.
        size: Width and height in inches; 150 dots per inch.

    Raises:
        StorageError: The file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size)
        yield figure
        data = io.BytesIO()
        figure.savefig(data, format="png", metadata={"Software": None})
    storage.write_bytes(file, data.getvalue())
