"""`python -m ferray.data`: make a store of pictures, check a data set for faults, draw demo faces, show a store."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferray.commands.common import as_typed, make_parser, run_command
from ferray.data.prepare.options import DEFAULT_MARGIN, DEFAULT_SIZE_PX, PrepareOptions, parse_shares
from ferray.data.threads import Threads
from ferray.errors import DataError

if TYPE_CHECKING:
    from ferray.data.sources.rows import Source

READ_FORMATS = """\
photographs may be JPEG, PNG, WebP, GIF, TIFF or BMP; of an animation the first frame is taken, and transparency is
ignored (docs/data.md)"""

EXAMPLES = """\
  python -m ferray.data prepare expw --images expw/origin --labels expw/label.lst --out data/expw
  python -m ferray.data prepare folders --images pets --out data/pets          # a folder for each class
  python -m ferray.data prepare csv --table pets.csv --out data/pets           # columns path, label
  python -m ferray.data check fer2013                           # copies, leaks, label noise, faults
  python -m ferray.data demo --out data/demo-photographs        # drawn by code, in ExpW's layout
  python -m ferray.data show data/expw                          # counts, and a contact sheet beside the store
"""

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
  python -m ferray.data prepare folders --images ck+ --split 70/10/20 --out data/ck        # one tree of classes
  python -m ferray.data prepare folders --images fer2013 --drop-leaks --out data/fer2013   # train without test's copies
"""

CSV_EXAMPLES = """\
  python -m ferray.data prepare csv --table pets.csv --out data/pets              # paths begin in the table's folder
  python -m ferray.data prepare csv --table pets.csv --images photographs --out data/pets
  python -m ferray.data prepare csv --table pets.csv --classes pets.yaml --out data/pets   # cat: [cat, cats]
"""

CHECK_EXAMPLES = """\
  python -m ferray.data check data/expw                         # a store
  python -m ferray.data check fer2013                           # folders: train, validation, test by class
  python -m ferray.data check fer2013.csv                       # FER2013's own file
  python -m ferray.data check expw                              # ExpW's own layout: origin/ and label.lst
  python -m ferray.data check --images expw/origin --labels expw/label.lst
  python -m ferray.data check fer2013 --strict --json > check.json     # for a script: exit code 1 at a fault
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.data") -> int:
    """Parse the arguments and run the subcommand; see `--help`."""
    return run_command(lambda: _run(_parse(argv, prog)))


def _run(arguments: argparse.Namespace) -> int:
    return int(arguments.run(arguments))


def _parse(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = make_parser(prog, "Make, check and show stores of pictures.", EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    prepare = commands.add_parser("prepare", help="make a store from photographs", allow_abbrev=False)
    sources = prepare.add_subparsers(required=True, metavar="SOURCE")
    raw = argparse.RawDescriptionHelpFormatter

    expw = sources.add_parser(
        "expw", help="ExpW's own layout: origin/ and label.lst", description="Crop the faces that a label file names.",
        epilog=_epilog(EXPW_EXAMPLES, prog), formatter_class=raw, allow_abbrev=False,
    )  # fmt: skip
    expw.add_argument("--images", type=Path, required=True, metavar="DIR", help="the photographs, ExpW's `origin`")
    expw.add_argument("--labels", type=Path, required=True, metavar="FILE", help="the list of faces, `label.lst`")
    _add_common(expw, split="shares of train/validation/test by photograph (default 70/10/20)")
    margin = f"added to each side of a box, as a fraction of its side (default {DEFAULT_MARGIN:g})"
    expw.add_argument("--margin", type=float, default=DEFAULT_MARGIN, metavar="X", help=margin)
    expw.set_defaults(run=_prepare_expw, drop_leaks=False)

    folders = sources.add_parser(
        "folders", help="folders by class, with or without a split",
        description="Take whole photographs; the name of the folder is the class.",
        epilog=_epilog(FOLDERS_EXAMPLES, prog), formatter_class=raw, allow_abbrev=False,
    )  # fmt: skip
    folders.add_argument("--images", type=Path, required=True, metavar="DIR", help="the top of the tree")
    _add_classes(folders, "the names of the folders")
    _add_common(folders, split="for a tree without a split of its own (default 70/10/20); a tree's own split is kept")
    _add_drop_leaks(folders)
    folders.set_defaults(run=_prepare_folders, margin=0.0)

    table = sources.add_parser(
        "csv", help="a table of pictures with columns path and label",
        description="Take the pictures, or the boxes in them, that a table lists: columns path and label; optional"
        " left, top, right, bottom (pixels), split, group (lines that stay in one split), and others to score by.",
        epilog=_epilog(CSV_EXAMPLES, prog), formatter_class=raw, allow_abbrev=False,
    )  # fmt: skip
    table.add_argument("--table", type=Path, required=True, metavar="FILE", help="the CSV file, with a first line")
    table.add_argument("--images", type=Path, metavar="DIR", help="where the paths begin (default: the table's folder)")
    _add_classes(table, "the labels")
    _add_common(table, split="for a table without a column split (default 70/10/20)")
    table.add_argument("--margin", type=float, default=0.0, metavar="X", help=f"{margin.split(' (')[0]} (default 0)")
    _add_drop_leaks(table)
    table.set_defaults(run=_prepare_csv)

    check = commands.add_parser(
        "check", help="find copies, leaks, label noise and faults of a data set",
        description="Report whether scores on a data set can be trusted: what was seen, why it matters, what to do.",
        epilog=_epilog(CHECK_EXAMPLES, prog), formatter_class=raw, allow_abbrev=False,
    )  # fmt: skip
    check.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="PATH",
        help="a store, folders, ExpW's folder, or a CSV file (columns path and label, or FER2013's)",
    )
    check.add_argument("--images", type=Path, metavar="DIR", help="ExpW's photographs, instead of PATH")
    check.add_argument("--labels", type=Path, metavar="FILE", help="ExpW's list of faces, instead of PATH")
    check.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    check.add_argument("--strict", action="store_true", help="exit with 1 if there is a fault")
    check.set_defaults(run=_check)

    demo = commands.add_parser("demo", help="draw demo faces in ExpW's own layout", allow_abbrev=False)
    demo.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder: origin/ and label.lst")
    demo.set_defaults(run=_demo)

    show = commands.add_parser("show", help="count a store's pictures and draw a contact sheet", allow_abbrev=False)
    show.add_argument("store", type=Path, metavar="DIR", help="a store")
    show.add_argument("--out", type=Path, metavar="PNG", help="the contact sheet (default: DIR.png, beside the store)")
    show.set_defaults(run=_show)
    return parser.parse_args(argv)


def _epilog(examples: str, prog: str) -> str:
    """What stands below the options: the formats, and examples as the command was typed."""
    return f"{READ_FORMATS}\n\nexamples:\n{as_typed(examples, prog)}"


def _add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    words = f"`expressions`, or a .yaml or .csv file of classes and the names that mean them (default: {default})"
    parser.add_argument("--classes", metavar="FILE", help=words)


def _add_drop_leaks(parser: argparse.ArgumentParser) -> None:
    clean = "leave out of train, then of validation, the copies of pictures in a later split: cleans a given split"
    parser.add_argument("--drop-leaks", action="store_true", help=clean)


def _add_common(parser: argparse.ArgumentParser, *, split: str) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the store; must not exist")
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
    parser.add_argument(
        "--copies", choices=("find", "skip"), default="find",
        help="find copies of photographs and keep them in one split, or skip the search (default find)",
    )  # fmt: skip
    parser.add_argument(
        "--drop-conflicts", action="store_true", help="leave out every picture whose copies have different labels"
    )


def _read_options(arguments: argparse.Namespace) -> PrepareOptions:
    """The options of `prepare`, checked."""
    return PrepareOptions(
        size_px=arguments.size,
        margin=arguments.margin,
        num_faces=arguments.num_faces,
        split=None if arguments.split is None else parse_shares(arguments.split),
        seed=arguments.seed,
        on_bad=arguments.on_bad,
        copies=arguments.copies,
        drop_conflicts=arguments.drop_conflicts,
        drop_leaks=arguments.drop_leaks,
        threads=Threads(show_progress=True),
    )


def _prepare_expw(arguments: argparse.Namespace) -> int:
    options = _read_options(arguments)
    from ferray.data.sources.expw import read_expw

    return _prepare(read_expw(arguments.images, arguments.labels), arguments.out, options)


def _prepare_folders(arguments: argparse.Namespace) -> int:
    options = _read_options(arguments)
    from ferray.data.sources.folders import read_folders

    return _prepare(read_folders(arguments.images, arguments.classes), arguments.out, options)


def _prepare_csv(arguments: argparse.Namespace) -> int:
    options = _read_options(arguments)
    from ferray.data.sources.table import read_table_source

    return _prepare(read_table_source(arguments.table, arguments.images, arguments.classes), arguments.out, options)


def _prepare(source: "Source", out: Path, options: PrepareOptions) -> int:
    """Prepare a store and print what it holds."""
    from ferray.data.prepare.run import prepare, skipped_file
    from ferray.data.store.summary import format_counts

    existed = out.exists()
    store = prepare(source, out, options)
    if existed and any(out.iterdir()):
        print(f"{out} is the same store already: same photographs, same settings; nothing was done")
    print(format_counts(store))
    if store.manifest.skipped:
        print(f"What was left out is listed in {skipped_file(out)}")
    sizes = store.manifest.split_sizes
    if sizes["train"] and not sizes["validation"]:
        nouns = store.manifest.shown.nouns
        print(f"It has no validation {nouns}, which a search needs; --split 90/10/0 takes some out of train")
    print(f"Search on it: python -m ferray.search --space grid --data {out}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    has_path = arguments.path is not None
    has_files = [arguments.images is not None, arguments.labels is not None]
    if has_path == all(has_files) or (has_path and any(has_files)):
        raise DataError("check", "names no data set, or two", "Give a PATH, or both --images DIR and --labels FILE")
    from ferray.audit.dataset.check import check_dataset
    from ferray.audit.dataset.report_text import format_report
    from ferray.audit.dataset.scan.photographs import scan_expw
    from ferray.audit.dataset.scan.read import scan_dataset

    threads = Threads(show_progress=True)
    if has_path:
        dataset = scan_dataset(arguments.path, threads)
    else:
        dataset = scan_expw(arguments.images, arguments.labels, threads)
    report = check_dataset(dataset)
    print(json.dumps(report.to_json(), indent=2) if arguments.json else format_report(report))
    return 1 if arguments.strict and report.has_fault else 0


def _demo(arguments: argparse.Namespace) -> int:
    from ferray.data.demo.photographs import draw_demo

    out = arguments.out
    draw_demo(out)
    print(f"{out}: demo faces drawn by code; an accuracy on them means nothing for real faces")
    print(f"Prepare them: python -m ferray.data prepare expw --images {out}/origin --labels {out}/label.lst --out DIR")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from ferray.data.store.contact_sheet import write_contact_sheet
    from ferray.data.store.reader import open_store
    from ferray.data.store.summary import format_counts

    store = open_store(arguments.store)
    print(format_counts(store))
    out = arguments.out or store.folder.with_name(f"{store.folder.name}.png")
    write_contact_sheet(store, out)
    print(f"Contact sheet: {out}")
    return 0
