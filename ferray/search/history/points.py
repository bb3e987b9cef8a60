"""Which trials a search has asked for, as points of a space, and what a space adds to them.

A search can be resumed with another space. The journal has a line where that happened, with both spaces, and only
trials that are new are trained: trials of earlier spaces are matched with points of the new one by trial id, which
covers recipe, data, weights and the version of all numbers. Nothing here needs Ray or torch, so that `--dry-run` can
say what is new.

Begin at `find_additions`; `known_trials` reads the events.
"""

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ferray import recipe as recipes
from ferray import space as spaces
from ferray.data.store.fetched import read_manifest_of
from ferray.errors import FerrayError
from ferray.recipe import FIELD_NAMES, Recipe
from ferray.records.events import Event, ExtendEvent, SpaceSource, SuggestEvent, ended_trials
from ferray.records.search_file import SearchFile
from ferray.report.wording import setting_text
from ferray.search.history.recorded import History
from ferray.space import Parameter, Space
from ferray.wording import count_of

log = logging.getLogger(__name__)

Identify = Callable[[dict[str, Any]], str]
"""The trial id of a point."""

MAX_LISTED = 200
"""New points that `--dry-run` lists."""

MAX_REPEATS = 1000
"""Draws in a row that repeat an earlier point, after which a random space counts as exhausted."""


@dataclass(frozen=True)
class Suggestion:
    """A trial to be run next."""

    number: int
    trial_id: str
    point: dict[str, Any]
    num_reported: int = 0
    """Epochs that were already reported to searcher and scheduler."""


@dataclass(frozen=True, kw_only=True)
class KnownTrial:
    """A trial that the search has asked for."""

    number: int
    trial_id: str
    values: dict[str, Any]
    """Every setting of its recipe, before precision and size are settled."""


@dataclass(frozen=True, kw_only=True)
class Additions:
    """What a space adds to a search; points, not trials."""

    points: tuple[dict[str, Any], ...] | None
    """The new ones, `MAX_LISTED` at most; None where they are suggested one after the other."""
    num_new: int | None
    """None where the number has no limit."""
    num_known: int
    """Points of the space that the search has asked for already."""
    num_unfinished: int
    """Trials that have begun and not ended; they are continued."""
    left_out: tuple[KnownTrial, ...]
    """Trials that the space does not ask for; they stay on record and in the ranking."""


def recipe_of_point(space: Space, point: Mapping[str, Any], *, seed: int) -> Recipe:
    """The recipe of a point of a space; a point that names every setting is complete and taken as it is.

    Points of earlier spaces and of the finals are complete.

    Args:
        space: As for `ferray.space.to_recipe`.
        point: A few settings, or all.
        seed: Training seed, unless the point or the space has its own.

    Raises:
        FerrayError: The point is no recipe.
    """
    if len(point) == len(FIELD_NAMES):
        return recipes.make_recipe(point, where=space.file)
    return spaces.to_recipe(space, point, seed=seed)


def read_source(source: SpaceSource, file: Path | None = None) -> Space:
    """Read a space that the journal has kept.

    Args:
        source: The space.
        file: Named in messages; None for the space's own name.

    Raises:
        SpaceError: It is no space.
    """
    path = file or Path(f"{Path(source.name).name}.yaml")
    return spaces.read_space(path, spaces.parse_settings(source.settings), text=source.text)


def known_trials(events: Sequence[Event], space: Space, *, seed: int) -> dict[int, KnownTrial]:
    """The trials that were asked for, by number, each with all the settings that its own space gave it.

    Args:
        events: Of the search proper.
        space: The one that the events after the last extension belong to.
        seed: Search seed.

    Raises:
        FerrayError: A space cannot be read, or a point is no recipe.
    """
    known: dict[int, KnownTrial] = {}
    pending: list[SuggestEvent] = []  # until the space that asked for them is known

    def settle(of: Space) -> None:
        for event in pending:
            values = recipes.to_values(recipe_of_point(of, event.point, seed=seed))
            known[event.number] = KnownTrial(number=event.number, trial_id=event.trial_id, values=values)
        pending.clear()

    for event in events:
        if isinstance(event, SuggestEvent):
            pending.append(event)
        elif isinstance(event, ExtendEvent) and pending:
            settle(read_source(event.earlier))
    settle(space)
    return known


def as_point(space: Space, known: KnownTrial, identify: Identify) -> dict[str, Any] | None:
    """A known trial as a point of a space; None if it is none.

    Args:
        space: Perhaps not the one that asked for it.
        known: The trial.
        identify: The trial id of a point of the space.
    """
    searched = [parameter for parameter in space.parameters if parameter.searched]
    point = {parameter.name: known.values[parameter.name] for parameter in searched}
    if not all(_allows(parameter, point[parameter.name]) for parameter in searched):
        return None  # the trial id decides on what is not searched
    if space.folds > 1:
        point["fold"] = known.values["fold"]
    try:
        return point if identify(point) == known.trial_id else None
    except FerrayError:  # values that do not go together in this space
        return None


def next_new(draws: Iterator[dict[str, Any]], seen: Collection[str], identify: Identify) -> dict[str, Any] | None:
    """The next point that was not asked for before; None if there is none left.

    Args:
        draws: Points of a grid, or random ones without end.
        seen: Trial ids.
        identify: The trial id of a point.
    """
    for repeats, point in enumerate(draws):
        if identify(point) not in seen:
            return point
        if repeats > MAX_REPEATS + len(seen):
            log.warning("no new point in %d draws: the space is exhausted", repeats)
            return None
    return None


def draw_points(space: Space, *, seed: int) -> Iterator[dict[str, Any]]:
    """The points of a grid, or random ones without end: a cap counts points, and a draw may repeat one."""
    return spaces.points(dataclasses.replace(space, run_cap=None), seed=seed)


def find_additions(history: History, space: Space, *, earlier: Space, num_points: int | None) -> Additions:
    """What a space adds to a search.

    Args:
        history: The search.
        space: The new one.
        earlier: The space that the search has.
        num_points: Points of the new space in all; None for no limit.
    """
    events, seed = history.decisions.events, history.search.options.seed
    identify = make_identify(history.search, space)
    known = known_trials(events, earlier, seed=seed)
    firsts = [one for one in known.values() if not one.values["fold"]]
    shared = {one.trial_id for one in firsts if as_point(space, one, identify) is not None}
    num_new = None if num_points is None else max(0, num_points - len(shared))
    additions = Additions(
        points=None,
        num_new=num_new,
        num_known=len(shared),
        num_unfinished=len(known) - len({event.number for event in ended_trials(events)} & known.keys()),
        left_out=tuple(one for one in firsts if one.trial_id not in shared),
    )
    if space.is_adaptive:
        return additions
    seen = {one.trial_id for one in firsts}
    new: list[dict[str, Any]] = []
    draws = draw_points(space, seed=seed)
    for _ in range(MAX_LISTED if num_new is None else min(num_new, MAX_LISTED)):
        point = next_new(draws, seen, identify)
        if point is None:
            num_new = len(new)
            break
        seen.add(identify(point))
        new.append(point)
    return dataclasses.replace(additions, points=tuple(new), num_new=num_new)


def make_identify(search: SearchFile, space: Space) -> Identify:
    """Trial ids of points without opening the data or the weights, whose fingerprints are on record.

    Args:
        search: The content of `search.json`.
        space: That the points belong to.

    Raises:
        FerrayError: The store is not where it was, and the file does not say what size its pictures have.
    """
    size = search.data.size_px or read_manifest_of(search.data.folder).size_px

    def identify(point: dict[str, Any]) -> str:
        recipe = recipe_of_point(space, point, seed=search.options.seed)
        values = recipes.to_values(recipe) | {"image_size": recipe.image_size or size}
        if recipe.precision == "auto":
            if search.precision is None:  # nothing was trained yet
                return recipes.to_json(recipe)
            values["precision"] = search.precision
        return recipes.trial_id(
            recipes.make_recipe(values, where=space.file),
            data_fingerprint=search.data.fingerprint,
            weights_fingerprint=search.weights.get(recipe.backbone, ""),
            groups_fingerprint=search.data.groups or "",
        )

    return identify


def describe_additions(additions: Additions, space: Space, *, max_listed: int = 10) -> Iterator[str]:
    """What a space adds, in lines for people: how many points are new, and which it no longer asks for."""
    known = f"{additions.num_known:,} of its points are on record"
    new = "endless new points" if additions.num_new is None else count_of(additions.num_new, "new point")
    yield f"{new} of {space.file}; {known}"
    if additions.num_unfinished:
        yield f"{additions.num_unfinished:,} trials have begun and not ended; they are continued"
    if additions.left_out:
        num = len(additions.left_out)
        yield f"{count_of(num, 'earlier point')}, no longer asked for, stay in tables and ranking:"
        vary = {name for name in FIELD_NAMES if len({one.values[name] for one in additions.left_out}) > 1}
        other = {parameter.name for parameter in space.parameters if _excludes_any(parameter, additions.left_out)}
        names = [name for name in FIELD_NAMES if name in vary | other]
        for one in islice(additions.left_out, max_listed):
            words = "  ".join(f"{name}={setting_text(name, one.values[name])}" for name in names)
            yield f"  trial {one.number}: {words}"
        if num > max_listed:
            yield f"  and {num - max_listed:,} more"


def _allows(parameter: Parameter, value: Any) -> bool:
    """Whether a value is one that a parameter can have."""
    if parameter.kind in ("value", "values"):
        return value in parameter.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        return False
    return bool(parameter.settle(value) == value) and (parameter.kind != "int" or value == int(value))


def _excludes_any(parameter: Parameter, trials: Sequence[KnownTrial]) -> bool:
    """Whether one of the trials has a value that a parameter cannot have."""
    return any(not _allows(parameter, one.values[parameter.name]) for one in trials)
