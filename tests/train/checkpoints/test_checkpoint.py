"""Checkpoints and exported models: whole, of the right run, and the same model wherever it is read."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.train import CLASS_NAMES, SmallStore, same_tensors, small_recipe, small_weights
from safetensors.torch import load_file

from ferray.errors import CheckpointError
from ferray.files import storage
from ferray.model.weights import Weights, load_weights
from ferray.recipe import Recipe
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.checked_safetensors import read_checked, write_checked
from ferray.train.checkpoints.export import export_best, load_model, predict_probabilities
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.features.pictures import resize
from ferray.train.fit import fit


def train(recipe: Recipe, store: SmallStore, weights: Weights, folder: Path) -> list[EpochResult]:
    return list(fit(recipe, store, weights, checkpointing=Checkpointing(folder)))


def write_again(
    file: Path,
    *,
    facts: Callable[[dict[str, Any]], None] = lambda facts: None,
    tensors: Callable[[dict[str, torch.Tensor]], None] = lambda tensors: None,
) -> None:
    """Change a checkpoint as another version of ferray might have written it."""
    own_facts, own_tensors = read_checked(file)
    facts(own_facts)
    tensors(own_tensors)
    write_checked(file, own_tensors, own_facts)


@pytest.mark.parametrize("name", ["last.safetensors", "last.safetensors.previous"])
@pytest.mark.parametrize(
    "change, message",
    [
        ({"tensors": lambda tensors: tensors.pop("model.head.output.bias")}, "tensor head.output.bias is missing"),
        ({"tensors": lambda tensors: tensors.update({"model.head.output.bias": torch.ones(3)})}, r"has shape \(3,\)"),
        ({"facts": lambda facts: facts.pop("epochs")}, "epochs"),
        ({"facts": lambda facts: facts.update(epochs=[{"epoch": 1}])}, "broken"),
        ({"facts": lambda facts: facts["epochs"].append(facts["epochs"][0])}, "not 1, 2, 3"),
        ({"facts": lambda facts: facts["epochs"][0].update(val_loss="inf")}, "val_loss is inf"),
        ({"facts": lambda facts: facts["epochs"][0].update(epoch="one")}, "broken"),
        ({"facts": lambda facts: facts.update(partial={"steps": 1, "seconds": 1.0})}, r"partial\.losses"),
        ({"facts": lambda facts: facts.update(format=99)}, "of format 99, not 2"),
        ({"facts": lambda facts: facts.update(trial_id="abc")}, "of run abc, not of"),
        ({"facts": lambda facts: facts.pop("trial_id")}, "of run None, not of"),
    ],
)
def test_an_intact_checkpoint_of_something_else_is_named_and_not_continued(
    change: dict[str, Any], message: str, name: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    train(small_recipe(epochs=2), store, weights, tmp_path)
    if name.endswith("previous"):
        (tmp_path / "last.safetensors").write_bytes(b"torn")
    write_again(tmp_path / name, **change)

    with pytest.raises(CheckpointError, match=message) as caught:
        train(small_recipe(epochs=2), store, weights, tmp_path)
    assert str(tmp_path / name) in str(caught.value)


def test_a_run_killed_between_its_two_files_ends_with_the_same_two(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(monitor="val_loss", learning_rate=0.01)
    run = fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path))
    next(run)
    last = (tmp_path / "last.safetensors").read_bytes()
    list(run)
    whole = {name: load_file(tmp_path / name) for name in ("best.safetensors", "last.safetensors")}
    storage.write_bytes(tmp_path / "last.safetensors", last)  # the best one is of a later epoch

    train(recipe, store, weights, tmp_path)
    for name, tensors in whole.items():
        assert same_tensors(load_file(tmp_path / name), tensors)


def test_only_what_is_trained_is_kept(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    train(small_recipe(epochs=1, freeze="blocks1-4"), store, weights, tmp_path)
    kept = load_file(tmp_path / "best.safetensors")

    free = {"features.12.weight", "features.12.bias"}
    head = {f"head.{layer}.{kind}" for layer in ("hidden", "output") for kind in ("weight", "bias")}
    assert set(kept) == free | head


FREEZES = ("trunk", "blocks1-4", "none")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backbone, freeze", [*(("vgg16", freeze) for freeze in FREEZES), ("vgg16_bn", "blocks1-3")])
def test_an_exported_model_scores_as_its_best_epoch_did(
    backbone: str, freeze: str, precision: str, store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    weights = small_weights(backbone)
    recipe = small_recipe(backbone=backbone, freeze=freeze, precision=precision, learning_rate=0.01, monitor="val_loss")
    rows = train(recipe, store, weights, tmp_path / "trial")
    epoch = export_best(tmp_path / "best", checkpoints=tmp_path / "trial", recipe=recipe, store=store, weights=weights)
    assert epoch == best_epoch(rows, recipe).epoch

    model = load_model(tmp_path / "best")
    validation = store.rows("validation")
    probabilities = predict_probabilities(model, store.faces[validation])
    labels = store.labels[validation]

    assert (model.recipe, model.class_names) == (recipe, CLASS_NAMES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(rows[epoch - 1].val_loss, rel=1e-3)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(rows[epoch - 1].val_accuracy)


@pytest.fixture
def best(store: SmallStore, weights: Weights, tmp_path: Path) -> Path:
    """An exported model."""
    train(small_recipe(epochs=1), store, weights, tmp_path / "trial")
    export_best(
        tmp_path / "best", checkpoints=tmp_path / "trial", recipe=small_recipe(epochs=1), store=store, weights=weights
    )
    return tmp_path / "best"


PREPROCESSING = {
    "crop_px": 32,
    "size_px": 32,
    "color_order": "RGB",
    "resize": "area average down, bicubic up",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "margin": 0.25,
}


def preprocessing_text(**changes: Any) -> str:
    return json.dumps(PREPROCESSING | changes)


def test_an_exported_model_says_how_faces_are_prepared(best: Path) -> None:
    assert json.loads((best / "preprocessing.json").read_text()) == PREPROCESSING
    assert json.loads((best / "classes.json").read_text()) == list(CLASS_NAMES)


def test_faces_of_any_size_and_number_are_predicted(best: Path, store: SmallStore) -> None:
    model = load_model(best)
    large = np.repeat(np.repeat(store.faces, 2, axis=1), 2, axis=2)

    assert predict_probabilities(model, store.faces[:0]).shape == (0, 7)
    np.testing.assert_allclose(
        predict_probabilities(model, large), predict_probabilities(model, store.faces), rtol=1e-3, atol=1e-4
    )


def test_a_model_of_an_earlier_version_gets_faces_by_the_rule_that_it_was_trained_with(
    best: Path, store: SmallStore, tmp_path: Path
) -> None:
    shutil.copytree(best, tmp_path / "earlier")
    rule = "area average down, linear up"
    (tmp_path / "earlier" / "preprocessing.json").write_text(preprocessing_text(resize=rule))
    small = store.faces[:, ::2, ::2]
    given = resize(small, 32, rule=rule)

    model = load_model(tmp_path / "earlier")
    np.testing.assert_array_equal(predict_probabilities(model, small), predict_probabilities(model, given))
    assert (predict_probabilities(load_model(best), small) != predict_probabilities(model, small)).any()


def test_a_prediction_does_not_depend_on_the_faces_beside_it(best: Path, store: SmallStore) -> None:
    model = load_model(best)
    together = predict_probabilities(model, store.faces)
    apart = np.concatenate([predict_probabilities(model, store.faces[[row]]) for row in range(len(store.faces))])

    np.testing.assert_allclose(together, apart, rtol=1e-2, atol=1e-3)


def test_an_exported_model_serves_as_weights(best: Path, weights: Weights) -> None:
    again = load_weights(best / "model.safetensors", "vgg16")

    assert same_tensors(dict(again.tensors), dict(weights.tensors))


@pytest.mark.parametrize("name", ["recipe.json", "classes.json", "preprocessing.json", "model.safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-20])])
def test_a_model_with_a_missing_or_truncated_file_is_refused(
    name: str, damage: Callable[[Path], None], best: Path
) -> None:
    damage(best / name)

    with pytest.raises(CheckpointError, match=name):
        load_model(best)


@pytest.mark.parametrize(
    "name, text",
    [
        ("recipe.json", '{"hidden_units": 5}'),
        ("recipe.json", '{"no_such_setting": 5}'),
        ("recipe.json", "[]"),
        ("classes.json", '["happy"]'),
        ("classes.json", "7"),
        ("classes.json", "[]"),
        ("classes.json", '"abcdefg"'),
        ("classes.json", json.dumps(["happy"] * 7)),
        ("preprocessing.json", "{}"),
        ("preprocessing.json", "[]"),
        ("preprocessing.json", preprocessing_text(size_px=0)),
        ("preprocessing.json", preprocessing_text(size_px=1_000_000_000)),
        ("preprocessing.json", preprocessing_text(mean=[0.5, 0.5])),
        ("preprocessing.json", preprocessing_text(std="xyz")),
        ("preprocessing.json", preprocessing_text(margin="wide")),
        ("preprocessing.json", preprocessing_text(margin=float("nan"))),
        ("preprocessing.json", preprocessing_text(resize="nearest")),
        ("preprocessing.json", preprocessing_text(more=1)),
    ],
)
def test_a_model_whose_files_do_not_fit_each_other_is_refused(name: str, text: str, best: Path) -> None:
    (best / name).write_text(text)

    with pytest.raises(CheckpointError, match="not a model that ferray exported"):
        load_model(best)


def test_nothing_is_exported_from_a_folder_without_a_best_epoch_or_of_another_run(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(epochs=1)
    with pytest.raises(CheckpointError, match=r"best\.safetensors: cannot be read"):
        export_best(tmp_path / "best", checkpoints=tmp_path, recipe=recipe, store=store, weights=weights)

    train(recipe, store, weights, tmp_path)
    other = dataclasses.replace(recipe, learning_rate=0.5)
    with pytest.raises(CheckpointError, match=r"best\.safetensors: a checkpoint of run \w+, not of"):
        export_best(tmp_path / "best", checkpoints=tmp_path, recipe=other, store=store, weights=weights)
    assert not (tmp_path / "best").exists()
