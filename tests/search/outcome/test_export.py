"""Which checkpoint becomes the best model of a search, without Ray."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
from fixtures.history import make_history
from fixtures.report import make_trial
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.files import storage
from ferray.recipe import trial_id
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.search.open import Search
from ferray.search.outcome import export
from ferray.search.outcome.export import export_winner
from ferray.space import read_space
from ferray.train.checkpoints.checked_safetensors import DamagedError
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit


def test_a_best_checkpoint_of_another_epoch_than_the_records_best_is_not_taken(
    small_rows: None, tmp_path: Path
) -> None:
    store, weights, recipe = SmallStore(), small_weights(), small_recipe()
    name = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)
    run = Run(tmp_path)
    rows = list(fit(recipe, store, weights, checkpointing=Checkpointing(run.trial_dir(name))))
    best = max(rows, key=lambda row: (getattr(row, recipe.monitor), -row.epoch)).epoch
    other = best % len(rows)  # an index: that of the next epoch, or the first
    rows[other] = dataclasses.replace(rows[other], **{recipe.monitor: 1.0})
    record = TrialRecord(trial_id=name, number=0, recipe=recipe, state="done", epochs=tuple(rows))

    plan: Any = SimpleNamespace(run=run, again=False)
    search = Search(plan=plan, history=make_history(run), store=store, weights={recipe.backbone: weights})  # type: ignore[arg-type]
    with pytest.raises(DamagedError, match=f"best.safetensors: of epoch {best}, but by .* {other + 1} is its best"):
        export_winner(search, [record], SimpleNamespace(kept=record), None)  # type: ignore[arg-type]
    assert not run.best_dir.exists()


SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  hidden_units: {values: [null, 128, 256]}
  learning_rate: {values: [1.0e-3]}
"""


def test_tables_of_points_have_types_and_the_order_of_the_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lucky seed does not come before the points of the finals, and the heatmap's caption does not call it best."""
    drawn: list[pandas.DataFrame] = []
    monkeypatch.setattr(export.plots, "draw_heatmap", lambda frame, *_, **__: drawn.append(frame))
    monkeypatch.setattr(export.plots, "draw_curves", lambda *_, **__: None)
    run = Run(tmp_path / "run")
    storage.write_bytes(run.space_file, SPACE.encode())
    records = [  # by make_trial 1 has 0.41, 2 has 0.42, 3 has 0.34, 4 has 0.25, 8 has 0.43
        make_trial(1, hidden_units=None),
        make_trial(3, hidden_units=None, seed=1),
        make_trial(2, hidden_units=256),
        make_trial(4, hidden_units=256, seed=1),
        make_trial(8, hidden_units=128),
    ]
    export.write_tables(run, records, read_space(run.space_file), num_classes=7, replicates=2)
    table = pandas.read_csv(run.folder / "points.csv", dtype="string", keep_default_na=False)

    assert table["hidden_units"].tolist() == ["", "256"]
    assert table["trials"].tolist() == ["2", "2"]
    (frame,) = drawn
    assert frame.sort_values("place")["number"].tolist() == [1, 2, 8]
    assert frame["num_trials"].tolist() == [2, 2, 1]
    assert frame["best_val_accuracy"].idxmax() != frame["place"].idxmin()
