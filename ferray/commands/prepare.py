"""`python -m ferray.data prepare`: a command for each source; here those of any data set, and of ExpW.

Begin at `add_prepare`.
"""

import argparse

from ferray.commands.common import path_option
from ferray.commands.public_sets import add_public_sets
from ferray.commands.store_options import (
    Commands,
    add_common,
    add_drop_leaks,
    add_margin,
    add_source,
    listing_unusable,
    prepare_and_print,
    read_options,
)
from ferray.data.prepare.options import DEFAULT_MARGIN

EXPW_EXAMPLES = """\
  python -m ferray.data prepare expw --images expw/origin --labels expw/label.lst --out data/expw
  python -m ferray.data prepare expw ... --num-faces 36000 --out data/expw-36000      # a sample, classes in proportion
  python -m ferray.data prepare expw ... --split 0/0/100 --out data/expw-test         # test faces only
  python -m ferray.data prepare expw ... --drop-conflicts --out data/expw-agreed      # without copies that disagree
"""

FOLDERS_EXAMPLES = """\
  python -m ferray.data prepare folders --images pets --out data/pets                      # any folders by class
  python -m ferray.data prepare folders --images fer2013 --size 64 --out data/fer2013      # train, validation, test
  python -m ferray.data prepare folders --images raf-db --split 90/10/0 --out data/raf-db  # validation out of train
  python -m ferray.data prepare folders --images fer2013 --drop-leaks --out data/fer2013   # train without test's copies
"""

CSV_EXAMPLES = """\
  python -m ferray.data prepare csv --table pets.csv --out data/pets              # paths begin in the table's folder
  python -m ferray.data prepare csv --table pets.csv --images photographs --out data/pets
  python -m ferray.data prepare csv --table pets.csv --classes pets.yaml --out data/pets   # cat: [cat, cats]
"""


def add_prepare(commands: Commands, prog: str) -> None:
    """Add `prepare` with a command for each source."""
    prepare = commands.add_parser("prepare", help="make a store from photographs", allow_abbrev=False)
    sources = prepare.add_subparsers(required=True, metavar="SOURCE")
    for add in (_add_expw, _add_folders, _add_csv, add_public_sets):
        add(sources, prog)


def _add_expw(sources: Commands, prog: str) -> None:
    expw = add_source(
        sources, prog, "expw", help="ExpW's own layout: origin/ and label.lst",
        description="Crop the faces that a label file names.", examples=EXPW_EXAMPLES,
    )  # fmt: skip
    expw.add_argument(
        "--images", type=path_option("--images"), required=True, metavar="DIR", help="the photographs, ExpW's `origin`"
    )
    expw.add_argument(
        "--labels", type=path_option("--labels"), required=True, metavar="FILE", help="the list of faces, `label.lst`"
    )
    add_common(expw, split="shares of train/validation/test by photograph (default 70/10/20)")
    add_margin(expw, DEFAULT_MARGIN)
    expw.set_defaults(run=_prepare_expw)


def _add_folders(sources: Commands, prog: str) -> None:
    folders = add_source(
        sources, prog, "folders", help="folders by class, with or without a split",
        description="Take whole photographs; the name of the folder is the class.", examples=FOLDERS_EXAMPLES,
    )  # fmt: skip
    folders.add_argument(
        "--images", type=path_option("--images"), required=True, metavar="DIR", help="the top of the tree"
    )
    _add_classes(folders, "the names of the folders")
    add_common(folders, split="for a tree without a split of its own (default 70/10/20); a tree's own split is kept")
    add_drop_leaks(folders)
    folders.set_defaults(run=_prepare_folders)


def _add_csv(sources: Commands, prog: str) -> None:
    table = add_source(
        sources, prog, "csv", help="a table of pictures with columns path and label",
        description="Take the pictures, or the boxes in them, that a table lists: columns path and label; optional"
        " left, top, right, bottom (pixels), split, group (lines that stay in one split), and others to score by.",
        examples=CSV_EXAMPLES,
    )  # fmt: skip
    table.add_argument(
        "--table", type=path_option("--table"), required=True, metavar="FILE", help="the CSV file, with a first line"
    )
    table.add_argument(
        "--images",
        type=path_option("--images"),
        metavar="DIR",
        help="where the paths begin (default: the table's folder)",
    )
    _add_classes(table, "the labels")
    add_common(table, split="for a table without a column split (default 70/10/20)")
    add_margin(table, 0.0)
    add_drop_leaks(table)
    table.set_defaults(run=_prepare_csv)


def _add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    words = f"`expressions`, or a .yaml or .csv file of classes and the names that mean them (default: {default})"
    parser.add_argument("--classes", metavar="FILE", help=words)


def _prepare_expw(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.sources.expw import read_expw

    return prepare_and_print(read_expw(arguments.images, arguments.labels), arguments.out, options)


def _prepare_folders(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.sources.folders import read_folders

    return prepare_and_print(read_folders(arguments.images, arguments.classes), arguments.out, options)


def _prepare_csv(arguments: argparse.Namespace) -> int:
    options = read_options(arguments)
    from ferray.data.sources.table import read_table_source

    with listing_unusable(arguments.out):
        source = read_table_source(arguments.table, arguments.images, arguments.classes)
    return prepare_and_print(source, arguments.out, options)
