"""`ferray.fit_folder` and `python -m ferray.fit`: from a folder of pictures to a model, in so many minutes.

It calls what the other commands call, with options that it chooses: prepare a store, check it, search a shipped space.
What it chooses follows from the number of pictures, their size, and how fast the frozen trunk is on this machine; see
`ferray.api.choices`. Run again, it goes on: a store that is there is opened, a search that is there is resumed.

Begin at `run_folder`.
"""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ferray.api.arguments import AnyPath, make_options, to_path
from ferray.api.choices import Choice, backbone_of_space, check_enough, check_split, choose_options, find_split
from ferray.api.epochs import EpochCallback, OnEpoch
from ferray.api.preparing import read_source_of
from ferray.api.results import SearchResult
from ferray.data.prepare.options import OnCopies, PrepareOptions
from ferray.data.threads import Threads
from ferray.errors import DataError
from ferray.files import storage
from ferray.files.location import local_path
from ferray.search.options import MAX_MINUTES, MIN_MINUTES, SearchOptions, Show, WandbMode
from ferray.search.plan import check_name
from ferray.search.preflight import check_variables
from ferray.search.session import announce_stop, run_session
from ferray.signals import StopRequest, catch_signals
from ferray.waiting import waiting
from ferray.wording import DEFAULT_OUT, count_of, duration_text

if TYPE_CHECKING:
    from ferray.data.sources.rows import Source
    from ferray.data.store.reader import Store
    from ferray.search.plan import Plan
    from ferray.search.tune.loop import Observer

DEFAULT_MINUTES = 10.0

MAX_FINDINGS = 5
"""Findings of the check that are shown; `ferray.data check` has all, with reasons and advice."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """What `ferray fit` was asked for; None stands for an option that was not given."""

    images: str
    """Folder with a folder for each class, or train, validation and test with these."""
    out: str = DEFAULT_OUT
    """Parent folder: the search is `OUT/NAME`, the store `OUT/NAME-store`."""
    name: str | None = None
    """None for that of the folder of the pictures."""
    minutes: Annotated[float, Field(ge=MIN_MINUTES, le=MAX_MINUTES)] = DEFAULT_MINUTES
    """After so many minutes in all no further point is begun."""
    weights: str | None = None
    """`imagenet`, `none` or a file; None for `imagenet`."""
    space: str | None = None
    """None to choose a shipped one."""
    size_px: int | None = None
    """Side of a picture in the store; None to choose."""
    classes: str | None = None
    """As for `ferray data prepare folders`."""
    copies: OnCopies = "find"
    """Whether to look for copies of pictures, which are kept in one split."""
    wandb: WandbMode | None = None

    @property
    def run_name(self) -> str:
        """The name of the search."""
        return self.name or Path(self.images).resolve().name

    @property
    def run_dir(self) -> Path:
        """The folder of the search."""
        return Path(self.out) / self.run_name

    @property
    def store_dir(self) -> Path:
        """The folder of the store."""
        return Path(self.out) / f"{self.run_name}-store"

    @property
    def command(self) -> str:
        """The command that does the same, with the options that are not left to it."""
        given = {
            "--out": None if self.out == DEFAULT_OUT else self.out,
            "--name": self.name,
            "--minutes": f"{self.minutes:g}",
            "--weights": self.weights,
            "--space": self.space,
            "--size": self.size_px,
            "--classes": self.classes,
            "--copies": None if self.copies == "find" else self.copies,
            "--wandb": self.wandb,
        }
        words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        return shlex.join(["python", "-m", "ferray.fit", self.images, *words])


def fit_folder(
    images: AnyPath,
    *,
    out: AnyPath = DEFAULT_OUT,
    name: str | None = None,
    minutes: float = DEFAULT_MINUTES,
    weights: AnyPath | None = None,
    space: AnyPath | None = None,
    size_px: int | None = None,
    classes: AnyPath | None = None,
    copies: OnCopies = "find",
    wandb: WandbMode | None = None,
    on_epoch: OnEpoch | None = None,
) -> SearchResult:
    """Prepare a folder of pictures, check it, and search a space on it, as `python -m ferray.fit` does.

    Called again, it goes on with what it finds: a store is opened, a search resumed. Further points are begun for so
    many minutes more.

    Args:
        images: Folder with a folder for each class, or train, validation and test with these.
        out: Parent folder: the search is `OUT/NAME`, the store `OUT/NAME-store`.
        name: Of the search; None for that of the folder.
        minutes: Begin no point after so many minutes in all, and train to its end what has begun.
        weights: `imagenet`, the default, is downloaded once; or a file; or `none`.
        space: Name of a shipped space, or a sweep file; None to choose `grid`, or `finetune` with a GPU.
        size_px: Side of a picture in the store; None to choose what the time allows.
        classes: `expressions`, or a file of classes and the names that mean them; None for the names of the folders.
        copies: Find copies of pictures and keep them in one split, or do not look, as where all pictures are alike.
        wandb: As for `ferray.search`.
        on_epoch: As for `ferray.search`.

    Raises:
        FerrayError: Place, fault and way out, such as too few pictures of a class, or weights without a network.
        KeyboardInterrupt: It was interrupted; called again, it goes on.
    """
    given = dict(locals())
    del given["on_epoch"]
    for one in ("images", "out", "weights", "space", "classes"):
        if given[one] is not None:
            given[one] = to_path(one, given[one], DataError)
    options = make_options(FolderOptions, given, DataError)
    storage.give_home()
    with catch_signals(on_first=announce_stop) as stop:
        callback = None if on_epoch is None else EpochCallback(on_epoch, stop)
        plan, is_complete = run_folder(options, stop, observers=[callback] if callback else [])
    if callback is not None and callback.error is not None:
        raise callback.error
    if not is_complete:
        raise KeyboardInterrupt("every finished epoch is kept; call it again to go on")
    return SearchResult(plan.run.folder)


def run_folder(
    options: FolderOptions,
    stop: StopRequest,
    *,
    show: Show = "nothing",
    observers: "Sequence[Observer]" = (),
) -> tuple["Plan", bool]:
    """Prepare, check, search.

    Args:
        options: What was asked for.
        stop: As for `run_session`, like the other two.
        show: What is printed on stdout at the end.
        observers: Informed of trials and epochs.

    Returns:
        The plan of the search, and whether it came to its end.

    Raises:
        FerrayError: Place, fault and way out.
    """
    deadline = time.monotonic() + 60 * options.minutes
    options = _of_this_machine(options)
    with stop.raised():
        # What the search would refuse after the pictures are prepared, which takes minutes.
        check_name(options.run_name)
        check_variables(options.wandb)
        for folder in (options.run_dir, storage.cache_dir()):
            storage.check_folder(folder, "Name another folder: --out, or FERRAY_CACHE for the cache")
        source = read_source_of(options.images, classes=options.classes)
        check_enough(source)
        choice = _choose(options, source)
        num_classes = len(source.classes.names)
        _say(f"pictures: {count_of(len(source.faces), 'picture')} in {num_classes} classes; {choice.reason}")
        store = _prepare(source, options, choice)
        check_split(store, source)
        _check(store)
    minutes = max(MIN_MINUTES, (deadline - time.monotonic()) / 60)
    return run_session(_search_options(options, choice, minutes), stop, show=show, observers=observers)


def _of_this_machine(options: FolderOptions) -> FolderOptions:
    """The options with paths where they name `file://`; what names a bucket is refused."""
    given = ((name, getattr(options, name)) for name in ("images", "out", "weights", "space", "classes"))
    paths: dict[str, Any] = {
        name: local_path(text, option="" if name == "images" else f"--{name}")
        for name, text in given
        if text is not None
    }
    return replace(options, **paths)


def _choose(options: FolderOptions, source: "Source") -> Choice:
    """Sizes and settings; a store that is there already has its size, and its search its settings."""
    from ferray.data.store.manifest import read_manifest
    from ferray.model.weights import load_weights

    with waiting("reading the pretrained weights, or fetching them once"):
        weights = load_weights(options.weights or "imagenet", backbone_of_space(options.space))
    size_px = options.size_px
    if (options.store_dir / "manifest.json").is_file():
        size_px = read_manifest(options.store_dir).size_px
    with waiting("measuring how fast the frozen layers are here"):
        return choose_options(source, weights, minutes=options.minutes, space=options.space, size_px=size_px)


def _prepare(source: "Source", options: FolderOptions, choice: Choice) -> "Store":
    from ferray.data.prepare.run import prepare, skipped_file

    wanted = PrepareOptions(
        size_px=choice.size_px,
        margin=0.0,
        split=find_split(source),
        copies=options.copies,
        threads=Threads(show_progress=True),
    )
    store = prepare(source, options.store_dir, wanted)
    if store.manifest.skipped:
        num = sum(store.manifest.skipped.values())
        _say(f"{count_of(num, 'picture')} left out, listed in {skipped_file(options.store_dir)}")
    return store


def _check(store: "Store") -> None:
    """Show what the check of the data set finds, the most severe first."""
    from ferray.audit.dataset.check import check_dataset
    from ferray.audit.dataset.scan.decoded import scan_store
    from ferray.audit.finding import count_severities

    with waiting("checking the pictures"):
        findings = check_dataset(scan_store(store.folder, Threads(), copies=store.manifest.copies)).findings
    _say(f"check: {count_severities(findings) or 'no fault, no warning, no note'}")
    for finding in findings[:MAX_FINDINGS]:
        _say(f"  {finding.severity:8} {finding.seen}")
    if findings:
        _say(f"  reasons and advice: python -m ferray.data check {shlex.quote(str(store.folder))}")


def _search_options(options: FolderOptions, choice: Choice, minutes: float) -> SearchOptions:
    """A search of the chosen space, or the one that is there."""
    base = SearchOptions(out=options.out, minutes=minutes, wandb=options.wandb)
    if (options.run_dir / "search.json").exists():
        _say(f"search: goes on with {options.run_dir}, for {duration_text(60 * minutes)} more")
        return replace(base, resume=options.run_name)
    _say(f"search: space {choice.space}, no new points after {duration_text(60 * minutes)}")
    return replace(
        base,
        space=choice.space,
        settings=choice.settings,
        data=str(options.store_dir),
        weights=options.weights or "imagenet",
        name=options.run_name,
        command=options.command,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
