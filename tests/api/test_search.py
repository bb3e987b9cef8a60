"""Promises of `ferray.search` and `ferray.plan`, without Ray: arguments, callbacks, interruption, what is returned."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.history import make_search_file
from fixtures.report import make_trial
from hypothesis import given
from hypothesis import strategies as st

import ferray
from ferray.api import searching
from ferray.api.arguments import make_options, to_settings, to_sweep_text
from ferray.api.epochs import EpochCallback
from ferray.commands.search import parse
from ferray.data.store.reader import Store
from ferray.errors import FerrayError, SearchError
from ferray.records.run import Run
from ferray.records.trial import EpochResult, TrialRecord
from ferray.search.fleet.cluster import ray_environment
from ferray.search.options import SearchOptions
from ferray.signals import StopRequest
from ferray.space import parse_settings, read_space

SPACE = {
    "method": "grid",
    "metric": {"name": "val_accuracy", "goal": "maximize"},
    "parameters": {"learning_rate": {"values": [1e-4, 1e-5]}, "epochs": {"value": 2}},
}
FILE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [1.0e-4, 1.0e-5]}
  epochs: {value: 2}
"""


class Session:
    """In place of a session: keeps what it is given, and calls the observers as a search does."""

    def __init__(self, folder: Path) -> None:
        self.options: SearchOptions | None = None
        self.folder = folder
        self.events: Callable[[StopRequest], bool] = lambda stop: True

    def run(
        self, options: SearchOptions, stop: StopRequest, *, show: str, observers: Sequence[EpochCallback]
    ) -> tuple[Any, bool]:
        assert show == "nothing"
        self.options, self.observers = options, observers
        run = Run(self.folder / "first")
        if not run.exists():
            run.write_search(make_search_file())
            run.space_file.write_text(FILE)
        return SimpleNamespace(run=run), self.events(stop)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session(tmp_path)
    monkeypatch.setattr(searching, "run_session", session.run)
    return session


def names_of(error: pytest.ExceptionInfo[FerrayError]) -> str:
    return str(error.value.args[0])


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"max_trials": 0}, "max_trials=0"),
        ({"max_trials": "3"}, "max_trials='3'"),
        ({"max_trials": True}, "max_trials=True"),
        ({"minutes": 0}, "minutes=0"),
        ({"minutes": float("nan")}, "minutes=nan"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"wandb": "yes"}, "wandb='yes'"),
        ({"keep": 3}, "keep=3"),
        ({"retry": "yes"}, "retry='yes'"),
        ({"name": Path("a")}, "name=PosixPath('a')"),
        ({"data": 3}, "data=3"),
        ({"data": ""}, "data=''"),
        ({"out": b"runs"}, "out=b'runs'"),
        ({"weights": "a\0b"}, "weights='a\\x00b'"),
        ({"space": 3}, "space=3"),
        ({"space": {"method": Ellipsis}}, "space={'method'"),
        ({"resume": 3}, "resume=3"),
        ({"overrides": ["epochs=3"]}, "overrides=['epochs=3']"),
        ({"overrides": {3: 4}}, "overrides={3: 4}"),
        ({"overrides": {"a=b": 4}}, "overrides={'a=b': 4}"),
        ({"overrides": {"epochs": Ellipsis}}, "overrides="),
        ({"on_epoch": 3}, "on_epoch=3"),
        ({"address": 3}, "address=3"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_an_error_that_names_its_parameter(
    arguments: dict[str, Any], named: str, session: Session
) -> None:
    with pytest.raises(FerrayError) as error:
        ferray.search(**arguments)
    assert names_of(error).startswith(named)
    assert session.options is None
    with pytest.raises(FerrayError) as error:
        ferray.plan(**arguments)
    assert names_of(error).startswith(named)


NUMBERS = [
    ("max_trials", "--max-trials"), ("minutes", "--minutes"), ("seed", "--seed"), ("replicates", "--replicates"),
    ("finalists", "--finalists"), ("workers_per_trial", "--workers-per-trial"),
    ("gpus_per_worker", "--gpus-per-worker"), ("concurrent_trials", "--concurrent-trials"),
    ("max_failures", "--max-failures"),
]  # fmt: skip


@pytest.mark.parametrize("name, option", NUMBERS)
def test_the_command_and_the_function_have_the_same_bounds(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (-1, 0, 0.001, 0.01, 0.5, 1, 3, 64, 65, 10**6, 10**9, 10**9 + 1, float("inf")):
        if isinstance(value, float) and name not in ("minutes", "gpus_per_worker"):
            continue
        try:
            parsed: SearchOptions | None = parse([option, f"{value:f}" if isinstance(value, float) else str(value)])
        except SystemExit:
            parsed = None
        try:
            made: SearchOptions | None = make_options(SearchOptions, {name: value}, SearchError)
        except SearchError:
            made = None
        assert (parsed is None) == (made is None), value
        if parsed is not None:
            assert getattr(parsed, name) == pytest.approx(getattr(made, name))
    assert "error" in capsys.readouterr().err


def test_every_option_of_the_command_can_be_given(session: Session, tmp_path: Path) -> None:
    ferray.search(
        Path("grid"), data=tmp_path, weights=tmp_path / "w", overrides={"epochs": 3, "dropout": [0, 0.5]}, out=tmp_path,
        name="n", retry=True, again=True, max_trials=np.int64(4), minutes=2, seed=1, replicates=2, finalists=2,
        keep="best-fold", workers_per_trial=2, gpus_per_worker=np.float64(0.5), concurrent_trials=2, max_failures=0,
        wandb="offline", address="auto",
    )  # fmt: skip
    options = session.options
    assert options is not None
    words = [
        "--space", "grid", "--data", str(tmp_path), "--weights", str(tmp_path / "w"), "--set", "epochs=3",
        "--set", "dropout=[0, 0.5]", "--out", str(tmp_path), "--name", "n", "--retry", "--again", "--max-trials", "4",
        "--minutes", "2", "--seed", "1", "--replicates", "2", "--finalists", "2", "--keep", "best-fold",
        "--workers-per-trial", "2", "--gpus-per-worker", "0.5", "--concurrent-trials", "2", "--max-failures", "0",
        "--wandb", "offline", "--address", "auto",
    ]  # fmt: skip
    asked = parse(words)
    assert vars(options) | {"command": ""} == vars(asked) | {"command": ""}
    assert options.command.startswith("ferray.search(space='grid', data=")
    assert type(options.max_trials) is int


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e9, 1e9)
    | st.text("abcxyz _-.:#[]{}'\"\\\n\tÄ表", max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


def is_a_number_for_ferray(value: Any) -> bool:
    """`1e-3`, which a space file takes for a number."""
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return any(
        is_a_number_for_ferray(one)
        if isinstance(one, list)
        else isinstance(one, str) and bool(re.match(r"[-+.\d]", one))
        for one in texts
    )


@given(overrides=st.dictionaries(st.sampled_from(["epochs", "dropout", "freeze"]), VALUES))
def test_overrides_are_read_back_as_they_were_given(overrides: dict[str, Any]) -> None:
    overrides = {name: value for name, value in overrides.items() if not is_a_number_for_ferray(value)}

    assert parse_settings(to_settings(overrides, SearchError)) == overrides


def test_a_list_that_stands_in_two_places_is_written_twice_for_people_to_read() -> None:
    shared = [0.1, 0.2]

    assert to_settings({"dropout": [shared, shared]}, SearchError) == ("dropout=[[0.1, 0.2], [0.1, 0.2]]",)


def test_a_space_as_a_dict_is_the_file_with_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text(FILE)
    by_file = read_space(tmp_path / "file.yaml")
    same = {
        **SPACE,
        "parameters": {"learning_rate": {"values": np.array([1e-4, 1e-5])}, "epochs": {"value": np.int64(2)}},
    }
    for space in (SPACE, same):
        by_dict = read_space(tmp_path / "space.yaml", text=to_sweep_text(space, SearchError))
        assert [(one.name, one.values) for one in by_dict.parameters] == [
            (one.name, one.values) for one in by_file.parameters
        ]
        assert by_dict.metric == by_file.metric


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_is_that_of_the_command_whichever_way_the_space_is_given(in_folder: Path, tiny_store: Store) -> None:
    (in_folder / "space.yaml").write_text(FILE)
    common: dict[str, Any] = {"data": tiny_store.folder, "weights": "none", "name": "first"}

    plans = [ferray.plan(space, **common) for space in ("space.yaml", in_folder / "space.yaml", SPACE)]

    assert plans[0] == plans[1] == plans[2]
    assert plans[0]["points"] == [{"learning_rate": 1e-4}, {"learning_rate": 1e-5}]
    assert not (in_folder / "runs").exists()
    assert ferray.plan(SPACE, overrides={"epochs": 3, "learning_rate": [1e-3]}, **common)["max_epochs"] == 3


def test_a_fault_in_a_dict_is_named_by_its_place_in_it() -> None:
    wrong = {**SPACE, "parameters": {"learning_rat": {"values": [1.0]}}}

    with pytest.raises(FerrayError, match="learning_rat"):
        ferray.plan(wrong)


def test_a_search_is_resumed_by_name_or_by_folder(session: Session) -> None:
    ferray.search(resume="first")
    assert session.options is not None
    assert (session.options.resume, session.options.out) == ("first", "runs")
    for folder in ("elsewhere/first", Path("elsewhere/first"), "elsewhere/first/"):
        ferray.search(resume=folder)
        assert (session.options.resume, session.options.out) == ("first", "elsewhere")


def epoch(number: int) -> EpochResult:
    return make_trial(0, epochs=number).epochs[-1]


def test_a_callback_gets_each_epoch_with_its_trial_so_far_in_the_order_of_the_search(session: Session) -> None:
    seen: list[tuple[int, int, int]] = []

    def note(trial: TrialRecord, row: EpochResult) -> None:
        seen.append((trial.number, row.epoch, len(trial.epochs)))
        assert trial.epochs[-1] is row

    def search(stop: StopRequest) -> bool:
        (observer,) = session.observers
        first, second = make_trial(0, epochs=0), make_trial(1, epochs=1)  # the second one goes on
        observer.trial_started(first)
        observer.trial_started(second)
        for record, number in ((first, 1), (second, 2), (first, 2)):
            observer.epoch_ended(record.trial_id, epoch(number))
        observer.trial_ended(first)
        return True

    session.events = search
    ferray.search(on_epoch=note)
    assert seen == [(0, 1, 1), (1, 2, 2), (0, 2, 2)]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt("mine"), SystemExit("mine")])
def test_an_error_of_a_callback_ends_the_search_in_order_and_is_raised_then(
    error: BaseException, session: Session
) -> None:
    calls = []

    def fail(trial: TrialRecord, row: EpochResult) -> None:
        calls.append(row.epoch)
        raise error

    def search(stop: StopRequest) -> bool:
        (observer,) = session.observers
        record = make_trial(0, epochs=0)
        observer.trial_started(record)
        observer.epoch_ended(record.trial_id, epoch(1))
        assert stop.is_set(), "as after Ctrl-C"
        observer.epoch_ended(record.trial_id, epoch(2))  # which a worker had sent before
        observer.trial_ended(record)
        return False

    session.events = search
    with pytest.raises(type(error), match="mine"):
        ferray.search(on_epoch=fail)
    assert calls == [1]


def test_an_interrupted_search_raises_and_says_how_to_go_on(session: Session, tmp_path: Path) -> None:
    def search(stop: StopRequest) -> bool:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set(), "no KeyboardInterrupt while trials are trained"
        return False

    session.events = search
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=re.escape(f"ferray.search(resume='{tmp_path / 'first'}')")):
        ferray.search("grid")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_search_in_another_thread_needs_no_signals(session: Session) -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(ferray.search("grid")))
    thread.start()
    thread.join()

    assert found[0].name == "first"


def test_where_ray_runs_already_a_search_is_refused_and_that_ray_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    theirs = SimpleNamespace(is_initialized=lambda: True, shutdown=lambda: ended.append(True))
    monkeypatch.setitem(sys.modules, "ray", theirs)
    before = dict(os.environ)

    with pytest.raises(SearchError, match=r"ray\.shutdown") as error, ray_environment(None):
        pytest.fail("it went on")

    assert names_of(error) == "Ray"
    assert (ended, dict(os.environ)) == ([], before)


@pytest.mark.parametrize("address", [None, "auto"])
def test_the_environment_of_ray_is_left_as_it_was(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = dict(os.environ)

    with ray_environment(address):
        assert os.environ["RAY_ENABLE_AUTO_CONNECT"] == "0"
        assert (os.environ["RAY_AUTH_MODE"] == "token") == (address is None)

    assert dict(os.environ) == before


def test_a_search_that_is_not_finished_can_be_opened(tmp_path: Path) -> None:
    run = Run(tmp_path / "first")
    run.write_search(make_search_file())
    run.space_file.write_text(FILE)
    run.write_trial(make_trial(0, epochs=2, state="done", learning_rate=1e-4))
    run.write_trial(make_trial(1, epochs=1, state="interrupted", learning_rate=1e-5))

    for folder in (run.folder, str(run.folder)):
        search = ferray.open(folder)
        assert (search.name, search.path, search.metric) == ("first", run.folder, "val_accuracy")
        assert not search.is_finished
        assert search.best is None
        assert search.trials["epochs_run"].tolist() == [2, 1]
        assert search.trials.columns.tolist()[4] == "learning_rate"
        assert search.epochs["epoch"].tolist() == [1, 2, 1]
        assert search.test_scores == {}
        assert "not finished, 2 trials" in repr(search)
        with pytest.raises(FerrayError, match="has no best model yet"):
            search.model()


@pytest.mark.parametrize("folder", [3, None, "", "nowhere", b"x"])
def test_what_is_no_search_cannot_be_opened(folder: Any) -> None:
    with pytest.raises(FerrayError):
        ferray.open(folder)
