"""`ferray.prepare`: what `python -m ferray.data prepare` does, as a function.

Its parameters are those that name the source, and the fields of `ferray.data.prepare.options.PrepareOptions` with their
defaults, which a test compares. Begin at `prepare`.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray.api.arguments import AnyPath, describe_argument, make_options, to_local, to_path
from ferray.data.prepare.options import (
    DEFAULT_MARGIN,
    DEFAULT_SIZE_PX,
    OnBad,
    OnCopies,
    PrepareOptions,
    Shares,
    parse_shares,
)
from ferray.data.threads import Threads
from ferray.errors import DataError
from ferray.files.location import is_address, read_location, to_address
from ferray.files.storage import give_home

if TYPE_CHECKING:
    from ferray.data.sources.rows import Source
    from ferray.data.store.reader import Store


def prepare(
    images: AnyPath | None = None,
    *,
    out: AnyPath,
    table: AnyPath | None = None,
    labels: AnyPath | None = None,
    classes: AnyPath | None = None,
    size_px: int = DEFAULT_SIZE_PX,
    margin: float | None = None,
    num_faces: int | None = None,
    split: Shares | list[float] | str | None = None,
    seed: int = 0,
    on_bad: OnBad = "skip",
    copies: OnCopies = "find",
    drop_conflicts: bool = False,
    drop_leaks: bool = False,
) -> "Store":
    """Make a store of pictures, as `python -m ferray.data prepare` does, or open it if it is there already.

    `images` alone is a tree with a folder for each class (`prepare folders`); with `table`, a CSV file with columns
    path and label, it is where the paths begin (`prepare csv`); with `labels`, ExpW's list, it is the folder of the
    photographs (`prepare expw`).

    Args:
        images: Folder of the pictures; with `table` None for the table's folder.
        out: The store, or `s3://BUCKET/KEY`, of which a copy stays here; what is left out is listed beside it.
        table: CSV file with the columns path and label.
        labels: ExpW's `label.lst`.
        classes: `expressions`, or a file of classes and the names that mean them; None for the names in the source.
        size_px: Side of a picture in the store.
        margin: Added to each side of a box, as a fraction of its side; None for 0.1 with `labels`, else 0.
        num_faces: Draw so many pictures, classes in their own proportion; None for all.
        split: Shares of train, validation and test, such as (0.7, 0.1, 0.2) or "70/10/20"; None keeps the source's own
            split, or takes these where it has none.
        seed: Of the sample and the split.
        on_bad: Leave out and list what cannot be used, or fail at the first fault.
        copies: Find copies of photographs and keep them in one split, or do not look.
        drop_conflicts: Leave out every picture whose copies have different labels.
        drop_leaks: Leave out of train, then of validation, the copies of pictures in a later split.

    Raises:
        FerrayError: Place, fault and way out; a wrong argument is named. Options are named as the command has them.
    """
    given = dict(locals())
    give_home()
    places = {name: given.pop(name) for name in ("images", "out", "table", "labels", "classes")}
    place = read_location(to_path("out", out, DataError), option="out")

    from ferray.data.prepare.run import list_unusable

    with nullcontext() if is_address(place) else list_unusable(Path(place)):  # none is sent to a bucket
        source = read_source_of(**{name: place for name, place in places.items() if name != "out"})
    given["margin"] = _default_margin(labels) if margin is None else margin
    if isinstance(split, str | list):
        given["split"] = parse_shares(split) if isinstance(split, str) else tuple(split)
    options = make_options(PrepareOptions, {**given, "threads": Threads(show_progress=True)}, DataError)

    from ferray.data.prepare.run import prepare as prepare_source
    from ferray.data.prepare.send import prepare_and_send

    if is_address(place):
        return prepare_and_send(source, to_address(place, option="out"), options)[0]
    return prepare_source(source, Path(place), options)


def read_source_of(images: Any = None, *, table: Any = None, labels: Any = None, classes: Any = None) -> "Source":
    """The source that the arguments of `prepare` name; no picture is opened.

    Raises:
        DataError: They name none, or two; or it cannot be read.
    """
    if table is not None and labels is not None:
        raise DataError(describe_argument("labels", labels), "beside table", "Give one of the two")
    if labels is not None and classes is not None:
        raise DataError(describe_argument("classes", classes), "ExpW has its own", "Leave classes or labels out")
    folder = None if images is None else Path(to_local("images", images, DataError))
    named = None if classes is None else to_local("classes", classes, DataError)
    if table is not None:
        from ferray.data.sources.table import read_table_source

        return read_table_source(Path(to_local("table", table, DataError)), folder, named)
    if folder is None:
        raise DataError("images=None", "names no pictures", "Give a folder of class folders, or table=FILE")
    if labels is not None:
        from ferray.data.sources.expw import read_expw

        return read_expw(folder, Path(to_local("labels", labels, DataError)))
    from ferray.data.sources.folders import read_folders

    return read_folders(folder, named)


def _default_margin(labels: object) -> float:
    """ExpW's boxes are narrow; those of a table are taken as they are."""
    return 0.0 if labels is None else DEFAULT_MARGIN
