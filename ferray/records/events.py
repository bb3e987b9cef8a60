"""The events of a journal: what a search decided and what its trials came to, one class an event.

    suggest   a trial was asked for          result   an epoch was reported to the scheduler, which answered
    end       a trial has ended              retry    a trial that had failed is open again
    extend    from here on another space is searched

An `EventLog` is a journal that was read once; what is appended stands in the file and in `events`. Begin there.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StrictBool, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ferray.errors import RecordError
from ferray.files.journal import Journal, JournalContent
from ferray.records.values import Count, Recorded, describe_fault

EndState = Literal["done", "stopped", "failed"]
"""How a trial ends; `ferray.records.run.State` has more, for trials that have not ended."""

MAX_SCORE = 1e100
"""Training does not go on from a loss beyond it."""

MAX_TEXT = 200_000
"""Characters of a space in a journal; a larger one is no sweep file."""

Score = Annotated[float, Field(strict=True, gt=-MAX_SCORE, lt=MAX_SCORE)]
SpaceString = Annotated[StrictStr, Field(max_length=MAX_TEXT)]


@dataclass(frozen=True, kw_only=True, slots=True)  # a long search has millions of them
class _Event:
    """A line of a journal, whose key `event` names the class; keys of later versions are ignored."""

    def to_json(self) -> dict[str, Any]:
        """The JSON value; what is None is left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class SuggestEvent(_Event):
    """The searcher asked for a trial."""

    event: Literal["suggest"] = "suggest"
    number: Count
    """Place in the order in which the search asked for trials, from 0."""
    trial_id: StrictStr
    point: dict[str, Any]
    """The settings that are searched, by name; all settings for a trial of an earlier space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultEvent(_Event):
    """An epoch was reported to the scheduler."""

    event: Literal["result"] = "result"
    number: Count
    epoch: Count
    score: Score
    """The best monitored metric so far."""
    stop: StrictBool
    """The scheduler's answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EndEvent(_Event):
    """A trial has ended."""

    event: Literal["end"] = "end"
    number: Count
    trial_id: StrictStr
    state: EndState
    epoch: Count = 0
    """Its last one; missing in the finals of the first versions."""
    score: Score | None = None
    """Its best; missing in the finals, None if the trial has no epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryEvent(_Event):
    """A trial that had failed is run again."""

    event: Literal["retry"] = "retry"
    number: Count
    trial_id: StrictStr
    reason: StrictStr = ""
    """Why it had failed."""


class SpaceSource(Recorded):
    """A space as the journal keeps it: all that is needed to read it again."""

    name: SpaceString
    text: SpaceString
    """Of the sweep file."""
    settings: Annotated[tuple[SpaceString, ...], Field(alias="set")]
    """As given with `--set`."""


class ExtendEvent(Recorded):
    """The search was resumed with another space; stands in `search.json`, too."""

    event: Literal["extend"] = "extend"
    space: SpaceSource
    earlier: SpaceSource

    def model_post_init(self, context: Any) -> None:
        """`event` has a default, but is to be written."""
        self.__pydantic_fields_set__.add("event")


Event = SuggestEvent | ResultEvent | EndEvent | RetryEvent | ExtendEvent
Kind = TypeVar("Kind", bound=Event)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class EventLog:
    """A journal whose events were read once.

    Args:
        journal: The file, whose undamaged lines are read.

    Raises:
        RecordError: A line is no event.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        content = journal.scan()
        lines = enumerate(content.lines, start=1)
        self._events = [to_event(line, where=f"{journal.file}:{number}") for number, line in lines]
        self._unrepaired: JournalContent | None = content

    def repair(self) -> None:
        """Cut off what could not be read; for the one writer, before it appends."""
        if self._unrepaired is not None:
            self.journal.repair(self._unrepaired)
            self._unrepaired = None

    @property
    def events(self) -> Sequence[Event]:
        """All events, in order."""
        return self._events

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        """The events of one class, in order."""
        return [event for event in self._events if isinstance(event, kind)]

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Write an event to the file, then to `events`; as `Journal.append`."""
        self.journal.append(event.to_json(), durable=durable)
        self._events.append(event)

    def ended(self) -> list[EndEvent]:
        """The last end of each trial that has ended and was not opened again since."""
        return ended_trials(self._events)


def to_event(value: dict[str, Any], *, where: str) -> Event:
    """An event from its JSON value.

    Raises:
        RecordError: It is none.
    """
    try:
        return _EVENT.validate_python(value)
    except (ValidationError, RecursionError) as error:
        what = f"not an event: {describe_fault(error)}"
        raise RecordError(where, what, "Start the search under another name") from error


def ended_trials(events: Sequence[Event]) -> list[EndEvent]:
    """The last end of each trial that has ended and was not opened again since, in the order in which they ended."""
    found: dict[tuple[int, str], EndEvent] = {}
    for event in events:
        if isinstance(event, EndEvent | RetryEvent):
            found.pop((event.number, event.trial_id), None)
        if isinstance(event, EndEvent):
            found[event.number, event.trial_id] = event
    return list(found.values())


def num_earlier_lines(events: Sequence[Event]) -> int:
    """How many events belong to earlier spaces: all up to the last extension; 0 without one."""
    return next((place for place in range(len(events), 0, -1) if isinstance(events[place - 1], ExtendEvent)), 0)
