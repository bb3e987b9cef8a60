"""Requests of the users of other tools that no other test covers; docs/reliability.md has the whole list."""

import ast
import dataclasses
import itertools
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.history import make_search_file, open_log
from fixtures.plays import play

from ferray import recipe as recipes
from ferray.commands.search import main
from ferray.data.store.reader import Store
from ferray.errors import RecipeError
from ferray.files.storage import Lease
from ferray.recipe import NO_WEIGHTS, Recipe, make_recipe
from ferray.records.run import Run
from ferray.records.trial import METRIC_FIELDS, EpochResult, TrialRecord
from ferray.search.history.points import Suggestion, make_identify
from ferray.search.history.shared_epochs import SharedEpochs
from ferray.search.tune.decisions import Decisions
from ferray.space import points, read_space

ROW = EpochResult(epoch=1, **dict.fromkeys(METRIC_FIELDS, 0.5))
TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "reliability.md"

MANY = """\
method: random
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}
  epochs: {value: 9}
"""

SMALL = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  learning_rate: {values: [0.001, 0.0001]}
  epochs: {value: 3}
"""


def test_every_test_that_the_page_on_reliability_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE.read_text())
    assert len(named) > 80
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


def names_in(file: str) -> set[str]:
    """Names of the tests in a file."""
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


class RecordedDecisions(Decisions):
    """Decisions whose trials are put on record, as workers do."""

    def __init__(self, file: Path, run: Run, max_trials: int) -> None:
        log = open_log(run.journal().file)
        super().__init__(read_space(file), log, identify=self._identity, seed=0, max_points=max_trials)
        self.run, self.max_open_files = run, 0
        self.shared_epochs = SharedEpochs([], has_scheduler=False)

    @staticmethod
    def _identity(point: dict[str, object]) -> str:
        return identity_of(settled(point))

    def suggest(self) -> Suggestion | str:
        suggestion = super().suggest()
        if isinstance(suggestion, Suggestion):
            lease = Lease.take(self.run.trial_dir(suggestion.trial_id), (1, suggestion.number))
            recipe = settled(suggestion.point)
            record = TrialRecord(trial_id=suggestion.trial_id, number=suggestion.number, recipe=recipe)
            self.shared_epochs.trial_started(record)
            self.run.write_trial(dataclasses.replace(record, epochs=(ROW,)), lease=lease)
        self.max_open_files = max(self.max_open_files, len(os.listdir("/proc/self/fd")))
        return suggestion


def settled(point: dict[str, object]) -> Recipe:
    return make_recipe({"weights": "none", "precision": "float32", "image_size": 32, **point}, where="here")


def identity_of(recipe: Recipe) -> str:
    return recipes.trial_id(recipe, data_fingerprint="none", weights_fingerprint="none")


def test_a_search_of_many_points_holds_no_more_files_open_than_one_of_few(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(MANY)
    most = []
    for count in (5, 300):
        decisions = RecordedDecisions(tmp_path / "many.yaml", Run(tmp_path / f"of-{count}"), count)
        play(decisions, random.Random(0))
        assert len(decisions.run.read_trials()) == count
        most.append(decisions.max_open_files)
    assert most[0] == most[1]


def test_a_decision_adds_one_line_however_long_the_journal_is(tmp_path: Path) -> None:
    (tmp_path / "many.yaml").write_text(MANY)
    decisions = RecordedDecisions(tmp_path / "many.yaml", Run(tmp_path / "run"), 60)
    file, before = decisions.run.folder / "journal.jsonl", b""
    lengths = []
    while isinstance(decisions.suggest(), Suggestion):
        now = file.read_bytes()
        assert now.startswith(before)
        lengths.append(len(now) - len(before))
        before = now
    assert len(lengths) == 60
    assert max(lengths[30:]) - min(lengths[:30]) < 30  # digits of numbers


def test_a_setting_of_numpys_is_a_number_of_json_or_refused_by_its_name(tmp_path: Path) -> None:
    plain = settled({"learning_rate": 0.1})
    from_numpy = settled({"learning_rate": np.float64(0.1)})
    Run(tmp_path).write_trial(TrialRecord(trial_id="a", number=0, recipe=from_numpy))
    assert Run(tmp_path).read_trials()[0].recipe == from_numpy == plain
    assert identity_of(from_numpy) == identity_of(plain)
    with pytest.raises(RecipeError, match="batch_size"):
        settled({"batch_size": np.int64(16)})


def test_the_name_of_a_trials_folder_is_as_long_for_any_settings() -> None:
    long = settled(
        {"augmentation": "strong", "class_balance": "effective_number_weights", "learning_rate": 0.0123456789}
    )
    assert {len(identity_of(recipe)) for recipe in (settled({}), long)} == {12}


@pytest.fixture
def finished(tmp_path: Path, tiny_store: Store) -> Run:
    """A search of which one point has ended and one has not."""
    run = Run(tmp_path / "here" / "first")
    run.folder.mkdir(parents=True)
    (run.folder / "space.yaml").write_text(SMALL)
    options = {"data": str(tiny_store.folder), "weights": "none", "set": [], "seed": 0, "space": "small"}
    data = {"fingerprint": tiny_store.fingerprint, "folder": str(tiny_store.folder), "dataset": "tiny"}
    weights = {"vgg16": NO_WEIGHTS}
    run.write_search(make_search_file(options=options, data=data, weights=weights, precision="float32"))
    space = read_space(run.folder / "space.yaml", {"weights": "none"})
    identify = make_identify(run.read_search(), space)
    for number, point in enumerate(itertools.islice(points(space, seed=0), 1)):
        trial_id = identify(point)
        run.journal().append({"event": "suggest", "number": number, "trial_id": trial_id, "point": point})
        end = {"event": "end", "number": number, "trial_id": trial_id, "state": "done", "epoch": 3, "score": 0.5}
        run.journal().append(end)
    return run


def test_a_search_whose_folder_was_copied_elsewhere_is_resumed_there(
    finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--resume", "first", "--out", str(finished.folder.parent), "--dry-run"]) == 0
    before = capsys.readouterr().out
    shutil.copytree(finished.folder, tmp_path / "there" / "renamed")
    shutil.rmtree(finished.folder)
    assert main(["--resume", "renamed", "--out", str(tmp_path / "there"), "--dry-run"]) == 0
    after = capsys.readouterr().out
    assert after == before.replace(str(finished.folder), str(tmp_path / "there" / "renamed")).replace(
        "first", "renamed"
    )
    assert "1 new point" in after
