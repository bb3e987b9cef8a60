"""`python -m ferray.fit`: from a folder of pictures to a model."""

import argparse
import shlex
from collections.abc import Sequence

from ferray.commands.common import make_parser, number_option, run_command
from ferray.files.location import local_path
from ferray.search.options import MAX_MINUTES, MIN_MINUTES
from ferray.signals import catch_signals
from ferray.wording import DEFAULT_OUT, short_path

EXAMPLES = """\
  python -m ferray.fit pets                             # pets/cat/1.jpg, pets/dog/1.jpg, ...: a model in 10 minutes
  python -m ferray.fit pets --minutes 60                # more minutes: larger pictures, more settings
  python -m ferray.fit pets --weights vgg16.safetensors # a file instead of the download
  python -m ferray.fit pets                             # again: goes on with what is there
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.fit") -> int:
    """Parse, prepare, check, search; see `--help`."""
    return run_command(lambda: _fit(_parse(argv, prog)))


def _parse(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    parser = make_parser(
        prog,
        "Make a model of a folder of pictures: prepare a store, check it, and search a shipped space on it for some\n"
        "minutes. Run again, it goes on with what it finds.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("images", metavar="DIR", help="a folder for each class, or train, validation and test with a folder for each")
    add("--out", metavar="DIR", default=DEFAULT_OUT, help="the search is DIR/NAME, the store DIR/NAME-store (runs)")
    add("--name", help="name of the search (default: that of the folder)")
    add(
        "--minutes",
        metavar="X",
        type=number_option(float, MIN_MINUTES, MAX_MINUTES),
        default=10.0,
        help="begin no point after so many minutes in all, and train to its end what has begun (default: 10)",
    )
    add("--weights", metavar="FILE", help="pretrained trunk: file, 'imagenet' (default, a download) or 'none'")
    add("--space", metavar="NAME|FILE", help="search space (default: grid; with a GPU and weights: finetune)")
    add("--size", metavar="PX", dest="size_px", type=int, help="side of a picture (default: what the time allows)")
    add("--classes", metavar="FILE", help="`expressions`, or a file of classes and the names that mean them")
    add(
        "--copies", choices=("find", "skip"), default="find",
        help="find copies of pictures and keep them in one split, or skip the search, as where all pictures are alike",
    )  # fmt: skip
    add("--wandb", choices=("online", "offline", "disabled"), help="as for ferray.search")
    return parser.parse_args(argv)


def _fit(arguments: argparse.Namespace) -> int:
    from ferray.api.folder import FolderOptions, run_folder
    from ferray.search.session import announce_stop

    options = FolderOptions(**vars(arguments))
    with catch_signals(on_first=announce_stop) as stop:
        plan, is_complete = run_folder(options, stop, show="text")
    if not is_complete:
        return 130
    best, pictures = shlex.quote(str(short_path(plan.run.best_dir))), shlex.quote(local_path(options.images))
    print(f"label pictures with it:\n    python -m ferray.predict {best} {pictures}")
    print(f"go on, for more minutes or without a limit:\n    {plan.resume_command} --minutes {options.minutes:g}")
    return 0
