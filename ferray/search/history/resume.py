"""A search that is resumed: its options come from its folder, and what is given anew may make it grow.

Begin at `recall`; `extension` says whether there is anything new in what was given.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray import space as spaces
from ferray.data.store.manifest import read_manifest
from ferray.errors import SearchError
from ferray.records.run import Run
from ferray.search.history.points import News, Note, compare, identity, last_extension
from ferray.space import Space

CHANGEABLE = (
    "max_trials", "workers_per_trial", "gpus_per_worker", "concurrent_trials", "max_failures", "replicates",
    "finalists", "keep", "wandb",
)  # fmt: skip
"""Options that may differ when a search is resumed; what decides its trials' numbers may not."""

OF_A_SPACE = ("replicates", "finalists")
"""What a space that is given anew says itself."""

MAX_LISTED = 200
"""Points that --dry-run lists."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What is on record of the search that is resumed."""

    name: str
    search: dict[str, Any]
    """The value of its `search.json`."""
    events: list[dict[str, Any]]
    """Of its journal."""
    file: Path
    """Of its space; the journal knows better what it has to say."""
    note: Note
    """Of the space that the journal's last lines belong to."""
    grown: Note | None = None
    """Of the space that it had grown to, where the journal has lost the line that says so."""

    @property
    def wanted(self) -> Note:
        """Of the space that it goes on with."""
        return self.grown or self.note


def recall(options: argparse.Namespace) -> tuple[argparse.Namespace, Past]:
    """The options of an earlier search with those that are given now; data, weights and seed must be the same.

    Data and weights may lie in another place than before.

    Args:
        options: Of the command; `resume` names the search.

    Raises:
        FerrayError: There is no such search, or it has another value of what cannot be changed.
    """
    if Path(options.resume).name != options.resume or options.resume in ("", ".", ".."):
        way_out = "Give the name alone; --out names the parent folder"
        raise SearchError(f"--resume {options.resume!r}", "not the name of a search", way_out)
    run = Run(Path(options.out) / options.resume)
    search = run.read_search()
    recorded: dict[str, Any] = search["options"]
    for name in ("data", "weights", "seed", "name"):
        given, before = getattr(options, name), options.resume if name == "name" else recorded[name]
        if given is not None and given != before and not _is_moved(name, given, search):
            what = f"the search {options.resume} has its own, {'demo faces' if before is None else before}"
            raise SearchError(f"--{name} {given}", what, f"Leave --{name} out, or start a search of another name")
    past = _read_past(run, search)
    recalled = {**vars(options), "seed": recorded["seed"]}
    for name in ("data", "weights"):  # the same, but they may have been moved
        recalled[name] = recorded[name] if recalled[name] is None else recalled[name]
    for name in CHANGEABLE:
        if recalled[name] is None and not (options.space is not None and name in OF_A_SPACE):
            recalled[name] = recorded.get(name)  # a search of an earlier version may not know of it
    return argparse.Namespace(**{**recalled, "set": merged(past.wanted.settings, options.set or ())}), past


def extension(
    past: Past, space: Space, settings: Sequence[str], *, seed: int, num_points: int | None
) -> tuple[dict[str, Any] | None, News]:
    """The journal's line that makes a search grow, None if it has this space already; and what is new in it.

    Args:
        past: The search up to now.
        space: What it is to search.
        settings: With which that was read.
        seed: Of the search.
        num_points: Of the new space in all; None for no end.

    Raises:
        SearchError: It is not the same question, or nothing is new.
    """
    earlier = past.note.space(past.file)
    for what, now, before in (
        ("metric", f"{space.metric.name} ({space.metric.goal})", f"{earlier.metric.name} ({earlier.metric.goal})"),
        ("number of folds", space.folds, earlier.folds),
    ):
        if now != before:
            way_out = "Scores that differ in it cannot be compared: give the same, or start a search of another name"
            raise SearchError(space.file, f"its {what} is {now}, but that of search {past.name} is {before}", way_out)
    news = compare(
        space,
        past.events,
        identity(past.search, space, seed=seed),
        earlier=earlier,
        seed=seed,
        num_points=num_points,
        most_listed=MAX_LISTED,
    )
    if space.text == earlier.text and spaces.parse_settings(settings) == spaces.parse_settings(past.note.settings):
        return None, news
    if (
        news.num_new == 0
        and past.grown is None
        and (space.replicates, space.finalists) == (earlier.replicates, earlier.finalists)
    ):
        raise SearchError(space.file, nothing_new(space, num_points), MORE)
    name = past.wanted.name if space.file == earlier.file else space.name
    note = Note(name=name, text=space.text, settings=tuple(settings))
    return {"event": "extend", "space": note.to_json(), "earlier": past.note.to_json()}, news


def applied(settings: Sequence[str], weights: str) -> list[str]:
    """The settings that a space is read with."""
    return merged(settings, ["weights=none"]) if weights == "none" else list(settings)


MORE = (
    "For more, give --space FILE or --set KEY=[VALUES] with more values or epochs, or a higher run_cap, --max-trials; "
    "--retry runs failed trials again"
)
"""What a search that has nothing left to do could be given."""


def nothing_new(space: Space, num_points: int | None) -> str:
    """Why a space has no new point."""
    if space.method == "grid" and num_points == spaces.num_points(space) and space.run_cap is None:
        return "every point of it is on record"
    limit = "run_cap" if num_points == space.run_cap else "--max-trials"
    return f"the {num_points} points that {limit} allows are on record" if num_points else "every point is on record"


def _is_moved(name: str, given: Any, search: dict[str, Any]) -> bool:
    """Whether a file or folder that is given under another name may hold what the search was begun with."""
    if name == "data":
        return read_manifest(Path(given)).fingerprint == str(search["data"]["fingerprint"])
    return name == "weights" and "none" not in (given, search["options"]["weights"])  # compared when they are read


def merged(before: Sequence[str], given: Sequence[str]) -> list[str]:
    """Settings, those that are given now in place of those of the same name."""
    names = {setting.partition("=")[0].strip() for setting in given}
    kept = [setting for setting in before if setting.partition("=")[0].strip() not in names]
    return [*kept, *given]


def _read_past(run: Run, search: dict[str, Any]) -> Past:
    """The search up to now; where its journal has an extension, that says what the space is."""
    events, file = run.journal().read_whole(), run.folder / "space.yaml"
    last = last_extension(events)
    # A journal that is damaged before such a line is cut off there; `search.json` knows of them all.
    lost = (search.get("extensions") or [])[sum(event.get("event") == "extend" for event in events) :]
    where = str(run.folder / "search.json")
    if last:
        note = Note.of(events[last - 1].get("space"), where=f"{run.journal().file}:{last}")
    elif lost:
        note = Note.of(lost[0].get("earlier"), where=where)
    else:
        recorded = search["options"]
        settings = applied(recorded["set"], recorded["weights"])
        text = spaces.read_space(file, spaces.parse_settings(settings)).text
        note = Note(name=str(recorded["space"]), text=text, settings=tuple(settings))
    grown = Note.of(lost[-1].get("space"), where=where) if lost else None
    return Past(name=run.name, search=search, events=events, file=file, note=note, grown=grown)
