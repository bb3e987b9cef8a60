"""`ferray report watch`: what it prints, and how it ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.run_folder import write_run

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.report.watch.status import LiveStatus, ProcessIdentity, write_status
from ferray.report.watch.view import SearchView


@pytest.fixture
def run(tmp_path: Path, tiny_store: Store) -> Run:
    return write_run(tmp_path / "first", tiny_store, 3, states=("done", "running"), is_finished=False)


@pytest.fixture
def report(run: Run) -> Callable[..., None]:
    def write(phase: str, at: float) -> None:
        view = SearchView(name="first", phase=phase, metric="val_accuracy", at=at, began=at - 61)  # type: ignore[arg-type]
        write_status(run.folder, LiveStatus(view=view, process=ProcessIdentity.own(), session=1))

    return write


@pytest.mark.parametrize("phase, code", [("finished", 0), ("interrupted", 1), ("failed", 1)])
def test_once_prints_one_view_and_the_exit_code_says_how_it_ended(
    phase: str, code: int, run: Run, report: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    report(phase, 1.8e9)
    assert main(["watch", str(run.folder), "--once"]) == code
    out = capsys.readouterr().out
    assert out.startswith(f"first  {phase}")
    assert ("go on" in out) == (code == 1)
    assert "\x1b" not in out


def test_where_there_is_no_terminal_lines_are_written_until_the_end(
    run: Run, report: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    report("finished", 1.8e9)
    assert main(["watch", str(run.folder)]) == 0
    assert capsys.readouterr().out == "finished: 0/? trials, 0 epochs, 1:01 min spent\n"


def test_ctrl_c_ends_the_watcher_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press_ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ferray.commands.watch.time.sleep", press_ctrl_c)
    assert main(["watch", str(run.folder)]) == 130
    assert "this changes nothing for the search" in capsys.readouterr().err


def test_a_folder_without_a_search_is_an_error_that_names_those_beside_it(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(run.folder.with_name("frist"))]) == 2
    assert "Known names: first" in capsys.readouterr().err


def test_to_watch_loads_no_heavy_library(run: Run, report: Callable[..., None]) -> None:
    report("finished", 1.8e9)
    code = (
        "import sys; from ferray.commands.report import main; main(['watch', sys.argv[1], '--once']);"
        " print(*sorted({'torch', 'ray', 'wandb', 'albumentations', 'optuna', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.folder)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == ""
