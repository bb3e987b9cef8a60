"""Work in threads: results keep their order, work stops with the caller, and OpenCV's setting is restored."""

import re
import threading

import cv2
import pytest
from fixtures.output import NotedOutput

from ferray import waiting
from ferray.data.threads import MAX_BATCH, Threads, progress_bar


@pytest.mark.parametrize("num", [1, 4])
@pytest.mark.parametrize("length", [0, 1, 7, 1000])
def test_results_are_in_the_order_of_the_items(num: int, length: int) -> None:
    found = Threads(num=num).map(lambda item: item * item, range(length), title="squaring", unit="numbers")

    assert list(found) == [item * item for item in range(length)]


def test_items_that_were_not_begun_are_left_when_the_caller_closes_the_iterator() -> None:
    done = []
    release = threading.Event()

    def work(item: int) -> int:
        done.append(item)
        if item >= MAX_BATCH:
            release.wait(timeout=30)
        return item

    results = Threads(num=1).map(work, range(100 * MAX_BATCH), title="working", unit="items")
    assert next(results) == 0
    threading.Timer(0.1, release.set).start()
    results.close()

    assert len(done) <= 2 * MAX_BATCH


def test_an_error_in_a_thread_reaches_the_caller_and_opencvs_threads_are_restored() -> None:
    before = cv2.getNumThreads()

    def fail(item: int) -> int:
        assert cv2.getNumThreads() == 1
        raise OSError(f"item {item}")

    with pytest.raises(OSError, match="item 0"):
        list(Threads(num=2).map(fail, range(10), title="failing", unit="items"))
    assert cv2.getNumThreads() == before


def test_where_no_bar_can_be_drawn_lines_say_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "QUIET_S", 0.001)
    monkeypatch.setattr(waiting, "REPEAT_S", 0.002)
    output = NotedOutput(num_lines=2)
    monkeypatch.setattr("sys.stderr", output)
    with progress_bar("cropping", 1200, "photographs", is_shown=True) as advance:
        advance(7)
        assert output.has_lines.wait(60)

    assert re.match(r"cropping: [07] of 1,200 photographs \.\.\.\n", output.text)
