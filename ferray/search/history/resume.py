"""A search that is resumed: its options come from its records, and what is given anew may extend it.

Begin at `recall`; `make_extension` says whether there is anything new in what was given.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ferray import space as spaces
from ferray.data.store.fetched import read_manifest_of
from ferray.errors import SearchError
from ferray.records.bucket.run import find_run
from ferray.records.events import ExtendEvent, SpaceSource, num_earlier_lines
from ferray.records.search_file import SearchFile
from ferray.search.history.points import Additions, find_additions, read_source
from ferray.search.history.recorded import History, read_history
from ferray.search.options import SearchOptions
from ferray.space import Space

CHANGEABLE = (
    "max_trials", "workers_per_trial", "gpus_per_worker", "concurrent_trials", "max_failures", "replicates",
    "finalists", "keep", "wandb", "tensorboard", "mlflow",
)  # fmt: skip
"""Options that may differ when a search is resumed; options that decide its trials' numbers may not."""

OF_A_SPACE = ("replicates", "finalists")
"""Options that a space can set itself; a new space's own values win over the recorded ones."""

MORE = (
    "For more, give --space FILE or --set KEY=[VALUES] with more values or epochs, a higher run_cap (--set run_cap=N) "
    "or --max-trials; --retry runs failed trials again"
)
"""What a search that has nothing left to do could be given."""


@dataclass(frozen=True, kw_only=True)
class RecordedSpaces:
    """The spaces of a search that its records know."""

    file: Path
    """`space.yaml`, named in messages; the journal is the source of its content."""
    current: SpaceSource
    """That the journal's last events belong to."""
    lost: SpaceSource | None = None
    """That the search was extended by, where the journal has lost the event that says so."""

    @property
    def wanted(self) -> SpaceSource:
        """That the search goes on with."""
        return self.lost or self.current


@contextmanager
def open_history(options: SearchOptions) -> Iterator[History]:
    """The records of the search that is resumed, under its folder's lock; a dry run reads them without.

    Raises:
        SearchError: Not the name of a search.
        RecordError: There is no search of this name, or its records cannot be read.
        StorageError: Another process has the lock.
    """
    name = options.resume or ""
    if Path(name).name != name or name in ("", ".", ".."):
        raise SearchError(
            f"--resume {name!r}", "not the name of a search", "Give the name alone; --out names the parent folder"
        )
    run = find_run(options.out, name, use="fetched" if options.dry_run else "runs")
    run.check_exists()
    with nullcontext() if options.dry_run else run.lock():
        run.fetch()
        yield read_history(run)


def recall(options: SearchOptions, history: History, recorded_spaces: RecordedSpaces) -> SearchOptions:
    """The recorded options of a search, with those that are given now in their place; data and weights may have moved.

    Args:
        options: Of the command.
        history: The search that it resumes.
        recorded_spaces: Of that search.

    Raises:
        SearchError: An option that cannot be changed has another value.
    """
    search = history.search
    recorded = search.options
    for name, given, before in (
        ("data", options.data, recorded.data),
        ("weights", options.weights, recorded.weights),
        ("seed", options.seed, recorded.seed),
        ("name", options.name, history.run.name),
    ):
        if given is not None and given != before and not _is_moved(name, str(given), search):
            what = f"the search {history.run.name} has its own, {'demo faces' if before is None else before}"
            raise SearchError(f"--{name} {given}", what, f"Leave --{name} out, or start a search of another name")
    kept: dict[str, Any] = {"seed": recorded.seed}
    has_space = options.space is not None or options.space_text is not None
    for name in ("data", "weights", *CHANGEABLE):
        if getattr(options, name) is None and (not has_space or name not in OF_A_SPACE):
            kept[name] = getattr(recorded, name)
    settings = merge_settings(recorded_spaces.wanted.settings, options.settings)
    return replace(options, **kept, settings=settings)


def find_spaces(history: History) -> RecordedSpaces:
    """The space of a search; where its journal has an extension, that says what the space is.

    Raises:
        FerrayError: The space cannot be read.
    """
    events, file = history.decisions.events, history.run.space_file
    num_earlier = num_earlier_lines(events)
    # A journal that is damaged before an extension is cut off there; `search.json` has all extensions.
    extensions = history.search.extensions or ()
    lost = extensions[len(history.decisions.of_kind(ExtendEvent)) :]
    if num_earlier:
        last = events[num_earlier - 1]
        assert isinstance(last, ExtendEvent)
        current = last.space
    elif lost:
        current = lost[0].earlier
    else:
        options = history.search.options
        settings = settings_with_weights(options.set, options.weights)
        text = spaces.read_space(file, spaces.parse_settings(settings)).text
        current = SpaceSource(name=str(options.space), text=text, settings=settings)
    return RecordedSpaces(file=file, current=current, lost=lost[-1].space if lost else None)


def make_extension(
    history: History, recorded: RecordedSpaces, space: Space, settings: Sequence[str], *, num_points: int | None
) -> tuple[ExtendEvent | None, Additions]:
    """The event that extends a search by a space, None if it has this space already; and what the space adds.

    Args:
        history: The search.
        recorded: Its spaces.
        space: What it is to search.
        settings: With which that was read.
        num_points: Of the new space in all; None for no limit.

    Raises:
        SearchError: Scores of the new space could not be compared with those on record, or nothing is new.
    """
    earlier = read_source(recorded.current, recorded.file)
    _check_comparable(space, earlier, history.run.name)
    additions = find_additions(history, space, earlier=earlier, num_points=num_points)
    same_settings = spaces.parse_settings(settings) == spaces.parse_settings(recorded.current.settings)
    if space.text == earlier.text and same_settings:
        return None, additions
    same_finals = (space.replicates, space.finalists) == (earlier.replicates, earlier.finalists)
    if additions.num_new == 0 and recorded.lost is None and same_finals:
        raise SearchError(space.file, _explain_nothing_new(space, num_points), MORE)
    name = recorded.wanted.name if space.file == earlier.file else space.name
    source = SpaceSource(name=name, text=space.text, settings=tuple(settings))
    return ExtendEvent(space=source, earlier=recorded.current), additions


def settings_with_weights(settings: Sequence[str], weights: str) -> tuple[str, ...]:
    """The settings that a space is read with: `--weights none` is one, too."""
    return merge_settings(settings, ("weights=none",)) if weights == "none" else tuple(settings)


def merge_settings(before: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """Settings, those that are given now in place of those of the same name."""
    names = {setting.partition("=")[0].strip() for setting in given}
    return (*(setting for setting in before if setting.partition("=")[0].strip() not in names), *given)


def _check_comparable(space: Space, earlier: Space, name: str) -> None:
    """That scores of two spaces can be compared."""
    for what, now, before in (
        ("metric", f"{space.metric.name} ({space.metric.goal})", f"{earlier.metric.name} ({earlier.metric.goal})"),
        ("number of folds", space.folds, earlier.folds),
    ):
        if now != before:
            way_out = "Scores that differ in it cannot be compared: give the same, or start a search of another name"
            raise SearchError(space.file, f"its {what} is {now}, but that of search {name} is {before}", way_out)


def _is_moved(name: str, given: str, search: SearchFile) -> bool:
    """Whether a file or folder that is given under another name may hold what the search was begun with."""
    if name == "data":
        return read_manifest_of(given).fingerprint == search.data.fingerprint
    return name == "weights" and "none" not in (given, search.options.weights)  # compared when they are read


def _explain_nothing_new(space: Space, num_points: int | None) -> str:
    """Why a space has no new point."""
    if num_points == spaces.num_existing_points(space) != space.run_cap:
        return "every point of it is on record"
    limit = "run_cap" if num_points == space.run_cap else "--max-trials"
    return f"the {num_points} points that {limit} allows are on record" if num_points else "every point is on record"
