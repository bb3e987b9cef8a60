"""The finals: which trials they want, in which order, and which model is kept."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ferray import recipe as recipes
from ferray.commands.search import _parser
from ferray.errors import SearchError
from ferray.recipe import Recipe, make_recipe
from ferray.records.points import Point
from ferray.records.tables import trials_frame
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord
from ferray.search.history.repair import retry, set_aside
from ferray.search.outcome.export import _by_point
from ferray.search.outcome.finals import Finals, lacking, standing
from ferray.search.outcome.significance import is_whole
from ferray.search.plan import Plan, make_plan

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters: {dropout: {values: [0.0, 0.2, 0.4]}, epochs: {value: 1}}
"""
SCORES = {0.0: 0.3, 0.2: 0.6, 0.4: 0.5}


def identify(point: dict[str, Any]) -> str:
    recipe = make_recipe(point, where="test")
    recipe = dataclasses.replace(recipe, precision="float32", image_size=32)
    return recipes.trial_id(recipe, data_fingerprint="data", weights_fingerprint="weights")


def plan_of(folder: Path, *options: str) -> Plan:
    (folder / "small.yaml").write_text(SPACE)
    asked = ["--space", str(folder / "small.yaml"), "--out", str(folder / "runs"), "--name", "one", *options]
    return make_plan(_parser().parse_args(asked))


def settled(**values: Any) -> Recipe:
    return Recipe(precision="float32", image_size=32, epochs=1, **values)


def put(plan: Plan, recipe: Recipe, score: float, *, number: int, asked: bool) -> TrialRecord:
    """Put a finished trial on record, as a search and its finals do."""
    row = EpochResult(epoch=1, **{**dict.fromkeys(METRIC_FIELDS, 0.5), "val_accuracy": score})
    trial_id = identify(recipes.to_values(recipe))
    record = TrialRecord(trial_id=trial_id, number=number, recipe=recipe, state="done", epochs=(row,))
    plan.run.write_trial(record)
    if asked:
        plan.run.journal().append({"event": "suggest", "number": number, "trial_id": trial_id, "point": {}})
    return record


def search_proper(plan: Plan) -> None:
    """Each point once a fold."""
    number = 0
    for dropout, score in SCORES.items():
        for fold in range(plan.space.folds) if plan.space.folds > 1 else [None]:
            values = {} if fold is None else {"folds": plan.space.folds, "fold": fold}
            put(plan, settled(dropout=dropout, **values), score + 0.01 * (fold or 0), number=number, asked=True)
            number += 1


def told(wanted: list[Recipe]) -> list[tuple[float, int, int | None]]:
    return [(recipe.dropout, recipe.seed, recipe.fold) for recipe in wanted]


def test_without_replicates_and_folds_there_are_no_finals(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    search_proper(plan)
    assert lacking(plan, identify) == []
    assert standing(plan, plan.run.read_trials()).kept.recipe.dropout == 0.2


def test_the_best_points_are_trained_with_other_seeds_and_the_mean_decides(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--replicates", "3", "--finalists", "2")
    search_proper(plan)
    wanted = lacking(plan, identify)
    assert told(wanted) == [(0.2, 1, None), (0.2, 2, None), (0.4, 1, None), (0.4, 2, None)]
    for number, (recipe, score) in enumerate(zip(wanted, (0.2, 0.1, 0.5, 0.5), strict=True), start=3):
        put(plan, recipe, score, number=number, asked=False)
    assert lacking(plan, identify) == []
    result = standing(plan, plan.run.read_trials())
    assert result.winner.recipe.dropout == 0.4  # though the other has the best single score
    assert [len(point.records) for point in result.points] == [3, 3, 1]


def test_folds_end_in_a_refit_of_the_winner_that_no_point_is_ranked_by(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--folds", "2")
    search_proper(plan)
    wanted = lacking(plan, identify)
    assert told(wanted) == [(0.2, 0, None)]
    refit = put(plan, wanted[0], 0.01, number=6, asked=False)
    assert lacking(plan, identify) == []
    result = standing(plan, plan.run.read_trials())
    assert result.kept == refit
    assert [point.mean for point in result.points] == pytest.approx([0.605, 0.505, 0.305])


def test_the_best_fold_is_kept_where_that_was_asked_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--folds", "2", "--keep", "best-fold")
    search_proper(plan)
    assert lacking(plan, identify) == []
    assert told([standing(plan, plan.run.read_trials()).kept.recipe]) == [(0.2, 0, 1)]


def test_finalists_of_folds_are_trained_on_every_fold_before_the_refit(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--folds", "2", "--replicates", "2", "--finalists", "1")
    search_proper(plan)
    wanted = lacking(plan, identify)
    assert told(wanted) == [(0.2, 1, 0), (0.2, 1, 1)]
    for number, recipe in enumerate(wanted, start=6):
        put(plan, recipe, 0.7, number=number, asked=False)
    assert told(lacking(plan, identify)) == [(0.2, 0, None)]


def test_a_final_trial_that_failed_is_not_wanted_again(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--replicates", "2", "--finalists", "1")
    search_proper(plan)
    finals = Finals(lacking(plan, identify), plan.run, identify=identify, first_number=3)
    suggestion = finals.suggest()
    assert not isinstance(suggestion, str)
    assert suggestion.number == 3
    finals.end(3, "failed", 0, None)
    assert finals.suggest() == "none left"
    assert lacking(plan, identify) == []
    assert [event["state"] for event in plan.run.finals_journal().read()] == ["failed"]


def test_a_search_without_an_epoch_has_no_winner_and_says_why(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    record = put(plan, settled(), 0.5, number=0, asked=True)
    with pytest.raises(SearchError, match=r"no trial came to an epoch\n  the loss is nan"):
        standing(plan, [dataclasses.replace(record, epochs=(), state="failed", reason="the loss is nan")])


def test_a_point_that_lost_a_fold_is_compared_with_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--folds", "2")
    search_proper(plan)
    best = standing(plan, plan.run.read_trials()).winner
    assert is_whole(best)
    assert not is_whole(Point(records=best.records[:1]))


def test_the_heatmaps_table_has_a_row_a_point_with_its_mean(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--folds", "2")
    search_proper(plan)
    put(plan, settled(dropout=0.2), 0.99, number=6, asked=False)  # the refit
    records = plan.run.read_trials()
    table = _by_point(trials_frame(records), records, plan.space)
    assert table["dropout"].tolist() == [0.0, 0.2, 0.4]
    assert table["best_val_accuracy"].tolist() == pytest.approx([0.305, 0.605, 0.505])


def test_a_failed_trial_of_the_finals_is_wanted_again_after_a_retry_and_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--replicates", "2", "--finalists", "1")
    search_proper(plan)
    wanted = lacking(plan, identify)
    ends(plan, wanted, "failed")
    assert lacking(plan, identify) == []

    assert [line.split(" (")[0] for line in retry(plan.run)] == ["trial 3"]
    assert lacking(plan, identify) == wanted
    ends(plan, wanted, "done")
    assert lacking(plan, identify) == []
    assert [line.split(";")[0] for line in retry(plan.run)] == ["no trial has failed"]
    assert [event["event"] for event in plan.run.finals_journal().read()] == ["end", "retry", "end"]


def test_a_trial_of_the_finals_whose_record_is_lost_is_wanted_again_under_its_number(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "--replicates", "3", "--finalists", "1")
    search_proper(plan)
    wanted = lacking(plan, identify)
    ends(plan, wanted, "done")
    assert lacking(plan, identify) == []

    lost = plan.run.trial_dir(identify(recipes.to_values(wanted[0]))) / "record.json"
    lost.write_text("{}")
    set_aside(plan.run)
    assert not lost.exists()
    assert lost.with_name("record.json.broken").read_text() == "{}"
    assert lacking(plan, identify) == wanted[:1]
    suggestion = Finals(wanted[:1], plan.run, identify=identify, first_number=4).suggest()
    assert not isinstance(suggestion, str)
    assert suggestion.number == 3


def ends(plan: Plan, wanted: list[Recipe], state: State) -> None:
    """Run the finals, all of which end in the same way."""
    decider = Finals(wanted, plan.run, identify=identify, first_number=3)
    for recipe in wanted:
        suggestion = decider.suggest()
        assert not isinstance(suggestion, str)
        if state == "done":
            put(plan, recipe, 0.5, number=suggestion.number, asked=False)
        decider.end(suggestion.number, state, 1, 0.5 if state == "done" else None)
