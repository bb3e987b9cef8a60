"""Times in which nobody trains."""

from datetime import datetime

from ferray.search.fleet.pause import NAMED_AFTER_S, Pause


def test_a_pause_is_named_after_half_a_minute_with_what_is_missing_and_since_when() -> None:
    now = [datetime(2026, 11, 30, 12, 0, 0).timestamp()]
    pause = Pause(clock=lambda: now[0])
    now[0] += 100
    pause.note(True)
    assert not pause.is_long
    now[0] += NAMED_AFTER_S - 1
    pause.note(False)
    assert not pause.is_long
    now[0] += 1
    assert pause.is_long
    assert pause.describe(lambda: "no node has a GPU") == "no node has a GPU; nobody trains since 12:01:40, 30 s ago"
    pause.note(True)
    assert not pause.is_long
