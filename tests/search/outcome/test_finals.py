"""The finals: which trials they want, in which order, and which model is kept."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fixtures.history import make_history, read_events

from ferray import recipe as recipes
from ferray.errors import SearchError
from ferray.recipe import Recipe, make_recipe
from ferray.records.events import EndEvent, EndState, SuggestEvent
from ferray.records.points import Point, is_whole, rank_points, without_refit
from ferray.records.tables import trials_frame
from ferray.records.trial import METRIC_FIELDS, EpochResult, State, TrialRecord
from ferray.search.history.recorded import History, read_history
from ferray.search.history.repair import retry_failed, set_aside_unusable
from ferray.search.options import SearchOptions
from ferray.search.outcome.export import _by_point
from ferray.search.outcome.finals import Finals, Ranking, missing_finals, rank_search
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


@dataclass
class Made:
    """A search that never ran: its plan and its records."""

    plan: Plan
    history: History

    def missing(self) -> list[Recipe]:
        return missing_finals(self.plan, self.history, identify)

    def rank(self) -> Ranking:
        return rank_search(self.plan, self.history.records)

    def finals(self, wanted: list[Recipe]) -> Finals:
        return Finals(wanted, self.history, identify=identify)

    def put(
        self, recipe: Recipe, score: float, *, number: int, asked: bool, num_epochs: int = 1, state: State = "done"
    ) -> TrialRecord:
        """Put a trial on record, as a search and its finals do."""
        metrics = {**dict.fromkeys(METRIC_FIELDS, 0.5), "val_accuracy": score}
        rows = tuple(EpochResult(epoch=epoch, **metrics) for epoch in range(1, num_epochs + 1))
        trial_id = identify(recipes.to_values(recipe))
        record = TrialRecord(trial_id=trial_id, number=number, recipe=recipe, state=state, epochs=rows)
        self.history.write_record(record)
        if asked:
            self.history.decisions.append(SuggestEvent(number=number, trial_id=trial_id, point={}))
        return record

    def search_proper(self) -> None:
        """Each point once a fold."""
        number = 0
        folds = self.plan.space.folds
        for dropout, score in SCORES.items():
            for fold in range(folds) if folds > 1 else [None]:
                values = {} if fold is None else {"folds": folds, "fold": fold}
                self.put(settled(dropout=dropout, **values), score + 0.01 * (fold or 0), number=number, asked=True)
                number += 1

    def end_all(self, wanted: list[Recipe], state: EndState) -> None:
        """Run the finals, all of which end in the same way."""
        finals = self.finals(wanted)
        for recipe in wanted:
            suggestion = finals.suggest()
            assert not isinstance(suggestion, str)
            if state == "done":
                self.put(recipe, 0.5, number=suggestion.number, asked=False)
            finals.end(suggestion.number, state, 1, 0.5 if state == "done" else None)


def make(folder: Path, **options: Any) -> Made:
    (folder / "small.yaml").write_text(SPACE)
    asked = SearchOptions(space=str(folder / "small.yaml"), out=str(folder / "runs"), name="one", **options)
    plan = make_plan(asked)
    made = Made(plan, make_history(plan.run))
    made.history.update()
    made.search_proper()
    return made


def settled(**values: Any) -> Recipe:
    return Recipe(precision="float32", image_size=32, epochs=1, **values)


def told(wanted: list[Recipe]) -> list[tuple[float, int, int | None]]:
    return [(recipe.dropout, recipe.seed, recipe.fold) for recipe in wanted]


def test_without_replicates_and_folds_there_are_no_finals(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.missing() == []
    assert made.rank().kept.recipe.dropout == 0.2


def test_the_best_points_are_trained_with_other_seeds_and_the_mean_decides(tmp_path: Path) -> None:
    made = make(tmp_path, replicates=3, finalists=2)
    wanted = made.missing()
    assert told(wanted) == [(0.2, 1, None), (0.2, 2, None), (0.4, 1, None), (0.4, 2, None)]
    for number, (recipe, score) in enumerate(zip(wanted, (0.2, 0.1, 0.5, 0.5), strict=True), start=3):
        made.put(recipe, score, number=number, asked=False)
    assert made.missing() == []
    result = made.rank()
    assert result.winner.recipe.dropout == 0.4  # though the other has the best single score
    assert [len(point.records) for point in result.points] == [3, 3, 1]


HALVING = """\
method: random
run_cap: 3
metric: {name: val_accuracy, goal: maximize}
early_terminate: {type: hyperband, min_iter: 2}
parameters: {dropout: {values: [0.0, 0.2, 0.4]}, epochs: {value: 6}}
"""


def make_halved(folder: Path, **options: Any) -> Made:
    """A search proper in which one trial came to its end, and the others were stopped after epoch 2."""
    (folder / "halved.yaml").write_text(HALVING)
    asked = SearchOptions(space=str(folder / "halved.yaml"), out=str(folder / "runs"), name="one", **options)
    plan = make_plan(asked)
    made = Made(plan, make_history(plan.run))
    made.history.update()
    for number, (dropout, score) in enumerate(SCORES.items()):
        recipe = Recipe(precision="float32", image_size=32, epochs=6, dropout=dropout)
        state: EndState = "done" if dropout == 0.2 else "stopped"
        num_epochs = 6 if state == "done" else 2
        record = made.put(recipe, score, number=number, asked=True, num_epochs=num_epochs, state=state)
        made.history.decisions.append(
            EndEvent(number=number, trial_id=record.trial_id, state=state, epoch=num_epochs, score=score)
        )
    return made


def test_a_finalist_that_was_stopped_early_is_trained_to_its_end_before_it_is_averaged(tmp_path: Path) -> None:
    made = make_halved(tmp_path, replicates=2, finalists=2)
    wanted = made.missing()
    assert told(wanted) == [(0.4, 0, None), (0.2, 1, None), (0.4, 1, None)], "first the one that was stopped"

    finals = made.finals(wanted)
    suggestion = finals.suggest()
    assert not isinstance(suggestion, str)
    assert (suggestion.number, suggestion.num_reported) == (2, 2), "it goes on under its number, after epoch 2"
    assert made.history.record(suggestion.trial_id).state == "queued"  # type: ignore[union-attr]
    made.put(wanted[0], 0.62, number=2, asked=False, num_epochs=6)
    finals.end(2, "done", 6, 0.62)
    for recipe, score in zip(wanted[1:], (0.5, 0.6), strict=True):
        suggestion = finals.suggest()
        assert not isinstance(suggestion, str)
        made.put(recipe, score, number=suggestion.number, asked=False, num_epochs=6)
        finals.end(suggestion.number, "done", 6, score)
    assert made.missing() == []
    winner = made.rank().winner
    assert (winner.recipe.dropout, winner.mean) == (0.4, pytest.approx(0.61)), "with 0.5 of epoch 2 it would lose"


@pytest.mark.parametrize("state", ["stopped", "interrupted", "queued"])
def test_a_finalist_that_was_interrupted_on_its_way_to_the_end_goes_on(state: State, tmp_path: Path) -> None:
    made = make_halved(tmp_path, replicates=2, finalists=2)
    first = made.missing()[0]
    made.put(first, 0.55, number=2, asked=False, num_epochs=4, state=state)
    assert made.missing()[0] == first


def test_a_finalist_whose_completed_record_was_lost_and_restored_to_its_stop_is_completed_again(
    tmp_path: Path,
) -> None:
    made = make_halved(tmp_path, replicates=2, finalists=2)
    wanted = made.missing()
    finals = made.finals(wanted)
    for recipe in wanted:
        suggestion = finals.suggest()
        assert not isinstance(suggestion, str)
        made.put(recipe, 0.5, number=suggestion.number, asked=False, num_epochs=6)
        finals.end(suggestion.number, "done", 6, 0.5)
    made.put(wanted[0], 0.5, number=2, asked=False, num_epochs=2, state="stopped")
    assert made.missing() == wanted[:1]


def test_a_finalist_that_fails_on_its_way_to_the_end_is_not_tried_again(tmp_path: Path) -> None:
    made = make_halved(tmp_path, replicates=2, finalists=2)
    first, *others = made.missing()
    finals = made.finals([first])
    finals.suggest()
    made.put(first, 0.5, number=2, asked=False, num_epochs=3, state="failed")
    finals.end(2, "failed", 3, 0.5)
    wanted = made.missing()
    assert first not in wanted
    assert others[0] in wanted


def test_without_finals_nothing_is_completed(tmp_path: Path) -> None:
    assert make_halved(tmp_path).missing() == []


def test_folds_end_in_a_refit_of_the_winner_that_no_point_is_ranked_by(tmp_path: Path) -> None:
    made = make(tmp_path, settings=("folds=2",))
    wanted = made.missing()
    assert told(wanted) == [(0.2, 0, None)]
    refit = made.put(wanted[0], 0.01, number=6, asked=False)
    assert made.missing() == []
    result = made.rank()
    assert result.kept == refit
    assert [point.mean for point in result.points] == pytest.approx([0.605, 0.505, 0.305])


def test_the_best_fold_is_kept_where_that_was_asked_for(tmp_path: Path) -> None:
    made = make(tmp_path, settings=("folds=2",), keep="best-fold")
    assert made.missing() == []
    assert told([made.rank().kept.recipe]) == [(0.2, 0, 1)]


def test_finalists_of_folds_are_trained_on_every_fold_before_the_refit(tmp_path: Path) -> None:
    made = make(tmp_path, settings=("folds=2",), replicates=2, finalists=1)
    wanted = made.missing()
    assert told(wanted) == [(0.2, 1, 0), (0.2, 1, 1)]
    for number, recipe in enumerate(wanted, start=6):
        made.put(recipe, 0.7, number=number, asked=False)
    assert told(made.missing()) == [(0.2, 0, None)]


def test_a_final_trial_that_failed_is_not_wanted_again(tmp_path: Path) -> None:
    made = make(tmp_path, replicates=2, finalists=1)
    finals = made.finals(made.missing())
    suggestion = finals.suggest()
    assert not isinstance(suggestion, str)
    assert suggestion.number == 3
    finals.end(3, "failed", 0, None)
    assert finals.suggest() == "none left"
    assert made.missing() == []
    assert [event.state for event in read_events(made.history.finals.journal.file)] == ["failed"]


def test_a_search_without_an_epoch_has_no_winner_and_says_why(tmp_path: Path) -> None:
    made = make(tmp_path)
    record = made.history.records[0]
    with pytest.raises(SearchError, match=r"no trial came to an epoch\n  the loss is nan"):
        rank_search(made.plan, [dataclasses.replace(record, epochs=(), state="failed", reason="the loss is nan")])


def test_a_point_that_lost_a_fold_is_compared_with_none(tmp_path: Path) -> None:
    made = make(tmp_path, settings=("folds=2",))
    best = made.rank().winner
    assert is_whole(best)
    assert not is_whole(Point(records=best.records[:1]))


def test_the_heatmaps_table_has_a_row_a_point_with_its_mean(tmp_path: Path) -> None:
    made = make(tmp_path, settings=("folds=2",))
    made.put(settled(dropout=0.2), 0.99, number=6, asked=False)  # the refit
    records = made.history.records
    ranked = rank_points(without_refit(records, folds=2))
    table = _by_point(trials_frame(records), ranked, made.plan.space)
    assert table["dropout"].tolist() == [0.0, 0.2, 0.4]
    assert table["best_val_accuracy"].tolist() == pytest.approx([0.305, 0.605, 0.505])


def test_a_failed_trial_of_the_finals_is_wanted_again_after_a_retry_and_once(tmp_path: Path) -> None:
    made = make(tmp_path, replicates=2, finalists=1)
    wanted = made.missing()
    made.end_all(wanted, "failed")
    assert made.missing() == []

    assert [line.split(" (")[0] for line in retry_failed(made.history)] == ["trial 3"]
    assert made.missing() == wanted
    made.end_all(wanted, "done")
    assert made.missing() == []
    assert [line.split(";")[0] for line in retry_failed(made.history)] == ["no trial has failed"]
    assert [event.event for event in read_events(made.history.finals.journal.file)] == ["end", "retry", "end"]


def test_a_trial_of_the_finals_whose_record_is_lost_is_wanted_again_under_its_number(tmp_path: Path) -> None:
    made = make(tmp_path, replicates=3, finalists=1)
    wanted = made.missing()
    made.end_all(wanted, "done")
    assert made.missing() == []

    lost = made.plan.run.trial_dir(identify(recipes.to_values(wanted[0]))) / "record.json"
    lost.write_text("{}")
    made.history = read_history(made.plan.run)
    set_aside_unusable(made.history)
    assert not lost.exists()
    assert lost.with_name("record.json.broken").read_text() == "{}"
    assert made.missing() == wanted[:1]
    suggestion = made.finals(wanted[:1]).suggest()
    assert not isinstance(suggestion, str)
    assert suggestion.number == 3
