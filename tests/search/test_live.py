"""What a running search shows."""

import dataclasses
import io
import threading

import pytest
from rich.console import Console
from rich.text import Text

from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search import live
from ferray.search.live import LiveView
from ferray.search.pace import Pace
from ferray.space import find_space, read_space


def test_in_a_log_every_trial_that_ends_is_one_line_with_its_settings_and_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    space = read_space(find_space("grid"))
    record = TrialRecord(trial_id="a", number=3, recipe=Recipe(dropout=0.0, epochs=2), state="running")
    row = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.25))
    with LiveView(space, columns=space.searched, total=24, ended=2, pace=Pace(24), activities=dict) as view:
        view.trial_started(record)
        view.epoch_ended("a", row)
        view.trial_ended(dataclasses.replace(record, state="done", epochs=(row,)))
        failed = dataclasses.replace(record, number=4, state="failed", reason="loss is nan\n  lower it")
        view.trial_ended(failed)
    lines = capsys.readouterr().err.splitlines()
    settings = "(augmentation none, dropout 0, batch_size 32, learning_rate 0.001)"
    assert lines[0] == f"3/24: trial 3 done {settings}: val_accuracy 0.2500 in epoch 1 of 1, 0.2 s"
    assert lines[1] == f"4/24: trial 4 failed {settings}: loss is nan"
    assert "live" not in {thread.name for thread in threading.enumerate()}


def test_a_log_says_within_seconds_what_is_done_and_then_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    space = read_space(find_space("grid"))
    doing = {"a": "features: 256 of 900 faces"}
    view = LiveView(space, columns=[], total=24, ended=0, pace=Pace(24), activities=lambda: doing)
    times = []
    for now in (1.0, 2.0, 4.0, 5.0, 33.0, 35.0):
        view.refresh()
        times += [now] if capsys.readouterr().err else []
    assert times == [4.0, 35.0]


def test_the_time_of_features_ends_with_the_epoch_that_waited_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs may be over before the workers are asked again what they do."""
    now = 0.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    space, pace = read_space(find_space("grid")), Pace(1)
    doing = {"t0": "features: 256 of 900 faces"}
    view = LiveView(space, columns=[], total=1, ended=0, pace=pace, activities=lambda: dict(doing))
    record = running(0, epochs=0)
    view.trial_started(record)
    view.refresh()
    for epoch, ended in ((1, 10.0), (2, 10.25), (3, 10.75)):
        now = ended
        view.epoch_ended("t0", EpochResult(epoch=epoch, **dict.fromkeys(METRIC_FIELDS, 0.5)))
    assert pace.rates()[0] == pytest.approx(0.75 / 2)


def screen(console: Console, view: LiveView, *records: TrialRecord) -> list[str]:
    """The table when trials have begun, as plain lines."""
    for record in records:
        view.trial_started(record)
    with console.capture() as captured:
        console.print(view._table())
    return [Text.from_ansi(line).plain for line in captured.get().splitlines()]


def running(number: int, *, epochs: int = 3, **settings: object) -> TrialRecord:
    recipe = dataclasses.replace(Recipe(epochs=100), **settings)
    rows = tuple(EpochResult(epoch=one, **dict.fromkeys(METRIC_FIELDS, 0.51234)) for one in range(1, epochs + 1))
    return TrialRecord(trial_id=f"t{number}", number=number, recipe=recipe, state="running", epochs=rows)


@pytest.mark.parametrize("name", ["grid", "asha", "imbalance"])
def test_at_80_columns_no_score_and_no_number_is_cut(name: str) -> None:
    space = read_space(find_space(name))
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    doing = {"t0": "training", "t1": "features: 256 of 2,857 faces, 71 a second, 37 s left"}
    view = LiveView(
        space, columns=space.searched, total=1000, ended=0, pace=Pace(1000), activities=dict, console=console
    )
    view._activities = doing
    trials = [
        running(0, class_balance="sqrt_inverse_weights", learning_rate=0.000123456),
        running(1, epochs=0),
        *(running(number, epochs=1) for number in range(2, 40)),
    ]
    lines = screen(console, view, *trials)

    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "0.5123" in text
    assert "3/100" in text
    assert f"score: {space.metric.name}" in text
    assert "features" in next(line for line in lines if line.split()[:1] == ["1"])
    assert "training" in next(line for line in lines if line.split()[:1] == ["0"])
    assert "waiting" in next(line for line in lines if line.split()[:1] == ["2"])
    assert "images/s" not in text
    shown = [name for name in space.searched if name.split("_")[0][:8] in text.split("─")[0]]
    assert all(name in shown or name in text.split("no room for")[1] for name in space.searched)


def test_after_a_resize_the_table_is_drawn_on_a_clear_screen() -> None:
    space = read_space(find_space("grid"))
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    view = LiveView(space, columns=space.searched, total=4, ended=0, pace=Pace(4), activities=dict, console=console)
    assert isinstance(console.file, io.StringIO)
    clear = "\x1b[2J"
    with view:
        view.trial_started(running(0))
        live = view._live
        assert live is not None
        view._draw(live)
        assert clear not in console.file.getvalue()
        console.width = 60
        view._draw(live)
        assert console.file.getvalue().count(clear) == 1
        view._draw(live)
    assert console.file.getvalue().count(clear) == 1
