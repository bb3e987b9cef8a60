"""A workspace of W&B's shows the named searches; what is sent for it, and what is written where nothing can be sent."""

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import SPACE, write_run
from fixtures.wandb_server import WandbServer

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.records.run import Run
from ferray.tracking import workspace

OTHER = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.1, 0.01]}
  hidden_units: {values: [16, 4096]}
"""


@pytest.fixture
def searches(tiny_store: Store, tmp_path: Path) -> list[Run]:
    runs = [
        write_run(tmp_path / "runs" / name, tiny_store, 2, space=space) for name, space in (("a", SPACE), ("b", OTHER))
    ]
    runs[1].write_search(runs[1].read_search().changed(id="89abcdef"))
    return runs


def compare(*folders: Path, options: tuple[str, ...] = ()) -> int:
    return main(["wandb", *map(str, folders), *options])


def shown(view: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The configuration of each panel, by its kind and what it is of."""
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    panels = [panel for section in sections for panel in section["panels"]]
    return {
        f"{panel['viewType']} {panel['config'].get('metrics', [''])[0]}".strip(): panel["config"] for panel in panels
    }


def test_a_workspace_shows_the_runs_of_the_searches_and_is_changed_when_asked_for_again(
    searches: list[Run], server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [run.folder for run in searches]
    assert compare(*folders) == 0
    ((view_id, view),) = server.views.items()
    panels = shown(view)

    assert (view["entityName"], view["projectName"], view["displayName"]) == ("someone", "ferray", "a, b")
    (run_set,) = view["spec"]["section"]["runSets"]
    (runs,) = run_set["filters"]["filters"]
    assert (runs["key"], runs["op"]) == ({"section": "config", "name": "search_id"}, "IN")
    assert runs["value"] == ["0123abcd", "89abcdef"]
    assert panels["Parallel Coordinates Plot"]["columns"] == [
        {"accessor": "config:learning_rate.value", "log": True},
        {"accessor": "config:dropout.value"},
        {"accessor": "config:batch_size.value"},
        {"accessor": "config:augmentation.value"},
        {"accessor": "config:hidden_units.value", "log": True},
        {"accessor": "summary:best_val_accuracy"},
    ]
    assert panels["Parameter Importance"]["targetKey"] == "best_val_accuracy"
    assert panels["Run History Line Plot best_so_far"]["xAxis"] == "trial"
    assert panels["Run History Line Plot val_accuracy"]["xAxis"] == "epoch"
    assert panels["Run Comparer"]["diffOnly"] == "split"

    assert compare(*reversed(folders), options=("--out", str(folders[0] / "wandb-workspace.json"))) == 0
    assert list(server.views) == [view_id]
    assert server.views[view_id]["displayName"] == "b, a"
    printed = capsys.readouterr().out
    assert printed.index("made: http") < printed.index("changed: http")
    assert not server.unknown


def test_offline_the_file_says_what_would_be_shown(searches: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    folder = searches[0].folder
    assert compare(folder, options=("--wandb", "offline")) == 0
    written = json.loads((folder / "wandb-workspace.json").read_text())

    assert "not made" in capsys.readouterr().out
    assert (written["search_ids"], written["metric"], written["url"]) == (["0123abcd"], "val_accuracy", None)
    assert [panel["kind"] for panel in written["panels"]] == [
        "line plot", "parameter importance", "parallel coordinates", "line plot", "run comparer",
    ]  # fmt: skip


def test_without_the_package_the_command_that_installs_it_is_named(
    searches: list[Run], server: WandbServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workspace, "has_workspaces", lambda: False)

    assert compare(searches[0].folder) == 0
    assert "pip install 'ferray[reports]'" in capsys.readouterr().out
    assert not server.views


def test_searches_of_two_projects_or_metrics_are_refused(
    searches: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = searches[1].folder
    for text, words in (
        (f"project: faces\n{OTHER}", "its runs are in project faces, those of a in ferray"),
        (OTHER.replace("val_accuracy", "val_macro_f1"), "its metric is val_macro_f1, that of a val_accuracy"),
    ):
        searches[1].space_file.write_text(text)
        assert compare(searches[0].folder, folder) == 2
        assert words in capsys.readouterr().err


def test_a_server_that_fails_is_an_error_with_a_way_out(
    searches: list[Run], server: WandbServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = server.fail("UpsertView2", status=404)

    assert compare(searches[0].folder) == 2
    assert fault.num_seen
    assert "the workspace was not saved" in capsys.readouterr().err
