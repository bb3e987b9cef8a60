"""`python -m ferray.data`: make and merge stores of pictures, check a data set, draw demo faces, show a store."""

import argparse
import json
import shlex
from collections.abc import Sequence

from ferray.commands.common import as_typed, make_parser, path_option, run_command
from ferray.commands.merge import add_merge
from ferray.commands.prepare import add_prepare
from ferray.commands.store_options import READ_FORMATS
from ferray.data.threads import Threads
from ferray.errors import DataError

EXAMPLES = """\
  python -m ferray.data prepare expw --images expw/origin --labels expw/label.lst --out data/expw
  python -m ferray.data prepare folders --images pets --out data/pets          # a folder for each class
  python -m ferray.data prepare csv --table pets.csv --out data/pets           # columns path, label
  python -m ferray.data prepare fer2013 --csv fer2013.csv --size 64 --out data/fer2013    # or rafdb, affectnet, ckplus
  python -m ferray.data merge data/expw data/fer2013 --out data/both           # one store of several
  python -m ferray.data check fer2013                           # copies, leaks, label noise, faults
  python -m ferray.data demo --out data/demo-photographs        # drawn by code, in ExpW's layout
  python -m ferray.data show data/expw                          # counts, and a contact sheet beside the store
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
    add_prepare(commands, prog)
    add_merge(commands, prog)

    check = commands.add_parser(
        "check", help="find copies, leaks, label noise and faults of a data set",
        description="Report whether scores on a data set can be trusted: what was seen, why it matters, what to do.",
        epilog=f"{READ_FORMATS}\n\nexamples:\n{as_typed(CHECK_EXAMPLES, prog)}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    check.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="a store, folders, ExpW's folder, or a CSV file (columns path and label, or FER2013's)",
    )
    check.add_argument(
        "--images", type=path_option("--images"), metavar="DIR", help="ExpW's photographs, instead of PATH"
    )
    check.add_argument(
        "--labels", type=path_option("--labels"), metavar="FILE", help="ExpW's list of faces, instead of PATH"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    check.add_argument("--strict", action="store_true", help="exit with 1 if there is a fault")
    check.set_defaults(run=_check)

    demo = commands.add_parser("demo", help="draw demo faces in ExpW's own layout", allow_abbrev=False)
    demo.add_argument(
        "--out", type=path_option("--out"), required=True, metavar="DIR", help="a new folder: origin/ and label.lst"
    )
    demo.set_defaults(run=_demo)

    show = commands.add_parser("show", help="count a store's pictures and draw a contact sheet", allow_abbrev=False)
    show.add_argument("store", metavar="DIR", help="a store")
    show.add_argument(
        "--out", type=path_option("--out"), metavar="PNG", help="the contact sheet (default: DIR.png, beside the store)"
    )
    show.set_defaults(run=_show)
    return parser.parse_args(argv)


def _check(arguments: argparse.Namespace) -> int:
    has_path = arguments.path is not None
    has_files = [arguments.images is not None, arguments.labels is not None]
    if has_path == all(has_files) or (has_path and any(has_files)):
        raise DataError("check", "names no data set, or two", "Give a PATH, or both --images DIR and --labels FILE")
    from ferray.audit.dataset.check import check_dataset
    from ferray.audit.dataset.report_text import format_report
    from ferray.audit.dataset.scan.photographs import scan_expw
    from ferray.audit.dataset.scan.read import scan_dataset
    from ferray.data.store.fetched import find_store

    threads = Threads(show_progress=True)
    if has_path:
        dataset = scan_dataset(find_store(arguments.path, option="check"), threads)
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
    images, labels = shlex.quote(str(out / "origin")), shlex.quote(str(out / "label.lst"))
    print(f"Prepare them: python -m ferray.data prepare expw --images {images} --labels {labels} --out DIR")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from ferray.data.store.contact_sheet import write_contact_sheet
    from ferray.data.store.fetched import find_store
    from ferray.data.store.reader import open_store
    from ferray.data.store.summary import format_counts

    store = open_store(find_store(arguments.store, option="show"))
    print(format_counts(store))
    out = arguments.out or store.folder.with_name(f"{store.folder.name}.png")
    write_contact_sheet(store, out)
    print(f"Contact sheet: {out}")
    return 0
