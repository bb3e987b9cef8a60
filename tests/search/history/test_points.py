"""A search that grows, decided without Ray's loop and without training: nothing twice, nothing lost."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fixtures.history import ends, identify_in, open_log, read_events, suggested
from fixtures.plays import known_to_optuna, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferray.errors import FerrayError
from ferray.records.events import (
    ExtendEvent,
    ResultEvent,
    RetryEvent,
    SpaceSource,
    SuggestEvent,
    ended_trials,
)
from ferray.search.history.points import Suggestion, as_point, known_trials
from ferray.search.tune.decisions import Decisions
from ferray.space import Space, num_points, points, read_space

METRIC = "metric: {name: val_accuracy, goal: maximize}\n"
HALVING = "early_terminate: {type: hyperband, min_iter: 1, eta: 3}\n"
GRID = (
    "method: grid\n"
    "parameters: {dropout: {values: [0.0, 0.4%s]}, batch_size: {values: [8, 16%s]}, epochs: {value: %d}}\n"
)
FOLDS = "method: %s\nparameters: {dropout: {values: [0.0, 0.4%s]}, folds: {value: 3}, epochs: {value: %d}}\n"
RANDOM = "method: random\nrun_cap: %d\nparameters: {dropout: {min: 0.0, max: %s}, epochs: {value: %d}}\n"
BAYES = (
    "method: bayes\nrun_cap: %d\nparameters: {learning_rate: {distribution: log_uniform_values, min: 0.0001, max: %s}, "
    "batch_size: {distribution: q_uniform, min: 8, max: 64, q: 8}, optimizer: {values: [adam, sgd%s]}, "
    "epochs: {value: %d}}\n"
)
BAYES_FOLDS = (
    "method: bayes\nrun_cap: %d\nparameters: {dropout: {min: 0.0, max: %s}, folds: {value: 3}, epochs: {value: %d}}\n"
)
"""Each kind of space, and what it may grow to: more values, more samples, more epochs, another method."""
GROWTHS = {
    "grid": (
        GRID % ("", "", 3),
        [GRID % (", 0.2", "", 3), GRID % (", 0.2", ", 32", 3), GRID % ("", "", 4), BAYES % (9, 0.1, "", 3)],
    ),
    "random": (RANDOM % (5, 0.8, 3), [RANDOM % (9, 0.8, 3), RANDOM % (9, 0.9, 3), RANDOM % (5, 0.8, 4)]),
    "asha": (
        HALVING + RANDOM % (8, 0.8, 9),
        [HALVING + RANDOM % (12, 0.8, 9), HALVING + RANDOM % (12, 0.9, 9), HALVING + RANDOM % (8, 0.8, 18)],
    ),
    "bayes": (
        BAYES % (6, 0.1, "", 3),
        [BAYES % (12, 0.1, "", 3), BAYES % (9, 0.3, ", adamw", 3), BAYES % (6, 0.1, "", 4), GRID % ("", "", 3)],
    ),
    "bayes with halving": (
        HALVING + BAYES % (8, 0.1, "", 9),
        [HALVING + BAYES % (12, 0.1, "", 9), HALVING + BAYES % (12, 0.3, "", 9), HALVING + BAYES % (8, 0.1, "", 18)],
    ),
    "grid with folds": (
        FOLDS % ("grid", "", 3),
        [FOLDS % ("grid", ", 0.2, 0.3", 3), FOLDS % ("grid", "", 4), BAYES_FOLDS % (4, 0.9, 3)],
    ),
    "bayes with folds": (
        BAYES_FOLDS % (3, 0.8, 3),
        [BAYES_FOLDS % (5, 0.8, 3), BAYES_FOLDS % (5, 0.9, 3), BAYES_FOLDS % (3, 0.8, 4)],
    ),
}
CASES = [(kind, place) for kind, (_, grown) in GROWTHS.items() for place in range(len(grown))]


def make_space(text: str, folder: Path) -> Space:
    file = folder / f"space-{len(list(folder.iterdir()))}.yaml"
    file.write_text(METRIC + text)
    return read_space(file)


def decide(space: Space, journal: Path) -> Decisions:
    return Decisions(space, open_log(journal), identify=identify_in(space), seed=3)


def grow(journal: Path, earlier: Space, space: Space) -> None:
    """What the opening of a resumed search writes."""
    now, before = (SpaceSource(name=one.name, text=one.text, settings=()) for one in (space, earlier))
    open_log(journal).append(ExtendEvent(space=now, earlier=before))


def retry(journal: Path, failed: Suggestion) -> None:
    open_log(journal).append(RetryEvent(number=failed.number, trial_id=failed.trial_id))


def asked(journal: Path) -> list[str]:
    return suggested(read_events(journal))


def of_the_space(space: Space, journal: Path, *, now: Space | None = None) -> set[str]:
    """The points of a space that are on record, by their first trials; `now` asked for the last ones, if not itself."""
    known = known_trials(read_events(journal), now or space, seed=3).values()
    firsts = [one for one in known if not one.values["fold"]]
    return {one.trial_id for one in firsts if as_point(space, one, identify_in(space)) is not None}


def check_whole(space: Space, journal: Path, *, shared: set[str]) -> None:
    """Nothing twice, nothing lost, not more than the space has; a resumed search that has ended changes nothing."""
    events = read_events(journal)
    results = [(event.number, event.epoch) for event in events if isinstance(event, ResultEvent)]
    assert len(results) == len(set(results))
    ids = asked(journal)
    assert len(ids) == len(set(ids))
    assert sorted(event.number for event in ends(events)) == list(range(len(ids)))
    ours = of_the_space(space, journal)
    assert len(ours) == max(num_points(space) or 0, len(shared))
    if space.method == "grid":
        first = {"fold": 0} if space.folds > 1 else {}
        assert ours == {identify_in(space)({**point, **first}) for point in points(space, seed=3)}
    before = journal.read_bytes()
    again = decide(space, journal)
    assert not again.has_more()
    assert again.suggest() == "none left"
    assert journal.read_bytes() == before


@pytest.mark.parametrize("kind,place", CASES)
def test_a_finished_search_that_grows_ends_with_all_points_of_the_new_space(
    kind: str, place: int, tmp_path: Path
) -> None:
    text, grown = GROWTHS[kind]
    earlier, file = make_space(text, tmp_path), tmp_path / "journal.jsonl"
    play(decide(earlier, file), random.Random(0))
    before, written = asked(file), file.read_bytes()
    space = make_space(grown[place], tmp_path)
    shared = of_the_space(space, file, now=earlier)
    grow(file, earlier, space)
    play(decide(space, file), random.Random(1))
    assert file.read_bytes().startswith(written)
    assert asked(file)[: len(before)] == before
    check_whole(space, file, shared=shared)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    case=st.sampled_from(CASES),
    more=st.booleans(),
    steps=st.tuples(*[st.integers(0, 40)] * 3),
    seed=st.integers(0, 99),
    torn=st.booleans(),
)
def test_a_search_that_is_cut_off_anywhere_grows_and_is_cut_off_again_loses_nothing_and_repeats_nothing(
    case: tuple[str, int],
    more: bool,
    steps: tuple[int, int, int],
    seed: int,
    torn: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("grown")
    text, grown = GROWTHS[case[0]]
    file, space = folder / "journal.jsonl", make_space(text, folder)
    play(decide(space, file), random.Random(seed), steps=steps[0])
    for place in range(case[1], len(grown) if more else case[1] + 1):
        earlier, space = space, make_space(grown[place], folder)
        shared = of_the_space(space, file, now=earlier)
        grow(file, earlier, space)
        start = len(file.read_bytes())
        play(decide(space, file), random.Random(seed + 1), steps=steps[1])
        written = file.read_bytes()
        if torn and len(written) > start:
            file.write_bytes(written[:-3])  # the last line did not reach the disk whole
            written = written[: written[:-1].rfind(b"\n") + 1]
        play(decide(space, file), random.Random(seed + 2), steps=steps[2])
        assert file.read_bytes().startswith(written)
    play(decide(space, file), random.Random(seed + 3))
    check_whole(space, file, shared=shared)


def test_optuna_is_told_of_the_points_that_lie_in_the_new_space_and_of_no_others(tmp_path: Path) -> None:
    earlier, file = make_space(BAYES % (6, 0.1, "", 3), tmp_path), tmp_path / "journal.jsonl"
    play(decide(earlier, file), random.Random(0))
    known = {event.number: event.score for event in ended_trials(read_events(file))}
    space = make_space((BAYES % (9, 0.1, "", 3)).replace("min: 0.0001", "min: 0.003"), tmp_path)
    low = {
        event.number
        for event in read_events(file)
        if isinstance(event, SuggestEvent) and event.point["learning_rate"] < 0.003
    }
    assert 0 < len(low) < 6
    grow(file, earlier, space)
    decisions = decide(space, file)
    told = known_to_optuna(decisions)
    assert sorted(trial.value for trial in told) == sorted(
        value for number, value in known.items() if number not in low
    )
    new = [decisions.suggest() for _ in range(9 - (6 - len(low)))]
    assert all(isinstance(one, Suggestion) and one.point["learning_rate"] >= 0.003 for one in new)
    assert decisions.suggest() == "none left"


def test_halving_judges_new_trials_by_the_earlier_ones(tmp_path: Path) -> None:
    earlier, file = make_space(HALVING + RANDOM % (8, 0.8, 9), tmp_path), tmp_path / "journal.jsonl"
    play(decide(earlier, file), random.Random(0))
    space = make_space(HALVING + RANDOM % (9, 0.8, 9), tmp_path)
    grow(file, earlier, space)
    decisions = decide(space, file)
    suggestion = decisions.suggest()
    assert isinstance(suggestion, Suggestion)
    assert decisions.report_epoch(
        suggestion.number, 1, 0.0
    )  # worse than all; the first trial of a search goes on with any score


def test_a_trial_of_the_earlier_space_that_had_begun_ends_with_its_own_settings(tmp_path: Path) -> None:
    earlier, file = make_space(BAYES % (6, 0.1, "", 3), tmp_path), tmp_path / "journal.jsonl"
    decisions = decide(earlier, file)
    begun = decisions.suggest()
    assert isinstance(begun, Suggestion)
    space = make_space(BAYES % (6, 0.1, "", 4), tmp_path)
    grow(file, earlier, space)
    first = decide(space, file).suggest()
    assert isinstance(first, Suggestion)
    assert first.trial_id == begun.trial_id == identify_in(space)(first.point)
    assert first.point["epochs"] == 3


def test_a_trial_whose_stop_was_decided_before_the_search_grew_is_ended_and_not_gone_on_with(tmp_path: Path) -> None:
    earlier, file = make_space(HALVING + RANDOM % (8, 0.8, 9), tmp_path), tmp_path / "journal.jsonl"
    play(decide(earlier, file), random.Random(0))
    lines = file.read_bytes().splitlines(keepends=True)
    cut = next(place for place, line in enumerate(lines) if b'"stop":true' in line) + 1
    file.write_bytes(b"".join(lines[:cut]))
    stopped = read_events(file)[-1]
    assert isinstance(stopped, ResultEvent)
    space = make_space(RANDOM % (9, 0.8, 9), tmp_path)
    grow(file, earlier, space)
    play(decide(space, file), random.Random(1))
    its_ends = [event for event in ends(read_events(file)) if event.number == stopped.number]
    assert [(end.state, end.epoch) for end in its_ends] == [("stopped", stopped.epoch)]


@pytest.mark.parametrize("kind", ["grid", "asha", "bayes", "bayes with folds"])
def test_a_failed_trial_is_run_again_once_and_a_replay_gives_the_same(kind: str, tmp_path: Path) -> None:
    space, file = make_space(GROWTHS[kind][0], tmp_path), tmp_path / "journal.jsonl"
    decisions = decide(space, file)
    failed = [decisions.suggest() for _ in range(2)][1]
    assert isinstance(failed, Suggestion)
    decisions.end(failed.number, "failed", 0, None)
    play(decide(space, file), random.Random(0))
    num_trials = len(asked(file))
    assert not decide(space, file).has_more()

    retry(file, failed)
    play(decide(space, file), random.Random(1), steps=1)
    written = file.read_bytes()
    play(decide(space, file), random.Random(2))
    assert file.read_bytes().startswith(written)
    states = [event.state for event in ends(read_events(file)) if event.number == failed.number]
    assert len(states) == 2
    assert states[0] == "failed"
    assert states[1] != "failed"
    assert len(asked(file)) == num_trials
    whole = decide(space, file)
    assert not whole.has_more()
    if kind.startswith("bayes"):  # the searcher has heard of every point
        told = [trial for trial in known_to_optuna(whole) if trial.values]
        assert len(told) == num_points(space)
    before = file.read_bytes()
    assert decide(space, file).suggest() == "none left"
    assert file.read_bytes() == before


@pytest.mark.parametrize("kind", GROWTHS)
def test_a_trial_that_is_tried_again_while_the_search_grows_ends_and_is_learned_from(kind: str, tmp_path: Path) -> None:
    text, grown = GROWTHS[kind]
    earlier, file = make_space(text, tmp_path), tmp_path / "journal.jsonl"
    decisions = decide(earlier, file)
    failed = decisions.suggest()
    assert isinstance(failed, Suggestion)
    decisions.end(failed.number, "failed", 0, None)
    play(decide(earlier, file), random.Random(0))
    retry(file, failed)
    space = make_space(grown[0], tmp_path)
    grow(file, earlier, space)
    play(decide(space, file), random.Random(1))
    states = [event.state for event in ends(read_events(file)) if event.number == 0]
    assert [state == "failed" for state in states] == [True, False]
    whole = decide(space, file)
    assert not whole.has_more()
    if space.method == "bayes":
        told = [trial for trial in known_to_optuna(whole) if trial.values]
        assert len(told) == num_points(space)


def test_a_random_space_of_few_points_has_as_many_as_its_cap_though_draws_repeat(tmp_path: Path) -> None:
    text = "method: random\nrun_cap: 8\n"
    text += "parameters: {dropout: {values: [0.0, 0.2, 0.4]}, batch_size: {values: [8, 16, 32]}}\n"
    space, file = make_space(text, tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0))
    assert len(set(asked(file))) == len(asked(file)) == 8


def test_a_trial_whose_identity_is_another_now_is_not_gone_on_with(tmp_path: Path) -> None:
    space, file = make_space(GROWTHS["grid"][0], tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0), steps=1)
    with pytest.raises(Exception, match="start the search under another name"):
        Decisions(space, open_log(file), identify=lambda point: f"other {point}", seed=3)


def test_a_trial_that_lost_its_record_is_trained_again_without_a_word_to_the_scheduler(tmp_path: Path) -> None:
    space, file = make_space(GROWTHS["asha"][0], tmp_path), tmp_path / "journal.jsonl"
    decisions = decide(space, file)
    begun = decisions.suggest()
    assert isinstance(begun, Suggestion)
    assert not decisions.report_epoch(begun.number, 1, 0.5)
    assert not decisions.report_epoch(begun.number, 2, 0.6)
    before = file.read_bytes()
    again = decide(space, file)
    first = again.suggest()
    assert isinstance(first, Suggestion)
    assert first.num_reported == 2
    assert not again.report_epoch(begun.number, 1, 0.5)
    assert not again.report_epoch(begun.number, 2, 0.6)
    assert file.read_bytes() == before
    again.report_epoch(begun.number, 3, 0.7)
    last = read_events(file)[-1]
    assert isinstance(last, ResultEvent)
    assert last.epoch == 3


@pytest.mark.parametrize(
    "line",
    [
        {"event": "extend"},
        {"event": "extend", "space": 3, "earlier": {"name": "a", "text": "method: grid", "set": "x"}},
        {"event": "extend", "earlier": {"name": "a", "text": "x" * 300_000, "set": []}},
        {"event": "retry", "number": 99},
        {"event": "end", "number": 1e999},
    ],
)
def test_a_line_that_is_no_event_is_refused(line: dict[str, Any], tmp_path: Path) -> None:
    space, file = make_space(GROWTHS["grid"][0], tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0), steps=4)
    text = json.dumps(line)
    with file.open("a") as journal:
        journal.write(text + "\n")
    with pytest.raises(FerrayError):
        decide(space, file)
