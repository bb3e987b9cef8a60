"""Promises of `compare`: what does not compare is refused, one search has its stages, and no name is taken for code."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import SPACE, write_run

from ferray.commands.report import main
from ferray.data.store.reader import Store
from ferray.errors import RecordError
from ferray.records.events import EndEvent, EventLog, ExtendEvent, ResultEvent, SpaceSource, SuggestEvent
from ferray.records.run import Run
from ferray.report.results.compared.comparison import compare_searches
from ferray.report.results.compared.searches import read_compared

FOLDS = SPACE.replace("  epochs: {value: 8}", "  epochs: {value: 8}\n  folds: {value: 2}")


@pytest.fixture(scope="module")
def other_run(shown_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A second search on the same pictures."""
    return write_run(tmp_path_factory.mktemp("others") / "other", shown_store, 20, states=("stopped", "done"))


@pytest.fixture(scope="module")
def grown_run(shown_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search that was extended after five trials, of which the last had not ended."""
    run = write_run(tmp_path_factory.mktemp("grown") / "grown", shown_store, 9)
    ids = {record.number: record.trial_id for record in run.read_trials()}
    source = SpaceSource(name="made-up", text=SPACE.replace("0.7", "0.5"), settings=("weights=none",))
    log = EventLog(run.journal())
    for number in range(5):
        log.append(SuggestEvent(number=number, trial_id=ids[number], point={}))
    for number in range(4):
        log.append(EndEvent(number=number, trial_id=ids[number], state="done", epoch=8))
    log.append(ResultEvent(number=4, epoch=3, score=0.1, stop=False))
    log.append(ExtendEvent(space=SpaceSource(name="made-up", text=SPACE, settings=()), earlier=source))
    for number in range(5, 9):
        log.append(SuggestEvent(number=number, trial_id=ids[number], point={}))
    return run


def compare(*words: Any) -> int:
    return main(["compare", *map(str, words)])


def test_a_comparison_fits_80_columns_and_begins_with_its_verdict(
    ended_run: Run, other_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(ended_run.folder, other_run.folder) == 0
    text = capsys.readouterr().out
    places = [
        text.index(part)
        for part in ("To reach validation", "differs", "the winners, by", "at equal budget", "points that coincide")
    ]

    assert places == sorted(places)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"\n  B +0\.\d{4} +0\.\d{4} +0\.\d{4} +\d+ +\d+ +[\d,]+\n", text)


def test_six_searches_fit_80_columns_too(
    ended_run: Run, shown_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [write_run(tmp_path / f"search-{number}", shown_store, 5 + number) for number in range(5)]
    assert compare(ended_run.folder, *(run.folder for run in others)) == 0
    text = capsys.readouterr().out

    assert "\n  F " in text
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_the_page_of_a_comparison_begins_with_its_verdict(ended_run: Run, other_run: Run, tmp_path: Path) -> None:
    page = tmp_path / "compared.html"
    assert compare(ended_run.folder, other_run.folder, "--out", page) == 0
    text = page.read_text()
    places = [text.index(part) for part in ('class="verdict"', "To reach validation accuracy", 'id="differences"')]

    assert places == sorted(places)


def test_searches_of_different_data_are_refused_unless_forced(
    ended_run: Run, hostile_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(ended_run.folder, hostile_run.folder) == 2
    error = capsys.readouterr().err
    assert str(ended_run.folder) in error
    assert hostile_run.name in error
    assert "their data differ" in error
    assert "--force" in error

    assert compare(ended_run.folder, hostile_run.folder, "--force") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "do not compare with those of A (ended): they are of different validation pictures" in text
    assert "are not comparable" in text


def test_searches_of_different_validation_are_refused(
    ended_run: Run, shown_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = write_run(tmp_path / "folds", shown_store, 4, space=FOLDS, settings={"folds": 2, "fold": 0})

    assert compare(ended_run.folder, folds.folder) == 2
    assert "the validation split and 2 folds" in " ".join(capsys.readouterr().err.split())
    assert compare(ended_run.folder, folds.folder, "--force") == 0


def test_json_is_one_object_without_a_broken_number(
    ended_run: Run, other_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(ended_run.folder, other_run.folder, "--json") == 0
    value = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)

    assert [one["name"] for one in value["searches"]] == ["ended", "other"]
    assert {"differing", "winners", "contrasts", "best_so_far", "equal_budgets", "milestones", "coinciding"} <= set(
        value
    )
    assert value["best_so_far"]["B"][-1]["trials"] == 20


def test_a_search_that_grew_is_compared_with_what_its_journal_says_it_was(grown_run: Run) -> None:
    before, after = read_compared([grown_run.folder])
    unfinished = before.results.records[-1]

    assert [record.number for record in before.results.records] == [0, 1, 2, 3, 4]
    assert (unfinished.state, len(unfinished.epochs)) == ("interrupted", 3)
    assert len(after.results.records) == 9
    assert [one.name for one in compare_searches([before, after]).differences.differing] == ["dropout"]
    assert before.steps[-1].score <= after.steps[-1].score


def test_a_search_is_compared_with_its_first_trials(ended_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(ended_run.folder, "--before", 10) == 0
    text = capsys.readouterr().out

    assert "A  ended, before trial 10: 10 trials" in text
    assert "B  ended, as it is now: 60 trials" in text
    assert "what each stage had spent" in text


@pytest.mark.parametrize(
    "words, error",
    [
        (("{run}",), "its journal has no extension"),
        (("{run}", "--before", "60"), "one side is empty"),
        (("{run}", "{run}"), "named twice"),
        (("{run}", "{other}", "--before", "3"), "--before divides one"),
        (("{run}", "{other}/nothing"), "no search here"),
        (("{run}",) * 7, "at most 6"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_way_out(
    words: tuple[str, ...], error: str, ended_run: Run, other_run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(*(word.format(run=ended_run.folder, other=other_run.folder) for word in words)) == 2
    assert error in capsys.readouterr().err


def test_a_search_by_another_metric_is_ranked_by_that_of_the_first(
    ended_run: Run, shown_store: Store, tmp_path: Path
) -> None:
    space = SPACE.replace("name: val_accuracy, goal: maximize", "name: val_loss, goal: minimize")
    by_loss = write_run(tmp_path / "loss", shown_store, 12, space=space, settings={"monitor": "val_loss"})
    searches = read_compared([ended_run.folder, by_loss.folder])
    comparison = compare_searches(searches)
    best = max(row.val_accuracy for record in by_loss.read_trials() for row in record.epochs)

    assert searches[1].steps[-1].score == best
    assert any("was made for validation loss" in text for text in comparison.warnings)
    assert "different metrics" in comparison.contrasts[0].note


@pytest.mark.parametrize("num_trials", [0, 1])
def test_a_search_of_hardly_any_trial_is_compared(
    num_trials: int, ended_run: Run, shown_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_run(tmp_path / "small", shown_store, num_trials, is_finished=False)

    assert compare(ended_run.folder, small.folder, "--out", tmp_path / "page.html") == 0
    assert "has not ended" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "page.html").exists()


def test_no_name_on_the_page_of_a_comparison_is_markup_or_code(
    ended_run: Run, hostile_run: Run, tmp_path: Path
) -> None:
    page = tmp_path / "compared.html"
    assert compare(ended_run.folder, hostile_run.folder, "--force", "--out", page) == 0
    plain = re.sub(r"<(script|style)[ >].*?</\1>", "", page.read_text(), flags=re.DOTALL)
    specifications = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text())

    assert "<img" not in plain
    assert "&lt;img src=x onerror=alert(9)&gt;" in plain
    assert len(specifications) == 3
    assert not any("alert" in text for text in specifications)


def test_a_name_that_would_steer_the_terminal_is_replaced(
    ended_run: Run, other_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = shutil.copytree(other_run.folder, tmp_path / "a\x1b[31mb")

    assert compare(ended_run.folder, evil) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_records_that_stand_twice_under_one_name_are_told_apart(ended_run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(ended_run.folder, tmp_path / "ended")
    first, second = read_compared([ended_run.folder, copy])

    assert first.name != second.name
    assert dataclasses.asdict(compare_searches([first, second]).contrasts[0])["outcome"] == "the same trials"


def test_nothing_is_compared_without_a_folder() -> None:
    with pytest.raises(RecordError, match="0 searches"):
        read_compared([])
