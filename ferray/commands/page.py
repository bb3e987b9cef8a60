"""`page` of `python -m ferray.report`: the page of a search, `report.html`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from ferray.commands.common import RUN_HELP, as_typed, path_option
from ferray.errors import RecordError
from ferray.records.bucket.fetch import search_folder
from ferray.waiting import waiting
from ferray.wording import short_path

EXAMPLES = """\
  python -m ferray.report page runs/grid                                 # writes runs/grid/report.html
  python -m ferray.report page runs/grid --pictures                      # with the worst mistakes as pictures
  python -m ferray.report page runs/grid --out grid.html
"""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Options of `page`."""

    run: Path
    out: Path | None
    pictures: bool


def add_page_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `page`; `prog` is the command as it was typed."""
    text = "write the page of a search: one HTML file that opens without network or server"
    page = commands.add_parser(
        "page", help=text, description=f"{text.capitalize().replace('html', 'HTML')}.", allow_abbrev=False,
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    page.add_argument("run", type=search_folder, metavar="RUN", help=f"a search, which may still run: {RUN_HELP}")
    page.add_argument(
        "--out", type=path_option("--out"), metavar="FILE", help="where to write it (default: RUN/report.html)"
    )
    page.add_argument(
        "--pictures", action="store_true",
        help="show pictures of the data: the most confident mistakes, copies with different labels",
    )  # fmt: skip
    page.set_defaults(options=PageOptions)


def run_page(options: PageOptions) -> int:
    """Write the page and say where it is."""
    from ferray.records.bucket.run import open_folder
    from ferray.report.page.write import write_page

    if options.out is not None and options.out.is_dir():
        raise RecordError(f"--out {options.out}", "a folder", "Name a file, such as report.html")
    with waiting("reading the records and writing the page"):
        page = write_page(open_folder(options.run), out=options.out, pictures=options.pictures)
    print(f"{short_path(page.file.resolve())}: {page.num_bytes / 1e6:.1f} MB; open it in a browser")
    return 0
