"""`python -m ferray.predict`: label pictures with an exported model."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ferray.commands.common import make_parser, path_option, run_command
from ferray.errors import StorageError
from ferray.records.bucket.fetch import best_folder
from ferray.waiting import waiting
from ferray.wording import count_of

if TYPE_CHECKING:
    from ferray.predict.model import Model, Prediction, Unreadable

EXAMPLES = """\
  python -m ferray.predict runs/grid/best face.jpg                        # one JSON object a line
  python -m ferray.predict runs/grid/best faces/ --format csv --out faces.csv
  python -m ferray.predict runs/grid/best photographs/ --crop-faces       # a line for each face that is found
  python -m ferray.predict runs/grid/best boxes.csv                       # columns path, left, top, right, bottom
  find . -name '*.jpg' | python -m ferray.predict runs/grid/best -
"""

MAX_NAMED = 20
"""Pictures without a prediction that are named one by one."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of the command."""

    model: Path
    pictures: tuple[str, ...]
    format: str
    out: Path | None
    crop_faces: bool
    as_trained: bool
    device: str


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m ferray.predict") -> int:
    """Parse the arguments and label the pictures; see `--help`."""
    return run_command(lambda: _predict(_parse(argv, prog)))


def _parse(argv: Sequence[str] | None, prog: str) -> PredictOptions:
    parser = make_parser(
        prog,
        "Label pictures with the best model of a search. Pictures that cannot be read are named and skipped; the exit\n"
        "code is 1 if none could be read.",
        EXAMPLES,
    )
    parser.add_argument(
        "model", type=best_folder, metavar="MODEL", help="the folder `best` of a search: runs/NAME/best"
    )
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURES",
        help="pictures, folders of pictures, tables .csv with a column `path`, or - for a name a line on stdin",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=("jsonl", "csv"), default="jsonl", help="one JSON object a line (default), or a table"
    )
    parser.add_argument("--out", type=path_option("--out"), metavar="FILE", help="write to a file instead of stdout")
    parser.add_argument(
        "--crop-faces", action="store_true",
        help="find the faces in each picture and label each; needs scikit-image, in the extra ferray[faces]",
    )  # fmt: skip
    parser.add_argument(
        "--as-trained", action="store_true",
        help="probabilities as trained, without the temperature that was fitted on the validation pictures",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda or cuda:N")
    given = parser.parse_args(argv)
    return PredictOptions(**{**vars(given), "pictures": tuple(given.pictures)})


def _predict(options: PredictOptions) -> int:
    with waiting("importing torch"):
        from ferray.data.threads import Threads
        from ferray.predict.model import Unreadable, load
        from ferray.predict.sources import find_faces, list_pictures

    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # file names need not be text
    with waiting("listing the pictures and reading the model"):
        pictures = list_pictures(options.pictures, sys.stdin)
        model = load(options.model, device=options.device, use_temperature=not options.as_trained)
    skipped = _Skipped()
    threads = Threads(show_progress=sys.stderr.isatty() and len(pictures) > 1)
    if options.crop_faces:
        found = list(find_faces(pictures, threads=threads))
        pictures = [one for one in found if not isinstance(one, Unreadable)]
        for one in found:
            if isinstance(one, Unreadable):
                skipped.add(one)
    num_predicted, started = 0, time.perf_counter()
    with _open_out(options.out) as out:
        write = _make_writer(model, out, form=options.format, with_boxes=any(one.box for one in pictures))
        for answer in model.predict_each(pictures, threads=threads):
            if isinstance(answer, Unreadable):
                skipped.add(answer)
            else:
                num_predicted += 1
                write(answer)
    seconds = time.perf_counter() - started
    _say(_summarize(model, num_predicted, skipped.num, seconds, as_trained=options.as_trained))
    return 0 if num_predicted else 1


class _Skipped:
    """Pictures without a prediction: each is named, up to `MAX_NAMED`."""

    def __init__(self) -> None:
        self.num = 0

    def add(self, one: "Unreadable") -> None:
        self.num += 1
        if self.num <= MAX_NAMED:
            _say(f"skipped: {one.path}: {one.reason}")
        elif self.num == MAX_NAMED + 1:
            _say("skipped: further pictures are only counted")


def _summarize(model: "Model", num: int, num_skipped: int, seconds: float, *, as_trained: bool) -> str:
    parts = [f"{count_of(num, 'prediction')} in {seconds:.1f} s"]
    if num_skipped:
        parts.append(f"{count_of(num_skipped, 'picture')} skipped")
    if as_trained:
        parts.append("probabilities as trained")
    elif model.temperature == 1:
        parts.append("probabilities as trained: the model has no temperature")
    else:
        parts.append(f"probabilities at temperature {model.temperature:.3g}; --as-trained leaves it out")
    return "; ".join(parts)


def _make_writer(model: "Model", out: TextIO, *, form: str, with_boxes: bool) -> Callable[["Prediction"], None]:
    """A function that writes one prediction, in the form that was asked for."""
    from ferray.data.sources.table import BOX_COLUMNS

    columns = BOX_COLUMNS if with_boxes else ()

    def box_of(one: "Prediction") -> dict[str, int]:
        return {} if one.box is None else {name: getattr(one.box, name) for name in columns}

    def write_line(one: "Prediction") -> None:
        values = {"path": one.path, **box_of(one), "label": one.label, "confidence": one.confidence}
        print(json.dumps(values | {"probabilities": one.probabilities}), file=out)

    if form == "jsonl":
        return write_line
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["path", *columns, "label", "confidence", *(f"p_{name}" for name in model.class_names)])

    def write_row(one: "Prediction") -> None:
        box = box_of(one)
        cells = [one.path, *(box.get(name, "") for name in columns), one.label, one.confidence]
        table.writerow([*cells, *one.probabilities.values()])

    return write_row


@contextmanager
def _open_out(file: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that has its name only when it is whole."""
    if file is None:
        yield sys.stdout
        return
    is_special = file.exists() and not file.is_file()  # a folder, which is refused, or a device or a pipe
    partial = file if is_special else file.with_name(f".{file.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            yield out
        if not is_special:
            partial.replace(file)
    except OSError as error:
        raise StorageError(str(file), f"cannot be written: {error.strerror or error}", "Name another file") from error
    finally:
        if not is_special:
            partial.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
