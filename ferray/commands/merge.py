"""`python -m ferray.data merge`: one store of several. Begin at `add_merge`."""

import argparse

from ferray.commands.common import path_option
from ferray.commands.store_options import Commands, add_copies, add_source, prepare_and_print
from ferray.data.prepare.options import PrepareOptions
from ferray.data.threads import Threads

MERGE_EXAMPLES = """\
  python -m ferray.data merge data/expw data/fer2013 --out data/both            # the same classes, the same size
  python -m ferray.data merge data/ferplus data/affectnet data/rafdb --classes common --out data/three
  python -m ferray.report slices runs/first/best --by store                     # the score of each source
"""


def add_merge(commands: Commands, prog: str) -> None:
    """Add `merge`."""
    merge = add_source(
        commands, prog, "merge", help="make one store of several",
        description="Join stores of one size. Classes are mapped by name, splits are kept, and a column `store` says "
        "where each picture comes from. Copies are looked for across all stores: a picture whose copy is in a later "
        "split is left out, so that no photograph is on two sides.",
        examples=MERGE_EXAMPLES,
    )  # fmt: skip
    merge.add_argument("stores", type=path_option(""), nargs="+", metavar="STORE", help="a prepared store, two or more")
    merge.add_argument(
        "--out", required=True, metavar="DIR", help="the merged store; must not exist; or s3://BUCKET/KEY"
    )
    merge.add_argument(
        "--classes", choices=("same", "all", "common"), default="same",
        help="refuse stores with unlike classes (default); take the classes of all; or leave out the pictures of "
        "classes that a store lacks",
    )  # fmt: skip
    add_copies(merge)
    merge.set_defaults(run=_merge)


def _merge(arguments: argparse.Namespace) -> int:
    from ferray.data.sources.stores import read_stores
    from ferray.data.store.reader import open_store

    source = read_stores(arguments.stores, arguments.classes)
    options = PrepareOptions(
        size_px=open_store(arguments.stores[0]).size_px,
        copies=arguments.copies,
        drop_conflicts=arguments.drop_conflicts,
        drop_leaks=arguments.copies == "find",
        threads=Threads(show_progress=True),
    )
    return prepare_and_print(source, arguments.out, options)
