"""Which checkpoint becomes the best model of a search, without Ray."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.history import make_history
from fixtures.train import SmallStore, small_recipe, small_weights

from ferray.recipe import trial_id
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.search.open import Search
from ferray.search.outcome.export import export_winner
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
