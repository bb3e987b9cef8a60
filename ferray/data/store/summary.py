"""What a store holds, as text. Begin at `format_counts`."""

import textwrap
from collections.abc import Mapping, Sequence

from ferray.data.store.reader import Store
from ferray.wording import columns_of, count_of, pad_text, short_names

WIDTH = 80
"""Columns of the text."""

MAX_ROWS = 50
"""Classes that a table lists."""
MAX_NAME = 32
"""Columns of a class name in a table of 80."""


def format_counts(store: Store) -> str:
    """Number of faces by class and split, what was done to the faces, and what was left out."""
    manifest = store.manifest
    sizes = {split: size for split, size in manifest.split_sizes.items() if size}
    what = f"{count_of(manifest.num_faces, manifest.shown.noun)} of {manifest.size_px} px"
    lines = [f"{store.folder}: {what} from {manifest.dataset}", ""]
    counts = {name: [manifest.counts[split][name] for split in sizes] for name in manifest.class_names}
    names, note = shorten_classes({name: sum(each) for name, each in counts.items()})
    short = dict(zip(manifest.class_names, short_names(manifest.class_names, MAX_NAME), strict=True))
    width = max(12, *(columns_of(short[name]) for name in names))
    lines.append("".join([f"{'class':{width}}", *(f"{split:>12}" for split in sizes), f"{'all':>12}"]))
    lines += [_line(short[name], counts[name], width) for name in names]
    lines += [_line("all", list(sizes.values()), width), *note, ""]
    items = [*manifest.notes, *(f"left out: {count:,} {reason}" for reason, count in manifest.skipped.items())]
    for item in [*items, f"fingerprint {manifest.fingerprint[:16]}"]:
        lines += textwrap.wrap(f"- {item}", WIDTH, subsequent_indent="  ", break_long_words=False)
    return "\n".join(lines)


def shorten_classes(totals: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The classes that a table lists: all, or of many the largest and the smallest.

    Args:
        totals: Size of each class.

    Returns:
        Their names, and a line that says what is not listed, where something is not.
    """
    names = list(totals)
    if len(names) <= MAX_ROWS:
        return names, []
    by_size = sorted(names, key=lambda name: -totals[name])  # the sort is stable
    half = MAX_ROWS // 2
    return [*by_size[:half], *by_size[-half:]], [f"of {len(names):,} classes, the {half} largest and {half} smallest"]


def _line(name: str, numbers: Sequence[int], width: int) -> str:
    return "".join([pad_text(name, width), *(f"{number:12,}" for number in [*numbers, sum(numbers)])])
