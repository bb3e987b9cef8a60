"""Promises of the page as a file: any search has one, it is small, and no fault of it costs a search anything."""

import base64
import hashlib
import html
import json
import logging
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fixtures.page_stores import store_of_many_classes
from fixtures.run_folder import write_run

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.records.points import rank_trials
from ferray.records.run import Run
from ferray.records.trial import State
from ferray.report.page import library
from ferray.report.page.charts.model import MIN_JOINED
from ferray.report.page.library import plot_library
from ferray.report.page.write import write_page
from ferray.search.outcome import export
from ferray.search.outcome.export import write_report

GRID = """\
method: grid
metric: {name: val_loss, goal: minimize}
parameters:
  learning_rate: {values: [1.0e-2, 1.0e-3, 1.0e-4]}
  dropout: {values: [0.0, 0.5]}
  hidden_units: {values: [null, 64]}
  epochs: {value: 8}
"""


class Elements(HTMLParser):
    """Collects the elements, the attributes and the texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, ""), *((name, value or "") for name, value in attrs)]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def without_scripts(file: Path) -> str:
    """The page without its scripts and styles."""
    return re.sub(r"<(script|style)[ >].*?</\1>", "", file.read_text(), flags=re.DOTALL)


def text_of(run: Run, **options: Any) -> str:
    """What the page says to a person who does not run its scripts, without the scripts."""
    return text_in(write_page(run, **options).file)


def text_in(file: Path) -> str:
    """The same of a page that was written."""
    plain = without_scripts(file)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", plain)))


def data_of(run: Run) -> dict[str, Any]:
    """The data of the page's plots and of its table of trials, by id."""
    page = write_page(run).file.read_text()
    found = re.findall(r'<script type="application/json" (?:data-spec|id)="([\w-]+)">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def test_the_page_names_no_address_outside_its_folder(ended_page: Path) -> None:
    page = ended_page.read_text()
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    addresses = re.findall(r"(?:src|href|action|data)=\"([^\"]*)\"|url\(([^)]*)\)|@import\s*(\S+)", own)
    named = {next(filter(None, found), "") for found in addresses}

    assert named
    assert {one for one in named if not re.match(r"#|data:image/|best/$", one)} == set()


def test_a_page_of_200_trials_is_below_3_mb(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "many", shown_store, 200, states=("done", "stopped", "stopped"))

    assert write_page(run).num_bytes < 3e6


@pytest.mark.slow
def test_a_page_of_10_000_trials_is_below_10_mb(
    shown_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    run = write_run(tmp_path / "very-many", shown_store, 10_000, states=("done", "stopped", "stopped"))
    page = write_page(run)

    assert page.num_bytes < 10e6
    assert len(data_of(run)["trials-data"]["folders"]) == 10_000


def test_the_winner_and_its_scores_come_first(ended_page: Path) -> None:
    text = text_in(ended_page)
    titles = ["The winner", "In three sentences", "What the settings do", "How the search went", "The best model on"]
    titles += ["The data", "What it cost", "All trials", "To reproduce it"]
    places = [text.index(title) for title in titles]

    assert places == sorted(places)
    assert re.search(r"Test accuracy 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] on 84 faces", text)
    assert re.search(r"Validation accuracy, corrected 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", text)
    assert re.search(r"Validation accuracy, as measured 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] one seed", text)
    assert re.search(r"Trial \d+ is ahead of trial \d+ in validation accuracy .* within noise", text)


@pytest.mark.parametrize(
    "states, said",
    [
        (("done", "running", "queued"), "This search has not ended"),
        (("done", "interrupted"), "Go on: python -m ferray.search --resume"),
        (("failed",), "Run them again: "),
        (("queued",), "No trial has a score yet"),
        (("done", "stopped", "stopped"), "stopped early; a mark stands at the last epoch of each"),
    ],
)
def test_a_search_in_any_state_has_a_page(
    states: tuple[State, ...], said: str, shown_store: Store, tmp_path: Path
) -> None:
    has_ended = set(states) <= {"done", "stopped", "failed"}
    run = write_run(tmp_path / "search", shown_store, 9, states=states, reason="no memory", is_finished=has_ended)

    text = text_of(run)
    assert said in text
    if "done" in states:
        assert ("leads so far" in text, "won" in text) == (not has_ended, has_ended)


def test_what_was_stopped_early_is_marked_in_cells_and_lines_and_said_of_importance(
    ended_run: Run, shown_store: Store, tmp_path: Path
) -> None:
    whole = write_run(tmp_path / "whole", shown_store, 20)
    states = [record.state for record in rank_trials(ended_run.read_trials())]
    marked, plain = data_of(ended_run)["parallel"], data_of(whole)["parallel"]
    ends = ["trained to the end" if state == "done" else "stopped early" for state in states]

    assert marked["datasets"]["points"]["end"] == ends
    assert "strokeDash" in json.dumps(marked["spec"])
    assert "strokeDash" not in json.dumps(plain["spec"])
    for run, is_marked in ((ended_run, True), (whole, False)):
        text = text_of(run)
        assert ("†" in text) == is_marked
        assert ("the shares are also of how fast settings learn" in text) == is_marked
        assert ("(stopped early), mean" in without_scripts(run.folder / "report.html")) == is_marked


def test_bins_of_few_pictures_are_not_joined(ended_run: Run) -> None:
    datasets = data_of(ended_run)["reliability"]["datasets"]
    num_joined = sum(value is not None for value in datasets["joined"]["accuracy"])

    assert 0 < num_joined < len(datasets["bins"]["num"])
    assert num_joined == sum(num >= MIN_JOINED for num in datasets["bins"]["num"])


@pytest.mark.parametrize("num_trials", [0, 1, 2])
def test_a_search_of_hardly_any_trial_has_a_page(num_trials: int, shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "small", shown_store, num_trials)

    assert "All trials" in text_of(run)
    assert len(data_of(run)["trials-data"]["folders"]) == num_trials


def test_a_search_without_a_test_score_says_why(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "untested", shown_store, 4, has_test_score=False)

    assert "There is no test score: the test split was not read for this model" in text_of(run)


def test_a_search_by_loss_calls_the_lowest_the_best(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "loss", shown_store, 12, space=GRID, settings={"monitor": "val_loss"})
    steps = data_of(run)["progress-trials"]["datasets"]["steps"]
    lowest = min(record.score() or 9.0 for record in run.read_trials())

    assert steps["score"] == sorted(steps["score"], reverse=True)
    assert steps["score"][-1] == pytest.approx(lowest, rel=1e-5)


def test_seeds_of_one_point_are_one_point(shown_store: Store, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-3, "dropout": 0.5, "batch_size": 32, "augmentation": "none"}
    run = write_run(tmp_path / "seeds", shown_store, 5, settings=settings)

    assert "5 trials of 1 point" in text_of(run)
    assert "mean of 5 trials (seeds, folds)" in text_of(run)


def test_a_search_whose_store_is_gone_has_a_page_that_says_so(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "moved", shown_store, 6, data=tmp_path / "nowhere")

    assert "The store cannot be read, so little is said of the data" in text_of(run)
    assert "There are no pictures, since the store cannot be read" in text_of(run, pictures=True)


def test_a_damaged_record_is_named_and_the_others_are_shown(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "damaged", shown_store, 5)
    run.record_file(f"{3:012x}").write_text("{}")

    assert f"The record of trial {3:012x} cannot be read" in text_of(run)
    assert len(data_of(run)["trials-data"]["folders"]) == 4


def test_what_the_search_said_of_an_earlier_winner_is_left_out(shown_store: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "other", shown_store, 8)
    search = run.read_search()
    assert search.verdict is not None
    run.write_search(search.changed(verdict=search.verdict | {"winner": 10**6}))

    text = text_of(run)
    assert "is of an earlier winner" in text
    assert "is ahead of trial" not in text


def test_a_thousand_classes_are_listed_by_their_confusions(tmp_path: Path) -> None:
    store = store_of_many_classes(tmp_path / "store", num_classes=1000)
    run = write_run(tmp_path / "classes", store, 3)
    page = write_page(run)
    text = text_in(page.file)

    assert page.num_bytes < 3e6
    assert "The matrix is too large to be read" in text
    assert "all 1,000 classes" in text
    assert text.count("class 0") < 200


def test_pictures_are_there_only_if_they_are_asked_for(ended_run: Run, tmp_path: Path) -> None:
    without = without_scripts(write_page(ended_run, out=tmp_path / "without.html").file)
    with_pictures = without_scripts(write_page(ended_run, out=tmp_path / "with.html", pictures=True).file)

    assert "<img" not in without
    assert 0 < with_pictures.count("<img") <= 24
    assert with_pictures.count("data:image/jpeg;base64,") == with_pictures.count("<img")


def test_links_lead_to_the_trials_from_wherever_the_page_is(ended_run: Run, tmp_path: Path) -> None:
    page = write_page(ended_run, out=tmp_path / "elsewhere" / "page.html").file
    found = re.search(r'"base":"([^"]+)"', page.read_text())

    assert found is not None
    assert (page.parent / found[1]).resolve() == ended_run.folder / "trials"


def test_every_name_of_a_hostile_search_is_escaped(hostile_run: Run) -> None:
    page = write_page(hostile_run, pictures=True).file
    parser = Elements()
    parser.feed(without_scripts(page))

    assert {name for name, _ in parser.found} & {"script", "b"} == set()
    assert [value for name, value in parser.found if name.startswith("on")] == []
    assert parser.texts.count(hostile_run.name) == 1
    assert len(re.findall(r"<script", page.read_text())) - len(re.findall(r"<script", plot_library())) < 15
    assert "alert(7)" in json.dumps(data_of(hostile_run)["trials-data"])


def test_the_scripts_that_may_run_are_the_two_of_the_page(ended_page: Path) -> None:
    page = ended_page.read_text()
    allowed = set(
        re.findall(r"'sha256-([^']+)'", re.search(r'Policy" content="([^"]+)"', page)[1].replace("&#39;", "'"))
    )  # type: ignore[index]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)

    assert len(scripts) == 2
    assert allowed == {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts}


def test_the_command_writes_the_page_and_says_where(
    ended_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"

    assert main(["page", str(ended_run.folder), "--out", str(out)]) == 0
    assert re.fullmatch(rf"{re.escape(str(out))}: 1\.\d MB; open it in a browser\n", capsys.readouterr().out)
    assert out.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("place", ["runs", "nothing"])
def test_a_folder_that_is_no_search_is_refused(
    place: str, ended_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ended_run.folder, tmp_path / "runs" / "first", ignore=shutil.ignore_patterns("trials"))

    assert main(["page", str(tmp_path / place)]) == 2
    assert "no search here" in capsys.readouterr().err
    assert not (tmp_path / place / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_the_old_one(ended_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(ended_run.folder, tmp_path / "copy"))
    before = write_page(run).file.read_bytes()
    run.space_file.write_text("method: none")

    assert main(["page", str(run.folder)]) == 2
    assert (run.folder / "report.html").read_bytes() == before


def test_no_fault_of_the_page_fails_a_search(
    ended_run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of the page")

    assert write_report(ended_run, ended_run.read_trials()) == [ended_run.folder / "report.html"]
    monkeypatch.setattr(export, "write_page", fail)
    with caplog.at_level(logging.WARNING):
        assert write_report(ended_run, []) == []
    assert "report.html was not written: ZeroDivisionError('a fault of the page')" in caplog.text


def test_the_library_is_bundled_once_and_a_script_of_another_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERRAY_CACHE", str(tmp_path / "cache"))
    script = plot_library()
    (kept,) = (tmp_path / "cache" / "page").iterdir()
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "made again")

    assert plot_library() == script
    assert "vegaEmbed" in script
    assert "</script" not in script
    kept.chmod(0o666)  # anybody may have written it
    assert plot_library() == "made again"
    kept.write_bytes(kept.read_bytes() + b" ")
    assert library._read_own(kept) is None


def test_a_pipe_in_the_cache_blocks_no_page(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vega.js")

    assert library._read_own(tmp_path / "vega.js") is None
