"""A search that grows: the spaces that it has had, what is on record of them, and what a new space adds.

A search is resumed with a bigger space, and only what is new is trained. The journal has a line where that happened,
with both spaces. What earlier spaces asked for is matched with the new one by trial id: recipe, data, weights and
the version of all numbers. Nothing here needs Ray or torch: `--dry-run` says what is new.

Begin at `compare`; `known_trials` reads the journal.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ferray import recipe as recipes
from ferray import space as spaces
from ferray.data.store.manifest import read_manifest
from ferray.errors import FerrayError, RecordError
from ferray.recipe import FIELD_NAMES, Recipe
from ferray.space import Parameter, Space

log = logging.getLogger(__name__)

Identify = Callable[[dict[str, Any]], str]
"""The trial id of a point."""

MAX_REPEATS = 1000
"""Draws in a row that repeat an earlier point, after which a random space counts as exhausted."""

MAX_TEXT = 200_000
"""Characters of a space in a journal; a larger one is no sweep file."""


@dataclass(frozen=True)
class Suggestion:
    """A point that was asked for."""

    number: int
    trial_id: str
    point: dict[str, Any]
    after: int = 0
    """Epochs that searcher and scheduler have already heard of."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trial that the search has asked for."""

    number: int
    trial_id: str
    values: dict[str, Any]
    """Every setting of its recipe, before precision and size are settled."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What a space adds to a search; points, not trials."""

    points: tuple[dict[str, Any], ...] | None
    """The new ones, `most_listed` at most; None where they are suggested one after the other."""
    num_new: int | None
    """None where there is no end."""
    num_known: int
    """Points of the space that the search has asked for already."""
    num_begun: int
    """Trials that have begun and not ended; they go on."""
    left_out: tuple[Known, ...]
    """Trials that the space does not ask for: they stay on record and in the ranking."""


def to_recipe(space: Space, point: Mapping[str, Any], *, seed: int) -> Recipe:
    """The recipe of a point; one that names every setting is of an earlier space, or of the finals, and taken as it is.

    Args:
        space: As for `ferray.space.to_recipe`.
        point: A few settings, or all.
        seed: Of the training run, unless the point or the space has its own.

    Raises:
        FerrayError: The point is no recipe.
    """
    if len(point) == len(FIELD_NAMES):
        return recipes.make_recipe(point, where=space.file)
    return spaces.to_recipe(space, point, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Note:
    """A space as the journal keeps it: all that is needed to read it again."""

    name: str
    text: str
    settings: tuple[str, ...]
    """As given with `--set`."""

    @classmethod
    def of(cls, value: Any, *, where: str) -> "Note":
        """The note of a line.

        Raises:
            RecordError: It is none.
        """
        try:
            texts = [value["name"], value["text"], *value["set"]]
        except (KeyError, TypeError) as error:
            raise RecordError(where, "has no space", "Start the search under another name") from error
        if not all(isinstance(one, str) and len(one) <= MAX_TEXT for one in texts):
            raise RecordError(where, "has no space that could be one", "Start the search under another name")
        name, text, *settings = texts
        return cls(name=name, text=text, settings=tuple(settings))

    def to_json(self) -> dict[str, Any]:
        """What `of` reads."""
        return {"name": self.name, "text": self.text, "set": list(self.settings)}

    def space(self, file: Path | None = None) -> Space:
        """What it says.

        Args:
            file: To name in messages; None for its own name.

        Raises:
            SpaceError: It is no space.
        """
        path = file or Path(f"{Path(self.name).name}.yaml")
        return spaces.read_space(path, spaces.parse_settings(self.settings), text=self.text)


def last_extension(events: Sequence[Mapping[str, Any]]) -> int:
    """How many lines of a journal belong to earlier spaces: all up to the last extension; 0 without one."""
    return next((place for place in range(len(events), 0, -1) if events[place - 1].get("event") == "extend"), 0)


def known_trials(events: Sequence[Mapping[str, Any]], space: Space, *, seed: int) -> dict[int, Known]:
    """The trials that were asked for, by number, each with all the settings that its own space gave it.

    Args:
        events: Of a journal.
        space: The one that the lines after the last extension belong to.
        seed: Of the search.

    Raises:
        FerrayError: An event is none, or a space cannot be read.
    """
    known: dict[int, Known] = {}
    waiting: list[Mapping[str, Any]] = []  # until the space that asked for them is known

    def settle(of: Space) -> None:
        for event in waiting:
            try:
                number, trial_id, point = int(event["number"]), str(event["trial_id"]), dict(event["point"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                what = f"not a trial that was asked for: {error!r}"
                raise RecordError(f"journal: {event}", what, "Start the search under another name") from error
            values = recipes.to_values(to_recipe(of, point, seed=seed))
            known[number] = Known(number=number, trial_id=trial_id, values=values)
        waiting.clear()

    for line, event in enumerate(events, start=1):
        if event.get("event") == "suggest":
            waiting.append(event)
        elif event.get("event") == "extend" and waiting:
            settle(Note.of(event.get("earlier"), where=f"journal.jsonl:{line}").space())
    settle(space)
    return known


def ended_trials(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The line on the end of each trial that has ended and was not opened again since.

    Raises:
        RecordError: A line has no trial, or a state or epoch that could not be.
    """
    found: dict[tuple[int, str], Mapping[str, Any]] = {}
    for event in events:
        if event.get("event") not in ("end", "retry"):
            continue
        kinds = {"number": int, "trial_id": str, "state": str, "epoch": int}
        present = {"state": "", "epoch": 0, **event}  # a retry has no state, and the first finals no epoch
        if not all(isinstance(present.get(name), kind) for name, kind in kinds.items()):
            raise RecordError(f"journal: {event}", "not the end of a trial", "Start the search under another name")
        key = event["number"], event["trial_id"]
        found.pop(key, None)
        if event["event"] == "end":
            found[key] = present
    return list(found.values())


def inside(space: Space, known: Known, identify: Identify) -> dict[str, Any] | None:
    """A known trial as a point of a space; None if it is none.

    Args:
        space: Perhaps not the one that asked for it.
        known: The trial.
        identify: The trial id of a point of the space.
    """
    point = {parameter.name: known.values[parameter.name] for parameter in space.parameters if parameter.searched}
    if not all(_holds(parameter, point[parameter.name]) for parameter in space.parameters if parameter.searched):
        return None  # what is not searched, the trial id decides
    if space.folds > 1:
        point["fold"] = known.values["fold"]
    try:
        return point if identify(point) == known.trial_id else None
    except FerrayError:  # values that do not go together, in this space
        return None


def next_new(draws: Iterator[dict[str, Any]], seen: set[str], identify: Identify) -> dict[str, Any] | None:
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


def draw(space: Space, *, seed: int) -> Iterator[dict[str, Any]]:
    """The points of a grid, or random ones without end: a cap counts points, and a draw may repeat one."""
    return spaces.points(dataclasses.replace(space, run_cap=None), seed=seed)


def compare(
    space: Space,
    events: Sequence[Mapping[str, Any]],
    identify: Identify,
    *,
    earlier: Space,
    seed: int,
    num_points: int | None,
    most_listed: int,
) -> News:
    """What a space adds to what is known.

    Args:
        space: The new one.
        events: Of the journal.
        identify: The trial id of a point of the new space.
        earlier: The space that the search has.
        seed: Of the search.
        num_points: Points of the space in all; None for no end.
        most_listed: New points that are listed.
    """
    known = known_trials(events, earlier, seed=seed)
    num_begun = len(known) - len({event["number"] for event in ended_trials(events)} & known.keys())
    firsts = [one for one in known.values() if not one.values["fold"]]
    ours = {one.trial_id for one in firsts if inside(space, one, identify) is not None}
    left_out = tuple(one for one in firsts if one.trial_id not in ours)
    num_new = None if num_points is None else max(0, num_points - len(ours))
    news = News(points=None, num_new=num_new, num_known=len(ours), num_begun=num_begun, left_out=left_out)
    if space.method == "bayes":
        return news
    seen = {one.trial_id for one in firsts}
    new: list[dict[str, Any]] = []
    draws = draw(space, seed=seed)
    for _ in range(most_listed if num_new is None else min(num_new, most_listed)):
        point = next_new(draws, seen, identify)
        if point is None:
            num_new = len(new)
            break
        seen.add(identify(point))
        new.append(point)
    return dataclasses.replace(news, points=tuple(new), num_new=num_new)


def identity(search: Mapping[str, Any], space: Space, *, seed: int) -> Identify:
    """What names points without opening the data or the weights, whose fingerprints are on record.

    Args:
        search: The value of `search.json`.
        space: That the points belong to.
        seed: Of the search.

    Raises:
        FerrayError: The store is not where it was, and the search of an earlier version, which did not note its size.
    """
    size = search["data"].get("size_px") or read_manifest(Path(search["data"]["folder"])).size_px
    precision = search.get("precision")

    def identify(point: dict[str, Any]) -> str:
        recipe = to_recipe(space, point, seed=seed)
        values = recipes.to_values(recipe) | {"image_size": recipe.image_size or size}
        if recipe.precision == "auto":
            if precision is None:  # nothing was trained yet
                return recipes.to_json(recipe)
            values["precision"] = precision
        return recipes.trial_id(
            recipes.make_recipe(values, where=space.file),
            data_fingerprint=search["data"]["fingerprint"],
            weights_fingerprint=search["weights"].get(recipe.backbone, ""),
        )

    return identify


def _holds(parameter: Parameter, value: Any) -> bool:
    """Whether a value is one that a parameter can have."""
    if parameter.kind in ("value", "values"):
        return value in parameter.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        return False
    return bool(parameter.settle(value) == value) and (parameter.kind != "int" or value == int(value))


def _is_foreign(parameter: Parameter, trials: Sequence[Known]) -> bool:
    """Whether a parameter cannot have a value that one of the trials has."""
    return any(not _holds(parameter, one.values[parameter.name]) for one in trials)


def said(news: News, space: Space, *, most_listed: int = 10) -> Iterator[str]:
    """What a space adds, in lines for people: how many points are new, and what it no longer asks for."""
    count = "endless" if news.num_new is None else f"{news.num_new:,}"
    yield f"{count} new {_points(news.num_new)} of {space.file}; {news.num_known:,} of its points are on record"
    if news.num_begun:
        yield f"{news.num_begun:,} trials have begun and not ended; they go on"
    if news.left_out:
        num = len(news.left_out)
        yield f"{num:,} earlier {_points(num)}, not asked for any more, stay in tables and ranking:"
        vary = {name for name in FIELD_NAMES if len({one.values[name] for one in news.left_out}) > 1}
        other = {parameter.name for parameter in space.parameters if _is_foreign(parameter, news.left_out)}
        names = [name for name in FIELD_NAMES if name in vary | other]
        for one in islice(news.left_out, most_listed):
            words = "  ".join(f"{name}={short(one.values[name])}" for name in names)
            yield f"  trial {one.number}: {words}"
        if len(news.left_out) > most_listed:
            yield f"  and {len(news.left_out) - most_listed:,} more"


def _points(number: int | None) -> str:
    return "point" if number == 1 else "points"


def short(value: object) -> str:
    """A setting in a list."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
