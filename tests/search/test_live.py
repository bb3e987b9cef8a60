"""What a running search shows."""

import dataclasses
import io
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.report.watch.drawing import draw
from ferray.report.watch.status import read_status
from ferray.report.watch.tally import Tally
from ferray.search import live
from ferray.search.live import LiveView
from ferray.search.pace import Pace
from ferray.search.status import Status
from ferray.signals import say_from_handler
from ferray.space import find_space, read_space

ROW = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.25))


def tally_of(name: str, *, known: tuple[TrialRecord, ...] = ()) -> Tally:
    space = read_space(find_space(name))
    return Tally("first", space, columns=space.searched, known=known)


def trial(number: int, **settings: object) -> TrialRecord:
    recipe = dataclasses.replace(Recipe(epochs=2), **settings)
    return TrialRecord(trial_id=f"t{number}", number=number, recipe=recipe, state="running")


def ended(record: TrialRecord, score: float = 0.25, **changes: object) -> TrialRecord:
    row = dataclasses.replace(ROW, **{name: score for name in METRIC_FIELDS if name.startswith("val_")})
    return dataclasses.replace(record, **{"state": "done", "epochs": (row,), **changes})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time of the view."""
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_in_a_log_a_trial_that_ends_is_one_line_with_its_settings_and_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with LiveView(tally_of("grid"), total=24, ended=2, pace=Pace(24), activities=dict) as view:
        view.trial_started(trial(3, dropout=0.0))
        view.epoch_ended("t3", ROW)
        view.trial_ended(ended(trial(3, dropout=0.0)))
        lines = capsys.readouterr().err.splitlines()
    settings = "(augmentation none, dropout 0, batch_size 32, learning_rate 1e-3)"
    assert lines == [f"3/24: trial 3 done {settings}: val_accuracy 0.2500 in epoch 1 of 1"]
    assert "live" not in {thread.name for thread in threading.enumerate()}


def test_in_a_log_trials_that_end_within_seconds_share_a_line_that_names_those_that_failed(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    view = LiveView(tally_of("grid"), total=24, ended=0, pace=Pace(24), activities=dict)
    view.trial_ended(ended(trial(0)))
    assert len(capsys.readouterr().err.splitlines()) == 1
    clock(1.0)
    view.trial_ended(ended(trial(1), state="failed", reason="loss is nan\n  lower it"))
    view.trial_ended(ended(trial(2)))
    view.refresh()
    assert capsys.readouterr().err == ""
    clock(6.0)
    view.refresh()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("3/24: 1 more ended, and trial 2 done (")
    assert line.endswith("(failed: 1)")


def test_a_log_says_within_seconds_what_is_done_and_then_every_half_minute(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    view = LiveView(tally_of("grid"), total=24, ended=0, pace=Pace(24), activities=dict)
    times = []
    for now in (1.0, 2.0, 4.0, 5.0, 33.0, 35.0):
        clock(now)
        view.refresh()
        times += [now] if capsys.readouterr().err else []
    assert times == [4.0, 35.0]


def test_the_time_of_features_ends_with_the_epoch_that_waited_for_them(clock: Callable[[float], None]) -> None:
    """Epochs may be over before the workers are asked again what they do."""
    pace = Pace(1)
    doing = {"t0": "features: 256 of 900 faces"}
    view = LiveView(tally_of("grid"), total=1, ended=0, pace=pace, activities=lambda: dict(doing))
    record = running(0, epochs=0)
    view.trial_started(record)
    view.refresh()
    for epoch, at in ((1, 10.0), (2, 10.25), (3, 10.75)):
        clock(at)
        view.epoch_ended("t0", EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)))
    assert pace.rates()[0] == pytest.approx(0.75 / 2)


def running(number: int, *, epochs: int = 3, **settings: object) -> TrialRecord:
    recipe = dataclasses.replace(Recipe(epochs=100), **settings)
    rows = tuple(EpochResult(epoch=one, **dict.fromkeys(METRIC_FIELDS, 0.51234)) for one in range(1, epochs + 1))
    return TrialRecord(trial_id=f"t{number}", number=number, recipe=recipe, state="running", epochs=rows)


def screen(view: LiveView, *, width: int = 80, height: int = 23) -> list[str]:
    """The screen, as plain lines."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height)
    with console.capture() as captured:
        console.print(draw(view.view(), width=width, height=height))
    return [Text.from_ansi(line).plain for line in captured.get().splitlines()]


@pytest.mark.parametrize("height", [7, 8, 9, 10, 11, 12, 14, 23, 60])
def test_in_a_window_of_any_height_every_trial_has_a_row_or_is_counted(height: int) -> None:
    view = LiveView(tally_of("grid"), total=1000, ended=0, pace=Pace(1000), status=Status(), activities=dict)
    for number in range(40):
        view.trial_ended(ended(trial(number)))
    view.trial_started(running(40))
    lines = screen(view, height=height)
    rows = [line for line in lines if re.match(r" +\d+ +(done|waiting) ", line)]
    counted = re.search(r"(\d+) more|no room for (\d+) trials", "\n".join(lines))

    assert len(lines) <= height
    assert (height < 8) == (counted is None)
    assert counted is None or len(rows) + int(counted[1] or counted[2]) == 41


def test_the_table_says_in_which_epoch_each_trial_was_best() -> None:
    view = LiveView(tally_of("grid"), total=1000, ended=0, pace=Pace(1000), status=Status(), activities=dict)
    view.trial_started(running(40))
    head, row = (line for line in screen(view) if line.startswith(("trial  state", "   40  waiting")))

    assert row[: head.index("best at") + len("best at")].split()[-1] == "1"  # of three epochs with equal scores


@pytest.mark.parametrize("name", ["grid", "asha", "imbalance"])
def test_at_80_by_24_nothing_scrolls_and_no_score_and_no_number_is_cut(name: str) -> None:
    doing = {"t0": "training", "t1": "features: 256 of 2,857 faces, 71 a second, 37 s left"}
    status = Status()
    status.waits = "for a node with 1 CPU since 12:03"
    tally = tally_of(name)
    view = LiveView(tally, total=1000, ended=0, pace=Pace(1000), status=status, activities=lambda: doing)
    view._activities = doing
    for number in (50, 51):
        view.trial_ended(ended(trial(number), 0.1, state="stopped"))
    view.trial_ended(ended(trial(52), state="failed", epochs=(), reason="loss is nan"))
    view.trial_ended(ended(trial(53, learning_rate=0.01), 0.8765))
    view.trial_started(running(0, class_balance="sqrt_inverse_weights", learning_rate=0.000123456))
    view.trial_started(running(1, epochs=0))
    for number in range(2, 40):
        view.trial_started(running(number, epochs=1))
    lines = screen(view)
    text = "\n".join(lines)

    assert max(map(len, lines)) <= 80
    assert len(lines) <= 23
    assert "best     0.8765 val_accuracy: trial 53, epoch 1 of 2" in text or name != "grid"
    assert "failed   trial 52 at epoch 0 of 2: loss is nan" in lines
    assert "stopped  trial 51 at epoch 1 of 2, 0.1000: " in text
    assert "; before: 50" in text or "…" in text
    assert "waits    for a node with 1 CPU since 12:03" in lines
    assert "trial 1: 256 of 2,857 faces, 71 a second, 37 s left" in text
    assert "3/100" in text
    assert "features" in next(line for line in lines if line.split()[:1] == ["1"])
    assert "training" in next(line for line in lines if line.split()[:1] == ["0"])
    assert "waiting" in next(line for line in lines if line.split()[:1] == ["2"])
    rows = [line for line in lines if line.split()[:1] and line.split()[0].isdigit()]
    assert f"...  {44 - len(rows)} more" in text


@pytest.mark.parametrize("width", [30, 40, 50, 60])
def test_in_a_narrow_terminal_no_score_and_no_number_is_cut(width: int) -> None:
    view = LiveView(tally_of("grid"), total=1000, ended=0, pace=Pace(1000), activities=dict)
    for number in range(100, 120):
        view.trial_ended(ended(trial(number), 0.8765))
    view.trial_started(running(140))
    lines = screen(view, width=width)
    rows = [line for line in lines if line.split()[:1] and line.split()[0].isdigit()]

    assert max(map(len, lines)) <= width
    assert len(rows) > 5
    assert all("0.8765" in line or "0.5123" in line for line in rows)
    assert any("3/100" in line for line in rows)
    assert not any("…" in line for line in rows)


def test_a_terminal_that_cannot_be_drawn_on_gets_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the shell of an editor, which says TERM=dumb: rich would draw once, at the end."""
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True)
    with LiveView(tally_of("grid"), total=24, ended=0, pace=Pace(24), activities=dict, console=console) as view:
        view.trial_ended(ended(trial(3)))
        assert "1/24: trial 3 done" in capsys.readouterr().err


def test_a_best_trial_that_still_runs_is_the_best_so_far() -> None:
    view = LiveView(tally_of("grid", known=(ended(trial(0), 0.3),)), total=4, ended=1, pace=Pace(4), activities=dict)
    view.trial_started(trial(1))
    assert "best     0.3000 val_accuracy: trial 0, epoch 1 of 2" in screen(view)
    view.epoch_ended("t1", dataclasses.replace(ROW, val_accuracy=0.4))
    assert "best     0.4000 val_accuracy: trial 1, epoch 1 of 2, still running" in screen(view)


def test_in_a_low_terminal_the_trials_have_a_line_without_their_settings() -> None:
    view = LiveView(tally_of("grid"), total=4, ended=0, pace=Pace(4), activities=dict)
    view.trial_started(trial(0))
    lines = screen(view, width=60, height=11)
    assert len(lines) <= 11
    assert any(line.split()[:2] == ["0", "waiting"] for line in lines)


def test_after_a_resize_the_screen_is_drawn_on_a_clear_one() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    view = LiveView(tally_of("grid"), total=4, ended=0, pace=Pace(4), activities=dict, console=console)
    assert isinstance(console.file, io.StringIO)
    clear = "\x1b[2J"
    with view:
        view.trial_started(running(0))
        shown = view._live
        assert shown is not None
        view._draw(shown)
        assert clear not in console.file.getvalue()
        console.width = 60
        view._draw(shown)
        assert console.file.getvalue().count(clear) == 1
        view._draw(shown)
    assert console.file.getvalue().count(clear) == 1


def test_what_the_terminal_shows_is_what_the_folder_says(tmp_path: Path) -> None:
    with Status(tmp_path, session=3, price=2.5) as status:
        view = LiveView(tally_of("grid"), total=4, ended=0, pace=Pace(4), status=status, activities=dict)
        with view:
            view.trial_started(running(0))
            view.trial_ended(ended(trial(1), state="failed", reason="loss is nan"))
            logging.getLogger("ferray.search").warning("a worker has died")
            status._write()
            found = read_status(tmp_path)
            now = view.view()
    assert found is not None
    assert found.session == 3
    assert found.process.is_alive() in (True, None)
    assert dataclasses.replace(found.view, at=now.at) == now
    assert found.view.message == "a worker has died"
    assert found.view.price == 2.5


@pytest.mark.parametrize(
    "error, phase", [(None, "finished"), (KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed")]
)
def test_the_folder_says_how_the_search_ended(error: BaseException | None, phase: str, tmp_path: Path) -> None:
    status = Status(tmp_path)
    try:
        with status:
            status.show(tally_of("grid").view)
            if error is not None:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    found = read_status(tmp_path)
    assert found is not None
    assert found.view.phase == phase
    assert "status" not in {thread.name for thread in threading.enumerate()}


def test_what_ctrl_c_says_does_not_disturb_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    view = LiveView(tally_of("grid"), total=4, ended=0, pace=Pace(4), activities=dict, console=console)
    with view:
        say_from_handler("stopping: every finished epoch is kept")
        assert capfd.readouterr().err == ""
        assert view.view().message == "stopping: every finished epoch is kept"
    say_from_handler("printed")
    assert capfd.readouterr().err == "printed\n"
