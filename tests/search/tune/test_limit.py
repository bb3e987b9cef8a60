"""A limit of time: what it begins, what it leaves, and that a search goes on from there as if there had been none."""

import random
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fixtures.history import open_log, read_events, suggested
from fixtures.plays import play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferray.records.events import EndEvent, SuggestEvent
from ferray.search.tune.decisions import Decisions
from ferray.search.tune.limit import UntilDeadline
from ferray.space import Space, read_space

SPACES = {
    "grid": "parameters: {dropout: {values: [0.0, 0.2, 0.4]}, batch_size: {values: [8, 16]}}",
    "folds": "parameters: {dropout: {values: [0.0, 0.2, 0.4]}, folds: {value: 3}}",
}


def make_space(kind: str, folder: Path) -> Space:
    file = folder / f"{kind}.yaml"
    file.write_text(f"method: grid\nmetric: {{name: val_accuracy, goal: maximize}}\n{SPACES[kind]}\n")
    return read_space(file)


def decide(space: Space, journal: Path) -> Decisions:
    def identify(point: dict[str, Any]) -> str:
        return repr(sorted({"fold": 0, **point}.items()))

    return Decisions(space, open_log(journal), identify=identify, seed=0)


@pytest.mark.parametrize("kind", SPACES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(deadline=st.integers(0, 12), seed=st.integers(0, 5))
def test_a_limited_search_asks_for_whole_points_and_goes_on_to_those_of_an_unlimited_one(
    kind: str, deadline: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("limit")
    space = make_space(kind, folder)
    play(decide(space, folder / "whole"), random.Random(seed))
    asked = suggested(read_events(folder / "whole"))
    clock = count()  # a question to the clock takes a second

    limited = UntilDeadline(decide(space, folder / "cut"), deadline, folds=space.folds, now=lambda: next(clock))
    play(limited, random.Random(seed))  # type: ignore[arg-type]

    cut = suggested(read_events(folder / "cut"))
    assert cut == asked[: len(cut)]
    assert len(cut) % space.folds == 0
    assert len(cut) // space.folds == min(len(asked) // space.folds, deadline + 1), "the first one in any case"
    ends = [event for event in read_events(folder / "cut") if isinstance(event, EndEvent)]
    assert {event.state for event in ends} == {"done"}, "nothing is cut off"
    assert len(ends) == len(cut)

    rest = decide(space, folder / "cut")
    assert rest.has_more() == (len(cut) < len(asked))
    play(rest, random.Random(seed))
    assert suggested(read_events(folder / "cut")) == asked
    assert limited.has_refused == (deadline < len(asked) // space.folds)


def test_without_a_limit_all_is_begun(tmp_path: Path) -> None:
    space = make_space("grid", tmp_path)
    unlimited = UntilDeadline(decide(space, tmp_path / "journal"), None, folds=1, now=lambda: pytest.fail("asked"))
    play(unlimited, random.Random(0))  # type: ignore[arg-type]

    assert sum(isinstance(event, SuggestEvent) for event in read_events(tmp_path / "journal")) == 6
    assert not unlimited.has_refused
