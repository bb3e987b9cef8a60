"""Promises of the recipe: what it accepts, how it travels, and what its identity means."""

import dataclasses
import importlib.metadata
import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ferray import recipe as recipes
from ferray.errors import RecipeError
from ferray.libraries import altering_libraries
from ferray.recipe import (
    FIELD_NAMES,
    METRICS,
    MetricName,
    Recipe,
    check_value,
    make_recipe,
    read_recipe,
    to_json,
    trial_id,
)

SETTLED = Recipe(precision="float32", image_size=64)
CHOICES: dict[str, tuple[Any, ...]] = {
    "backbone": get_args(recipes.BackboneName),
    "weights": ("pretrained",),
    "freeze": get_args(recipes.Freeze),
    "head_pooling": ("average", "flatten"),
    "feature_scaling": ("none", "standardize"),
    "hidden_units": (None, 1, 8192),
    "image_size": (None, 32, 512),
    "augmentation": get_args(recipes.Policy),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine", "step"),
    "monitor": METRICS,
    "precision": ("auto", "float32", "bfloat16"),
    "patience": (None, 1, 3),
    "class_balance": get_args(recipes.ClassBalance),
    "shuffle_labels": (False, True),
}
NEUTRAL = {  # a default in here is for ever: identities on record were given with it
    "feature_scaling": "none",
    "random_erasing": 0.0,
    "mixup_alpha": 0.0,
    "class_balance": "none",
    "effective_number_beta": 0.999,
    "logit_adjustment_tau": 1.0,
    "focal_gamma": 0.0,
    "folds": None,
    "fold": None,
    "shuffle_labels": False,
}
values = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from(choices) for name, choices in CHOICES.items()},
        "learning_rate": st.floats(0, 1, exclude_min=True),
        "dropout": st.floats(0, 1, exclude_max=True),
        "batch_size": st.integers(1, 65536),
        "epochs": st.integers(1, 10000),
        "warmup_epochs": st.floats(0, 1, exclude_max=True),
        "gradient_clip": st.none() | st.floats(1e-6, 1e6),
        "seed": st.integers(0, 2**31 - 1),
        "random_erasing": st.floats(0, 1),
        "mixup_alpha": st.floats(0, 10),
        "focal_gamma": st.floats(0, 10),
        "effective_number_beta": st.floats(0, 1, exclude_max=True),
    },
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_a_recipe_is_read_from_its_json_as_it_was_written(given_values: dict[str, Any]) -> None:
    recipe = make_recipe(given_values, where="test")

    assert read_recipe(to_json(recipe), where="test") == recipe
    assert json.loads(to_json(recipe)).items() <= recipes.to_values(recipe).items()
    assert NEUTRAL | json.loads(to_json(recipe)) == recipes.to_values(recipe)
    assert hash(read_recipe(to_json(recipe), where="test")) == hash(recipe)


@given(st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=8), json_values, max_size=4))
def test_hostile_values_are_refused_with_a_place_or_make_a_recipe(given_values: dict[str, Any]) -> None:
    try:
        recipe = make_recipe(given_values, where="here")
    except RecipeError as error:
        assert str(error).startswith("here: ")
    else:
        assert recipes.to_values(recipe) == {**recipes.to_values(Recipe()), **given_values}


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", "[" * 100_000, '{"epochs": NaN}', '{"epochs": 1e999}'])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^here: "):
        read_recipe(text, where="here")


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", True),
        ("epochs", "5"),
        ("epochs", 2.5),
        ("epochs", 0),
        ("epochs", 10001),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", False),
        ("learning_rate", 0),
        ("learning_rate", 1.5),
        ("learning_rate", math.nan),
        ("gradient_clip", math.inf),
        ("learning_rate", "0.1"),
        ("seed", 2**31),
        ("seed", -1),
        ("image_size", 31),
        ("freeze", "blocks1-2"),
        ("monitor", None),
        ("hidden_units", "null"),
        ("class_balance", "weights"),
        ("effective_number_beta", 1.0),
        ("logit_adjustment_tau", -1),
        ("focal_gamma", -0.5),
        ("mixup_alpha", 11),
        ("random_erasing", 1.1),
        ("folds", 1),
        ("fold", -1),
        ("shuffle_labels", 1),
        ("shuffle_labels", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_is_allowed(field: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"(?s)here: {field} .*allowed: "):
        make_recipe({field: value}, where="here")


def test_whole_numbers_and_fractions_stand_for_each_other() -> None:
    recipe = make_recipe({"epochs": 5.0, "dropout": 0, "hidden_units": 64.0}, where="here")

    assert recipe == Recipe(epochs=5, dropout=0.0, hidden_units=64)
    assert to_json(recipe) == to_json(Recipe(epochs=5, dropout=0.0, hidden_units=64))


def test_an_unknown_setting_offers_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"(?s)unknown setting 'learning_rte'.*'learning_rate'.*Known: backbone, "):
        make_recipe({"learning_rte": 0.1}, where="here")


def test_rules_between_fields_hold() -> None:
    with pytest.raises(RecipeError, match="warmup_epochs is 3, but the run has only 3 epochs"):
        make_recipe({"epochs": 3, "warmup_epochs": 3}, where="here")
    with pytest.raises(RecipeError, match="freeze is 'blocks1-4'"):
        make_recipe({"weights": "none", "freeze": "blocks1-4"}, where="here")
    with pytest.raises(RecipeError, match="folds is 5 and fold is None: a fold needs both"):
        make_recipe({"folds": 5}, where="here")
    with pytest.raises(RecipeError, match="folds is None and fold is 0: a fold needs both"):
        make_recipe({"fold": 0}, where="here")
    with pytest.raises(RecipeError, match="fold is 5, but there are only 5 folds, counted from 0"):
        make_recipe({"folds": 5, "fold": 5}, where="here")
    assert check_value("warmup_epochs", 30, where="here") == 30.0  # alone, it breaks no rule


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SETTLED.epochs = 3  # type: ignore[misc]


def test_every_field_has_bounds_or_choices_and_a_docstring() -> None:
    fields = TypeAdapter(Recipe).json_schema()["properties"]

    assert list(fields) == list(FIELD_NAMES)
    for name, field in fields.items():
        assert field["description"].endswith("."), name
        with pytest.raises(RecipeError, match="; allowed: "):
            check_value(name, [], where="here")


@given(values, values)
def test_the_identity_differs_where_anything_differs(one: dict[str, Any], other: dict[str, Any]) -> None:
    settled = {"precision": "float32", "image_size": 64}
    first, second = (make_recipe({**recipe, **settled}, where="test") for recipe in (one, other))

    ids = [trial_id(recipe, data_fingerprint="d", weights_fingerprint="w") for recipe in (first, second)]

    assert (ids[0] == ids[1]) == (first == second)
    assert all(len(found) == 12 and int(found, 16) >= 0 for found in ids)


def test_the_identity_is_of_data_and_weights_too() -> None:
    found = {
        trial_id(SETTLED, data_fingerprint=data, weights_fingerprint=weights) for data in ("a", "b") for weights in "ab"
    }
    assert len(found) == 4

    scratch = dataclasses.replace(SETTLED, weights="none", freeze="none")
    found = {trial_id(scratch, data_fingerprint="a", weights_fingerprint=weights) for weights in "ab"}
    assert len(found) == 1


def test_the_identity_does_not_change_from_version_to_version() -> None:
    assert trial_id(SETTLED, data_fingerprint="d", weights_fingerprint="w") == "adf318a1dad3"


def ids_with(monkeypatch: pytest.MonkeyPatch, recipe: Recipe, **versions: str) -> str:
    """The identity where other versions of libraries are installed."""
    installed = {"albumentations": "2.0.8", "opencv-python-headless": "5.0.0.93", "torch": "2.14.1"}
    installed |= {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(importlib.metadata, "version", installed.__getitem__)
    altering_libraries.cache_clear()
    try:
        return trial_id(recipe, data_fingerprint="d", weights_fingerprint="w")
    finally:
        altering_libraries.cache_clear()


@pytest.mark.parametrize("alters", [{"augmentation": "light"}, {"random_erasing": 0.1}])
def test_versions_that_alter_pictures_otherwise_are_in_the_identity_of_recipes_that_alter_pictures(
    alters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    altering = dataclasses.replace(SETTLED, **{"augmentation": "none", **alters})
    plain = dataclasses.replace(SETTLED, augmentation="none")
    here = ids_with(monkeypatch, altering)

    assert ids_with(monkeypatch, altering, opencv_python_headless="4.12.0.88") != here
    assert ids_with(monkeypatch, altering, albumentations="2.1.0") != here
    assert ids_with(monkeypatch, altering, albumentations="2.0.5") == here, "measured: the same pictures"
    assert ids_with(monkeypatch, altering, torch="2.13.0") == here, "measured: the same features"
    assert ids_with(monkeypatch, plain, opencv_python_headless="4.12.0.88", albumentations="2.1.0") == ids_with(
        monkeypatch, plain
    )


def test_a_setting_that_is_neutral_by_default_does_not_change_identities() -> None:
    defaults = recipes.to_values(Recipe())
    assert {name: defaults[name] for name in recipes.NEUTRAL_BY_DEFAULT} == NEUTRAL
    assert not set(json.loads(to_json(SETTLED))) & set(NEUTRAL)

    used = {"class_balance": "logit_adjustment", "folds": 5, "fold": 0}  # fold 0 is no default
    found = json.loads(to_json(dataclasses.replace(SETTLED, **used)))
    assert {name: found[name] for name in found if name in NEUTRAL} == used


def test_erasing_alters_pictures_whatever_the_policy() -> None:
    assert not Recipe().alters_pictures
    assert Recipe(random_erasing=0.1).alters_pictures
    assert Recipe(random_erasing=0.1, augmentation="light", augmentation_strength=0.0).alters_pictures
    assert not Recipe(augmentation="light", augmentation_strength=0.0).alters_pictures


@pytest.mark.parametrize("open_question", [{"precision": "auto"}, {"image_size": None}])
def test_an_unsettled_recipe_has_no_identity(open_question: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="settle"):
        trial_id(dataclasses.replace(SETTLED, **open_question), data_fingerprint="d", weights_fingerprint="w")


def test_a_larger_metric_is_better_but_for_the_loss() -> None:
    better = {name: dataclasses.replace(SETTLED, monitor=name).maximize for name in get_args(MetricName)}

    assert better == {name: name != "val_loss" for name in METRICS}
