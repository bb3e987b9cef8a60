"""A picture in the project's style, as a PNG file: written completely or not at all, the same for the same input.

Figures are made without pyplot, which keeps global state. matplotlib is imported when the first picture is drawn.
Begin at `open_figure`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray.files import storage
from ferray.report.fonts import FAMILY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST_COLORS = ("#0072B2", "#D55E00", "#009E73")
"""Three colors that people with any color vision can tell apart (Okabe and Ito)."""

_STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "text.parse_math": False,
}


@contextmanager
def open_figure(
    file: Path, *, size: tuple[float, float] = (6.4, 4.8), families: Sequence[str] = (FAMILY,)
) -> Iterator["Figure"]:
    """Open a figure in the project's style; it becomes a PNG file when the block ends.

    Args:
        file: The PNG file.
        size: Width and height in inches; 150 dots per inch.
        families: Fonts, each for what those before it cannot write.

    Raises:
        StorageError: The file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"font.family": list(families)}):
        figure = Figure(figsize=size)
        yield figure
        data = io.BytesIO()
        figure.savefig(data, format="png", metadata={"Software": None})
    storage.write_bytes(file, data.getvalue())


def ink(color: tuple[float, float, float, float]) -> str:
    """Black or white, whichever has the higher contrast to a color by its relative luminance (WCAG 2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
