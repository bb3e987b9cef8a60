"""What a recipe needs of a store is known before anything is loaded; nothing that training refuses is let through."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.data import write_store_of, write_tiny_store
from fixtures.train import fit_in, small_recipe, small_weights
from hypothesis import given
from hypothesis import strategies as st

from ferray.data.prepare.options import parse_shares
from ferray.data.store.reader import Store
from ferray.errors import FerrayError
from ferray.recipe import Recipe
from ferray.train import preflight
from ferray.train.preflight import check_recipe, find_risks

FULL = (3,) * 7
NO_DISGUST = (3, 0, 3, 3, 3, 3, 3)


def store_of(folder: Path, *counts: Sequence[int], **values: Any) -> Store:
    return write_store_of(folder / "faces", counts, **values)


def refused(recipe: Recipe, store: Store) -> FerrayError:
    with pytest.raises(FerrayError) as caught:
        check_recipe(recipe, store, use_folds="--folds 5")
    return caught.value


def test_a_store_without_validation_faces_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    error = refused(Recipe(), store_of(tmp_path, FULL, (0,) * 7, FULL, split=(0.8, 0.0, 0.2), dataset="expw"))

    assert "faces: has no validation faces" in str(error)
    assert "--folds 5" in error.args[2]
    assert "python -m ferray.data prepare expw --images DIR --labels FILE --split 70/10/20 --out NEW" in error.args[2]


@pytest.mark.parametrize(
    "split, shares", [(None, "90/10/0"), ((0.65, 0.0, 0.35), "55/10/35"), ((0.1, 0.0, 0.9), "5/5/90")]
)
def test_the_command_that_is_offered_leaves_the_test_faces_where_they_are(
    split: tuple[float, float, float] | None, shares: str, tmp_path: Path
) -> None:
    error = refused(Recipe(), store_of(tmp_path, FULL, (0,) * 7, FULL, split=split, dataset="folders"))

    assert f"folders --images DIR --split {shares} --out NEW" in error.args[2]


@given(st.integers(0, 1000), st.integers(1, 999))
def test_the_shares_that_are_offered_can_be_pasted(train: int, rest: int) -> None:
    total = max(1, train) + rest
    manifest = SimpleNamespace(split=(max(1, train) / total, 0.0, rest / total), datasets=["csv"], dataset="csv")
    command = preflight._how_to_cut_validation(manifest)  # type: ignore[arg-type]
    shares = parse_shares(command.split("--split ")[1].split()[0])

    assert sum(shares) == pytest.approx(1)
    assert shares[2] == pytest.approx(rest / total, abs=1e-4)


def test_folds_of_the_training_faces_need_no_validation_faces(tmp_path: Path, small_rows: None) -> None:
    store = store_of(tmp_path, FULL, (0,) * 7, FULL)
    recipe = small_recipe(weights="none", epochs=1, folds=3, fold=2)
    check_recipe(recipe, store, use_folds="")

    assert len(list(fit_in(None, recipe, store, small_weights()))) == 1


@pytest.mark.parametrize(
    "counts, settings, words",
    [
        (((0,) * 7, FULL, FULL), {}, "has no training faces, only 21 validation, 21 test"),
        (((0,) * 7, (0,) * 7, FULL), {"folds": 2, "fold": 0}, "has no training faces, only 21 test"),
        ((FULL, FULL, FULL), {"folds": 50, "fold": 0}, "42 photographs .* cannot be divided into 50 folds"),
        ((NO_DISGUST, FULL, FULL), {"class_balance": "logit_adjustment"}, "no training face of .* is 'disgust'"),
    ],
)
def test_what_every_trial_would_fail_with_is_refused(
    counts: tuple[Sequence[int], ...], settings: dict[str, Any], words: str, tmp_path: Path, small_rows: None
) -> None:
    store, recipe = store_of(tmp_path, *counts), small_recipe(weights="none", epochs=1, **settings)
    with pytest.raises(FerrayError, match=words):
        check_recipe(recipe, store, use_folds="")
    with pytest.raises(FerrayError):
        list(fit_in(None, recipe, store, small_weights()))


def test_faces_of_a_size_that_no_backbone_takes_are_refused_unless_they_are_resized(tmp_path: Path) -> None:
    store = write_tiny_store(tmp_path / "tiny", size_px=24)
    error = refused(Recipe(), store)

    assert "its faces have 24 pixels, but vgg16 takes 32 to 512\n  Resize them: --set image_size=32" in str(error)
    check_recipe(Recipe(image_size=32), store, use_folds="")


@pytest.mark.parametrize(
    "counts, settings, words",
    [
        ((NO_DISGUST, FULL, FULL), {}, "no training face is 'disgust'.* its 3 validation and 3 test faces"),
        ((FULL, NO_DISGUST, FULL), {}, "no validation face is 'disgust'"),
        ((FULL, FULL, NO_DISGUST), {}, "no test face is 'disgust'"),
        ((FULL, FULL, (0,) * 7), {}, "there are no test faces: the best model will have no test score"),
        ((FULL, FULL, FULL), {"batch_size": 22}, "batch_size 22: more than the 21 training faces"),
        ((FULL, FULL, FULL), {"folds": 2, "fold": 0, "batch_size": 32}, "batch_size 32: more than .* of a fold"),
        ((FULL, (0,) * 7, FULL), {"folds": 7, "fold": 1}, "in a fold, no validation face is"),
    ],
)
def test_what_can_be_trained_but_is_hardly_meant_is_named_once(
    counts: tuple[Sequence[int], ...], settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    found = set(find_risks(small_recipe(**{"batch_size": 6, **settings}), store_of(tmp_path, *counts)))

    assert any(re.search(words, risk) for risk in found)
    assert "folds" in settings or len(found) == 1


def test_a_whole_store_is_no_risk(tiny_store: Store) -> None:
    check_recipe(Recipe(), tiny_store, use_folds="")

    assert list(find_risks(Recipe(), tiny_store)) == []
