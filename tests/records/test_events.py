"""Promises of events: what is written is read again as it was, and a long search can keep all of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.history import make_search_file
from hypothesis import given
from hypothesis import strategies as st

from ferray.errors import RecordError
from ferray.files.journal import Journal
from ferray.records.events import (
    EndEvent,
    Event,
    EventLog,
    ExtendEvent,
    ResultEvent,
    RetryEvent,
    SpaceSource,
    SuggestEvent,
    to_event,
)
from ferray.records.search_file import to_search_file

numbers = st.integers(0, 10**9)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scores = st.floats(-1e99, 1e99)
spaces = st.builds(
    lambda name, text, settings: SpaceSource(name=name, text=text, settings=settings), texts, texts, st.tuples(texts)
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(SuggestEvent, number=numbers, trial_id=texts, point=st.dictionaries(texts, scores | texts)),
    st.builds(ResultEvent, number=numbers, epoch=numbers, score=scores, stop=st.booleans()),
    st.builds(
        EndEvent,
        number=numbers,
        trial_id=texts,
        state=st.sampled_from(["done", "stopped", "failed"]),
        epoch=numbers,
        score=scores | st.none(),
    ),
    st.builds(RetryEvent, number=numbers, trial_id=texts, reason=texts),
    st.builds(ExtendEvent, space=spaces, earlier=spaces),
)


@given(events)
def test_an_event_is_read_as_it_was_written(event: Event) -> None:
    assert to_event(json.loads(json.dumps(event.to_json())), where="here") == event
    assert next(iter(event.to_json())) == "event"


@pytest.mark.parametrize("kind", [SuggestEvent, ResultEvent, EndEvent, RetryEvent])
def test_an_event_that_a_search_has_by_the_million_holds_its_values_alone(kind: type[Any]) -> None:
    assert not hasattr(object.__new__(kind), "__dict__")


def test_keys_of_a_later_version_are_ignored_and_a_missing_one_is_named() -> None:
    line = {"event": "result", "number": 1, "epoch": 2, "score": 0.5, "stop": False}
    assert to_event(line | {"later": 1}, where="here") == to_event(line, where="here")
    with pytest.raises(RecordError, match=r"here: not an event: result.stop"):
        to_event({key: value for key, value in line.items() if key != "stop"}, where="here")


def test_an_event_that_was_appended_is_in_the_log_and_in_the_file(tmp_path: Path) -> None:
    log = EventLog(Journal(tmp_path / "journal.jsonl"))
    log.append(ResultEvent(number=1, epoch=2, score=0.5, stop=False))
    assert EventLog(log.journal).events == log.events


def test_options_that_a_command_line_can_hold_can_be_put_on_record() -> None:
    long = "x" * 131_071  # the longest argument that Linux allows
    search = make_search_file(
        command=long * 2, options={"space": "grid", "data": None, "weights": "none", "set": [long], "seed": 0}
    )
    assert to_search_file(search.to_json(), where=Path("search.json")).options.set == (long,)
