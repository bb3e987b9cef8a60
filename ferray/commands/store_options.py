"""What all commands that make a store share: their options, and the table that they print. Begin at `add_source`."""

import argparse
import shlex
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ferray.commands.common import as_typed
from ferray.data.prepare.options import DEFAULT_SIZE_PX, PrepareOptions, parse_shares
from ferray.data.threads import Threads
from ferray.files.location import is_address, read_location, to_address

if TYPE_CHECKING:
    from ferray.data.sources.rows import Source
    from ferray.data.store.reader import Store

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `add_subparsers` returns."""

READ_FORMATS = """\
photographs may be JPEG, PNG, WebP, GIF, TIFF or BMP; of an animation the first frame is taken, and transparency is
ignored (docs/data.md)"""


def add_source(
    commands: Commands,
    prog: str,
    name: str,
    *,
    help: str,
    description: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A command that makes a store, with examples as the command was typed."""
    formats = "" if name in ("merge", "fer2013") else f"{READ_FORMATS}\n\n"
    return commands.add_parser(
        name, help=help, description=textwrap.fill(description, 100),
        epilog=f"{formats}examples:\n{as_typed(examples, prog)}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip


def add_common(parser: argparse.ArgumentParser, *, split: str) -> None:
    """The options that every source has; `split` says what its `--split` does."""
    parser.add_argument("--out", required=True, metavar="DIR", help="the store; must not exist; or s3://BUCKET/KEY")
    parser.add_argument(
        "--size", type=int, default=DEFAULT_SIZE_PX, metavar="PX", help=f"side of a picture (default {DEFAULT_SIZE_PX})"
    )
    parser.add_argument(
        "--num-faces", type=int, metavar="N", help="draw N pictures, classes in their own proportion (default: all)"
    )
    parser.add_argument("--split", metavar="A/B/C", help=split)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the sample and the split (default 0)")
    parser.add_argument(
        "--on-bad", choices=("skip", "fail"), default="skip",
        help="leave out and list what cannot be used, or fail at the first fault (default skip)",
    )  # fmt: skip
    add_copies(parser)


def add_copies(parser: argparse.ArgumentParser) -> None:
    """What is done about copies."""
    parser.add_argument(
        "--copies", choices=("find", "skip"), default="find",
        help="find copies of photographs and keep them in one split, or skip the search (default find)",
    )  # fmt: skip
    parser.add_argument(
        "--drop-conflicts", action="store_true", help="leave out every picture whose copies have different labels"
    )


def add_margin(parser: argparse.ArgumentParser, default: float) -> None:
    """For sources with boxes."""
    margin = f"added to each side of a box, as a fraction of its side (default {default:g})"
    parser.add_argument("--margin", type=float, default=default, metavar="X", help=margin)


def add_drop_leaks(parser: argparse.ArgumentParser) -> None:
    """For sources that bring a split."""
    clean = "leave out of train, then of validation, the copies of pictures in a later split: cleans a given split"
    parser.add_argument("--drop-leaks", action="store_true", help=clean)


def read_options(arguments: argparse.Namespace) -> PrepareOptions:
    """The options of `prepare`, checked."""
    return PrepareOptions(
        size_px=arguments.size,
        margin=getattr(arguments, "margin", 0.0),
        num_faces=arguments.num_faces,
        split=None if arguments.split is None else parse_shares(arguments.split),
        seed=arguments.seed,
        on_bad=arguments.on_bad,
        copies=arguments.copies,
        drop_conflicts=arguments.drop_conflicts,
        drop_leaks=getattr(arguments, "drop_leaks", False),
        threads=Threads(show_progress=True),
    )


def prepare_and_print(source: "Source", out: str, options: PrepareOptions) -> int:
    """Prepare a store, in a folder or for a bucket, and print what it holds."""
    from ferray.data.store.summary import format_counts

    location = read_location(out, option="--out")
    store, skipped = _prepare(source, location, options)
    print(format_counts(store))
    if store.manifest.skipped:
        print(f"What was left out is listed in {skipped}")
    sizes = store.manifest.split_sizes
    if sizes["train"] and not sizes["validation"]:
        nouns = store.manifest.shown.nouns
        print(f"It has no validation {nouns}, which a search needs; --split 90/10/0 takes some out of train")
    print(f"Search on it: python -m ferray.search --space grid --data {shlex.quote(location)}")
    return 0


@contextmanager
def listing_unusable(out: str) -> Iterator[None]:
    """While a source is read: leave the list of what cannot be used where nothing can; none is sent to a bucket."""
    from ferray.data.prepare.run import list_unusable

    location = read_location(out, option="--out")
    with nullcontext() if is_address(location) else list_unusable(Path(location)):
        yield


def _prepare(source: "Source", out: str, options: PrepareOptions) -> "tuple[Store, str]":
    """The store, and where it is listed what was left out."""
    from ferray.data.prepare.run import prepare, skipped_file
    from ferray.data.prepare.send import prepare_and_send

    if is_address(out):
        store, listed = prepare_and_send(source, to_address(out, option="--out"), options)
        return store, str(listed)
    folder = Path(out)
    existed = folder.exists()
    store = prepare(source, folder, options)
    if existed and any(folder.iterdir()):
        print(f"{folder} is the same store already: same photographs, same settings; nothing was done")
    return store, str(skipped_file(folder))
