"""What a search decides, with Ray Tune's own searchers and schedulers but without its loop and without training."""

import dataclasses
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.history import ends, open_log, read_events, suggested
from fixtures.plays import known_to_optuna, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferray.errors import RecordError
from ferray.files.journal import Journal
from ferray.records.events import EndEvent, Event, ResultEvent, SuggestEvent
from ferray.search.history.points import Suggestion
from ferray.search.tune.adaptive import AdaptiveSearcher
from ferray.search.tune.decisions import Decisions
from ferray.search.tune.searchers import NamedTrial, make_scheduler
from ferray.space import Hyperband, Space, num_points, read_space

SPACES = {
    "grid": "method: grid\nparameters: {dropout: {values: [0.0, 0.2, 0.4]}, batch_size: {values: [8, 16]}}\n",
    "random": "method: random\nrun_cap: 8\nparameters: {dropout: {min: 0.0, max: 0.9}}\n",
    "asha": "method: random\nrun_cap: 12\nearly_terminate: {type: hyperband, min_iter: 1, eta: 3}\n"
    "parameters: {dropout: {min: 0.0, max: 0.9}, epochs: {value: 9}}\n",
    "bayes": "method: bayes\nrun_cap: 14\n"
    "parameters: {learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 0.1}, "
    "batch_size: {distribution: q_uniform, min: 8, max: 64, q: 8}, optimizer: {values: [adam, sgd]}}\n",
    "bayes with halving": "method: bayes\nrun_cap: 14\n"
    "early_terminate: {type: hyperband, min_iter: 1, eta: 3}\n"
    "parameters: {learning_rate: {distribution: log_uniform_values, min: 0.0001, max: 0.1}, epochs: {value: 9}}\n",
    "grid with folds": "method: grid\nparameters: {dropout: {values: [0.0, 0.4]}, folds: {value: 3}}\n",
    "bayes of few points": "method: bayes\nrun_cap: 20\n"
    "parameters: {batch_size: {values: [8, 16, 32]}, optimizer: {values: [adam, sgd]}}\n",
    "bayes of few points with folds": "method: bayes\n"
    "parameters: {dropout: {values: [0.0, 0.2, 0.4]}, folds: {value: 3}}\n",
    "bayes with folds": "method: bayes\nrun_cap: 5\nparameters: {dropout: {min: 0.0, max: 0.9}, folds: {value: 3}}\n",
}


def make_space(kind: str, folder: Path) -> Space:
    file = folder / f"{kind.replace(' ', '-')}.yaml"
    file.write_text("metric: {name: val_accuracy, goal: maximize}\n" + SPACES[kind])
    return read_space(file)


def decide(space: Space, journal: Path, *, max_points: int | None = None) -> Decisions:
    return Decisions(space, open_log(journal), identify=identity(space), seed=3, max_points=max_points)


def identity(space: Space) -> Callable[[dict[str, Any]], str]:
    """Names a point, its first fold where it does not say which."""
    return repr if space.folds == 1 else lambda point: repr({**point, "fold": point.get("fold", 0)})


def read_lines(written: bytes, folder: Path) -> list[Event]:
    """The events of a journal's content."""
    (folder / "before.jsonl").write_bytes(written)
    return read_events(folder / "before.jsonl")


def num_trials(space: Space) -> int:
    return (num_points(space) or 0) * space.folds


def rewrite(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Write a journal with other content, and with the checksums that belong to it."""
    lines = [line.rpartition(b',"checksum"')[0] + b"}" for line in file.read_bytes().splitlines()]
    file.unlink()
    for line in change(b"\n".join(lines)).splitlines():
        Journal(file).append(json.loads(line))


@pytest.mark.parametrize("kind", SPACES)
def test_every_point_is_asked_for_once_and_ends_once(kind: str, tmp_path: Path) -> None:
    space = make_space(kind, tmp_path)
    decisions = decide(space, tmp_path / "journal.jsonl")
    play(decisions, random.Random(0))
    events = read_events(tmp_path / "journal.jsonl")
    asked = [event.number for event in events if isinstance(event, SuggestEvent)]
    ended = sorted(event.number for event in ends(events))
    assert asked == list(range(num_trials(space)))
    assert ended == asked
    assert not decide(space, tmp_path / "journal.jsonl").has_more()


@pytest.mark.parametrize("kind", SPACES)
def test_a_replay_of_a_finished_search_repeats_every_decision_and_writes_nothing(kind: str, tmp_path: Path) -> None:
    space, file = make_space(kind, tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(1))
    before = file.read_bytes()
    again = decide(space, file)
    assert again.suggest() == "none left"
    assert file.read_bytes() == before


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SPACES)), steps=st.integers(0, 60), seed=st.integers(0, 99), torn=st.booleans())
def test_a_search_cut_off_anywhere_goes_on_with_what_it_knew(
    kind: str, steps: int, seed: int, torn: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    space, file = make_space(kind, folder), folder / "journal.jsonl"
    play(decide(space, file), random.Random(seed), steps=steps)
    written = file.read_bytes() if file.exists() else b""
    if torn and written:
        file.write_bytes(written[:-3])  # the last line did not reach the disk whole
        written = written[: written[:-1].rfind(b"\n") + 1]
    play(decide(space, file), random.Random(seed + 1))
    assert file.read_bytes().startswith(written)
    events = read_events(file)
    results = [(event.number, event.epoch) for event in events if isinstance(event, ResultEvent)]
    assert len(results) == len(set(results))  # no epoch was told twice
    assert sorted(event.number for event in ends(events)) == list(range(num_trials(space)))


@pytest.mark.parametrize("kind", ["grid with folds", "bayes with folds"])
def test_each_point_is_tried_on_every_fold_and_its_trials_differ_in_nothing_else(kind: str, tmp_path: Path) -> None:
    space, file = make_space(kind, tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0))
    tried: dict[float, list[int]] = {}
    for event in read_events(file):
        if isinstance(event, SuggestEvent):
            tried.setdefault(event.point["dropout"], []).append(event.point["fold"])
    assert len(tried) == num_points(space)
    assert all(folds == [0, 1, 2] for folds in tried.values())


def test_a_searcher_hears_the_mean_over_the_folds_and_of_a_failed_fold_only_that(tmp_path: Path) -> None:
    space, file = make_space("bayes with folds", tmp_path), tmp_path / "journal.jsonl"
    decisions = decide(space, file)
    for number in range(6):
        assert isinstance(decisions.suggest(), Suggestion)
        decisions.end(number, "failed" if number == 4 else "done", 1, None if number == 4 else 0.1 * number)
    first, second = known_to_optuna(decisions)[:2]
    assert first.values == [pytest.approx(0.1)]
    assert (second.values, second.state.name) == (None, "FAIL")


def test_successive_halving_stops_most_trials_early(tmp_path: Path) -> None:
    play(decide(make_space("asha", tmp_path), tmp_path / "journal.jsonl"), random.Random(0))
    states = [event.state for event in ends(read_events(tmp_path / "journal.jsonl"))]
    assert states.count("stopped") > len(states) / 2
    assert "done" in states


@pytest.mark.parametrize(
    "rule, epochs, judged",
    [
        ("max_iter: 26, s: 2, eta: 3", 26, [2, 8]),
        ("max_iter: 10, s: 1", 10, [3]),
        ("max_iter: 100, s: 3", 100, [3, 11, 33]),
        ("max_iter: 9, s: 2", 27, [1, 3]),
        ("min_iter: 2, eta: 1.5", 27, [2, 3, 4, 6, 10, 15, 22]),
    ],
)
def test_a_trial_is_stopped_at_the_rungs_of_wandb_and_at_no_other_epoch(
    rule: str, epochs: int, judged: list[int], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"method: random\nmetric: {{name: val_accuracy, goal: maximize}}\n"
        f"early_terminate: {{type: hyperband, {rule}}}\n"
        f"parameters: {{dropout: {{min: 0.0, max: 0.9}}, epochs: {{value: {epochs}}}}}\n"
    )
    space = read_space(file)

    def is_stopped(bad_epoch: int) -> bool:
        """Whether a trial is stopped at the one epoch at which it is worse than another one."""
        scheduler = make_scheduler(space)
        assert scheduler is not None
        answers = {}
        for name, bad_score in (("good", 0.5), ("bad", 0.1)):
            scheduler.on_trial_add(None, NamedTrial(name))
            for epoch in range(1, epochs):
                result = {"epoch": epoch, "score": bad_score if epoch == bad_epoch else 0.5}
                answers[name, epoch] = scheduler.on_trial_result(None, NamedTrial(name), result)
        assert {key for key, answer in answers.items() if answer == "STOP"} <= {("bad", bad_epoch)}
        return bool(answers["bad", bad_epoch] == "STOP")

    stops = [epoch for epoch in range(1, epochs) if is_stopped(epoch)]
    assert stops == judged


def test_a_search_that_was_begun_with_other_rungs_is_refused_and_the_rungs_are_named(tmp_path: Path) -> None:
    file, journal = tmp_path / "other.yaml", tmp_path / "journal.jsonl"
    file.write_text(
        "method: random\nrun_cap: 12\nmetric: {name: val_accuracy, goal: maximize}\n"
        "early_terminate: {type: hyperband, max_iter: 20, s: 2}\n"
        "parameters: {dropout: {min: 0.0, max: 0.9}, epochs: {value: 20}}\n"
    )
    space = read_space(file)
    before = dataclasses.replace(space, early_terminate=Hyperband(rungs=(2, 6, 18), max_epochs=20, eta=3.0))
    decisions = decide(before, journal)
    for number, score in enumerate((0.9, 0.1)):
        decisions.suggest()
        for epoch in range(1, 19):
            decisions.report_epoch(number, epoch, score if epoch == 18 else 0.5)
    assert decide(before, journal).has_more()
    with pytest.raises(
        RecordError, match=r"stop=True for trial 1 after epoch 18 here.* with rungs at epochs 2, 6"
    ) as caught:
        decide(space, journal)
    assert "under another name" in caught.value.args[2]


def test_a_trial_whose_stop_was_recorded_but_not_its_end_is_ended_on_replay(tmp_path: Path) -> None:
    space, file = make_space("asha", tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0))
    lines = file.read_bytes().splitlines(keepends=True)
    cut = next(place for place, line in enumerate(lines) if b'"stop":true' in line) + 1
    file.write_bytes(b"".join(lines[:cut]))
    number = Journal(file).read()[-1]["number"]
    decide(space, file)
    last = read_events(file)[-1]
    assert isinstance(last, EndEvent)
    assert (last.number, last.state) == (number, "stopped")


@pytest.mark.parametrize("change", [lambda line: line.replace(b'"stop":false', b'"stop":true', 1)])
def test_a_decision_that_is_not_reproduced_is_refused_with_its_line(
    change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    space, file = make_space("asha", tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0))
    rewrite(file, change)
    with pytest.raises(
        RecordError,
        match=r"journal.jsonl:\d+.*stop=True for trial \d+ after epoch \d+ here, but decides "
        "stop=False",
    ):
        decide(space, file)


def test_a_point_that_no_version_of_optuna_can_suggest_is_refused_with_its_line(tmp_path: Path) -> None:
    space, file = make_space("bayes", tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0), steps=20)
    rewrite(file, lambda text: text.replace(b'"optimizer":"adam"', b'"optimizer":"adagrad"', 1))
    with pytest.raises(RecordError, match=r"journal.jsonl:\d+: the search decided point .*adagrad.* but decides"):
        decide(space, file)


@pytest.fixture
def other_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suggests other points from the third one on, as another version may."""
    suggest = AdaptiveSearcher.suggest

    def other(self: AdaptiveSearcher, name: str) -> dict[str, Any] | None:
        point = suggest(self, name)
        if point is None or int(name.split()[0]) < 2:
            return point
        return {key: value * 0.99 if isinstance(value, float) else value for key, value in point.items()}

    monkeypatch.setattr(AdaptiveSearcher, "suggest", other)


ADAPTIVE = [kind for kind in SPACES if "learning_rate" in SPACES[kind] or kind == "bayes with folds"]


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("steps", [0, 7, 25])
def test_a_search_whose_points_another_optuna_would_not_suggest_goes_on_from_them_and_says_so_once(
    kind: str,
    steps: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    space, file = make_space(kind, tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0), steps=steps)
    written = file.read_bytes() if file.exists() else b""
    request.getfixturevalue("other_optuna")

    assert decide(space, file).has_more()
    assert caplog.text == "", "nothing is said where only the question is whether there is more"
    play(decide(space, file), random.Random(1))
    events = read_events(file)
    assert file.read_bytes().startswith(written), "what is on record stays"
    assert sorted(event.number for event in ends(events)) == list(range(num_trials(space)))
    assert len(set(suggested(events))) == num_trials(space)
    said = [one.getMessage() for one in caplog.records]
    asked = [event.number for event in read_lines(written, tmp_path) if isinstance(event, SuggestEvent)]
    if any(number >= 2 and number % space.folds == 0 for number in asked):
        (line,) = said
        assert re.search(r"journal.jsonl:\d+: {.*} is on record here, not {.*}; Optuna [\d.]+ gets the points", line)
    else:
        assert said == []


def test_another_optuna_knows_every_point_on_record_with_its_score(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    space, file = make_space("bayes with halving", tmp_path), tmp_path / "journal.jsonl"
    play(decide(space, file), random.Random(0), steps=45)
    request.getfixturevalue("other_optuna")
    known = known_to_optuna(decide(space, file))
    ended = {event.number: event for event in ends(read_events(file))}
    assert len(ended) > 5
    assert {trial.state.name for trial in known} == {"COMPLETE"}
    assert [trial.value for trial in known] == [event.score for _, event in sorted(ended.items())]


def test_a_random_space_of_few_points_ends_when_they_are_used_up(tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(
        "method: random\nmetric: {name: val_loss, goal: minimize}\nparameters: {batch_size: {values: [8, 16, 32]}}\n"
    )
    decisions = decide(read_space(file), tmp_path / "journal.jsonl")
    asked = []
    while not isinstance(suggestion := decisions.suggest(), str):
        asked.append(suggestion.point["batch_size"])
    assert sorted(asked) == [8, 16, 32]


def few_points(folder: Path, *, rest: str = "", values: str = "[8, 16, 32]") -> Space:
    file = folder / "few.yaml"
    file.write_text(
        f"method: bayes\nmetric: {{name: val_accuracy, goal: maximize}}\n{rest}"
        f"parameters: {{batch_size: {{values: {values}}}}}\n"
    )
    return read_space(file)


@pytest.mark.parametrize("rest", ["", "run_cap: 8\n"])
def test_an_adaptive_search_of_few_points_ends_when_they_are_used_up_and_says_so(
    rest: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space, journal = few_points(tmp_path, rest=rest, values=f"{list(range(1, 7))}"), tmp_path / "journal.jsonl"
    decisions = decide(space, journal)
    play(decisions, random.Random(0))
    asked = [event.point["batch_size"] for event in open_log(journal).of_kind(SuggestEvent)]
    assert sorted(asked) == [1, 2, 3, 4, 5, 6]
    assert "all of its 6 points were tried; the search ends" in caplog.text
    assert not decide(space, journal).has_more()


def test_an_adaptive_search_ends_after_many_repetitions_and_says_how_many_points_were_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = few_points(tmp_path)
    log = open_log(tmp_path / "journal.jsonl")
    decisions = Decisions(space, log, identify=lambda point: str(min(point["batch_size"], 16)), seed=3)
    play(decisions, random.Random(0))
    assert len(suggested(log.events)) == 2
    assert "TPE repeated known points 200 times in a row; the search ends after 2 of 3 points" in caplog.text


def test_a_journal_of_an_earlier_version_that_counted_repetitions_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, file = few_points(tmp_path, rest="run_cap: 12\n"), tmp_path / "journal.jsonl"
    names = itertools.count()
    old = Decisions(space, open_log(file), identify=lambda point: f"{next(names)}", seed=3, max_points=12)
    play(old, random.Random(0))
    rewrite(
        file,
        lambda text: re.sub(
            rb'"trial_id":"[^"]*","point":{"batch_size":(\d+)}', rb'"trial_id":"\1","point":{"batch_size":\1}', text
        ),
    )
    assert len(suggested(read_events(file))) == 12
    again = Decisions(space, open_log(file), identify=lambda point: str(point["batch_size"]), seed=3, max_points=12)
    assert not again.has_more()


def test_a_limit_on_trials_holds_across_runs(tmp_path: Path) -> None:
    space, file = make_space("random", tmp_path), tmp_path / "journal.jsonl"

    play(decide(space, file, max_points=4), random.Random(0), steps=5)
    play(decide(space, file, max_points=4), random.Random(1))
    assert len(suggested(read_events(file))) == 4
