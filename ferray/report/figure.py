"""A picture in the project's style, as a PNG file: written whole or not at all, equal for equal input.

Figures are made without pyplot, which keeps global state; matplotlib is imported when a picture is asked for.
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
"""Three that are told apart with every kind of color vision (Okabe and Ito)."""

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
def written(file: Path, *, size: tuple[float, float] = (6.4, 4.8)) -> Iterator["Figure"]:
    """A figure in the project's style, which becomes a PNG file when the block ends.

    Args:
        file: The PNG file.
        size: Width and height in inches; 150 dots an inch.

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
