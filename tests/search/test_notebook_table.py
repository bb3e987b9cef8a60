"""The table of a search in a notebook, without one."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from rich.text import Text

from ferray.report.watch.drawing import draw
from ferray.report.watch.tally import Tally
from ferray.search import live
from ferray.search.live import LiveView
from ferray.search.notebook import NotebookTable, in_notebook
from ferray.search.pace import Pace
from ferray.space import find_space, read_space


class Outputs:
    """The outputs of a cell, as IPython makes and replaces them."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> "Outputs":
        assert raw
        assert display_id
        self.shown.append(bundle)
        return self

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown[-1] = bundle


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """A process that runs the cells of a notebook."""
    outputs, ipython, display = Outputs(), ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    display.display = outputs.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return outputs


def test_a_table_replaces_the_last_one_in_one_output_and_has_no_codes_of_a_terminal(outputs: Outputs) -> None:
    table = NotebookTable()
    table.start()
    for number in range(3):
        table.update(Text(f"{number} of <3> trials", style="bold red"), refresh=True)
    table.stop()

    assert outputs.shown == [{"text/plain": "2 of <3> trials", "text/html": "<pre>2 of &lt;3&gt; trials</pre>"}]


def test_a_search_in_a_notebook_shows_its_table_there_and_prints_no_lines(
    outputs: Outputs, capsys: pytest.CaptureFixture[str]
) -> None:
    space = read_space(find_space("grid"))
    tally = Tally("first", space, columns=space.searched)
    with LiveView(tally, total=24, ended=2, pace=Pace(24), activities=dict) as view:
        view.refresh()

    (bundle,) = outputs.shown
    assert "2/24 trials" in bundle["text/plain"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shell", [None, SimpleNamespace(), SimpleNamespace(kernel=None)])
def test_a_terminal_with_ipython_is_no_notebook(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    assert not in_notebook()


def test_without_ipython_nothing_is_imported_to_see_that_this_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)

    assert not in_notebook()
    assert "IPython" not in sys.modules


def test_a_limited_search_says_how_long_it_begins_points(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    space = read_space(find_space("grid"))
    tally = Tally("first", space, columns=[])
    view = LiveView(tally, total=24, ended=0, pace=Pace(24), deadline=220.0, activities=dict)

    def counts() -> str:
        return str(draw(view.view(), width=80, height=23).renderables[2])

    assert counts().endswith(", new points for 2:00 min")
    now = 230.0
    assert counts().endswith(", no new points: the time is up")
