"""`compare` of `python -m ferray.report`: searches side by side, or one before and after it grew."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from ferray.commands.common import RUN_HELP, as_typed, number_option, path_option
from ferray.errors import RecordError
from ferray.records.bucket.fetch import search_folder
from ferray.waiting import waiting
from ferray.wording import short_path

EXAMPLES = """\
  python -m ferray.report compare runs/grid runs/asha                    # in the terminal
  python -m ferray.report compare runs/grid runs/asha --out compared.html
  python -m ferray.report compare runs/grid runs/asha --json
  python -m ferray.report compare runs/grid                              # before and after it was extended
  python -m ferray.report compare runs/grid --before 24                  # its trials 0 to 23 and all
"""


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of `compare`."""

    runs: list[Path]
    before: int | None
    out: Path | None
    force: bool
    json: bool


def add_compare_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", prog: str) -> None:
    """The parser of `compare`; `prog` is the command as it was typed."""
    text = "compare searches: what differs, which winner is better, and what each had found at equal budget"
    compare = commands.add_parser(
        "compare", help=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{text.capitalize()}.\nThe test split is not read.".replace("and what", "and\nwhat"),
        epilog=f"examples:\n{as_typed(EXAMPLES, prog)}",
    )  # fmt: skip
    compare.add_argument(
        "runs", type=search_folder, nargs="+", metavar="RUN",
        help=f"searches, which may still run: {RUN_HELP}; one alone is compared with itself before it grew",
    )  # fmt: skip
    compare.add_argument(
        "--before", type=number_option(int, 1, 10**9), metavar="N",
        help="of one search: its trials below number N against all (default: before each extension in its journal)",
    )  # fmt: skip
    compare.add_argument("--out", type=path_option("--out"), metavar="FILE", help="write a page, too: one HTML file")
    compare.add_argument(
        "--force", action="store_true", help="show searches whose validation pictures differ side by side anyway"
    )
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    compare.set_defaults(options=CompareOptions)


def run_compare(options: CompareOptions) -> int:
    """Compare, print, and write the page that was asked for."""
    from ferray.report.results.compared.comparison import compare_searches
    from ferray.report.results.compared.searches import read_compared

    if options.out is not None and options.out.is_dir():
        raise RecordError(f"--out {options.out}", "a folder", "Name a file, such as compared.html")
    with waiting("reading the records and comparing the winners"):
        searches = read_compared(options.runs, before=options.before, force=options.force)
        comparison = compare_searches(searches)
    written = None
    if options.out is not None:
        from ferray.report.page.write import write_comparison

        with waiting("writing the page"):
            written = write_comparison(comparison, options.out)
    if options.json:
        print(json.dumps(comparison.to_json(), indent=2))
        return 0
    from ferray.report.compared import format_comparison

    print(format_comparison(comparison))
    if written is not None:
        print(f"\n{short_path(written.file.resolve())}: {written.num_bytes / 1e6:.1f} MB; open it in a browser")
    return 0
