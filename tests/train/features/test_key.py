"""The views that a recipe reads: the plan of a search counts those that training opens, and recorded names stay."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures.train import SmallStore, small_recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferray import space as spaces
from ferray.commands.search import main
from ferray.errors import SpaceError
from ferray.model.weights import Weights
from ferray.recipe import NO_WEIGHTS, Recipe
from ferray.train.environment import LOCAL
from ferray.train.features import inputs
from ferray.train.features import view as views
from ferray.train.features.view import View, make_view
from ferray.train.settle import settle
from ferray.train.spec import RunSpec


def write_space(folder: Path, parameters: dict[str, list[Any]]) -> Path:
    file = folder / "small.yaml"
    file.write_text(json.dumps({"method": "grid", "parameters": {n: {"values": v} for n, v in parameters.items()}}))
    return file


def planned_passes(file: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Passes of the frozen trunk by the dry run of a search."""
    assert main(["--space", str(file), "--weights", "imagenet", "--dry-run"]) == 0
    found = re.search(r"(\d+) pass(es)? of the frozen trunk", capsys.readouterr().out)
    return int(found[1]) if found else 0


def test_a_dry_run_counts_a_pass_for_each_backbone_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_space(tmp_path, {"backbone": ["vgg16", "vgg16_bn"], "image_size": [32, 64], "dropout": [0.1, 0.5]})

    assert planned_passes(file, capsys) == 4


def opened_views(recipe: Recipe, store: Any, weights: Weights) -> list[View]:
    """The views that training a recipe opens, none of which is computed."""
    opened: list[View] = []

    def note(view: View, *_: Any, **__: Any) -> Any:
        opened.append(view)
        return np.zeros((1, 1, 1, 1), dtype=np.float16)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "open_or_compute", note)
        run = inputs.open_inputs(RunSpec(recipe, store, weights), LOCAL)
        for epoch in range(1, recipe.epochs + 1):
            run.open_epoch(epoch)
    return opened


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "backbone": some("vgg16", "vgg16_bn"),
        "weights": some("pretrained", "none"),
        "image_size": some(32, 64),
        "precision": some("float32", "bfloat16"),
        "freeze": some("trunk", "blocks1-4", "blocks1-3", "none"),
        "augmentation": some("none", "light", "strong"),
        "augmentation_strength": some(0.0, 1.0, 1.5),
        "augmentation_views": some(None, 1, 2),
        "random_erasing": some(0.0, 0.5),
        "seed": some(0, 1),
        "epochs": some(1, 2, 3),
        "learning_rate": some(0.1, 0.01),
        "folds": st.just([2]),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PARAMETERS)
def test_the_passes_of_a_plan_are_those_that_training_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parameters: dict[str, list[Any]]
) -> None:
    if not parameters:
        return
    file, store = write_space(tmp_path, parameters), SmallStore()
    try:
        space = spaces.read_space(file)
    except SpaceError:  # settings that do not go together
        return
    passes = set()
    for point in spaces.points(space, seed=0):
        for fold in range(space.folds):
            values = point if space.folds == 1 else {**point, "fold": fold}
            recipe = settle(spaces.to_recipe(space, values, seed=0), store, precision="float32")  # type: ignore[arg-type]
            weights = Weights(name="some", backbone=recipe.backbone, fingerprint=f"of {recipe.backbone}", tensors={})
            # Both splits go through the trunk in one pass.
            passes |= {dataclasses.replace(view, split="") for view in opened_views(recipe, store, weights)}

    assert planned_passes(file, capsys) == len(passes)


IMAGENET = Weights(name="imagenet", backbone="vgg16", fingerprint="weights", tensors={})
NONE = Weights(name="none", backbone="vgg16", fingerprint=NO_WEIGHTS, tensors={})
TRAIN = {"split": "train", "device": "cpu"}
RECORDED: list[tuple[dict[str, Any], Weights, dict[str, Any], str]] = [
    ({}, IMAGENET, {**TRAIN, "epoch": 1}, "b0f9c63933a6d5d8ad2246ec8debda93"),
    (
        {"seed": 4},
        IMAGENET,
        {"split": "validation", "epoch": None, "device": "cpu"},
        "8851a14ada004d8f7a46e239b3d9de93",
    ),
    (
        {"image_size": 224, "backbone": "vgg16_bn", "precision": "bfloat16"},
        IMAGENET,
        {"split": "train+validation", "epoch": 3, "device": "cuda:1"},
        "8d018cdbe6e6702d0a14dba77f9ccf63",
    ),
    ({"freeze": "blocks1-4"}, IMAGENET, {**TRAIN, "epoch": 2}, "8b52519bb0fde07a772097cb4be6c585"),
    (
        {"augmentation": "light", "augmentation_strength": 1.5, "seed": 4},
        IMAGENET,
        {**TRAIN, "epoch": 7},
        "d322417a3f065483aaa685c006154a33",
    ),
    (
        {"augmentation": "strong", "augmentation_views": 3},
        IMAGENET,
        {**TRAIN, "epoch": 5},
        "728ab47b65765c5f04d192769aa26585",
    ),
    ({"random_erasing": 0.25}, IMAGENET, {**TRAIN, "epoch": 2}, "f3d235f8322e30a83a295c7fc6fd883e"),
    (
        {"augmentation": "light", "augmentation_strength": 0.0},
        IMAGENET,
        {**TRAIN, "epoch": 2},
        "b0f9c63933a6d5d8ad2246ec8debda93",
    ),
    ({"weights": "none", "seed": 9}, IMAGENET, {**TRAIN, "epoch": 2}, "51800fa50f9882809bc237250dd37c7d"),
    ({"seed": 9}, NONE, {**TRAIN, "epoch": 2}, "51800fa50f9882809bc237250dd37c7d"),
    (
        {"weights": "none", "augmentation": "standard"},
        NONE,
        {"split": "validation", "epoch": None, "device": "cpu"},
        "653f33d4c4f8efb2d9cdd12c98c10ea2",
    ),
]


@pytest.mark.parametrize("changes, weights, of, view_id", RECORDED)
def test_the_name_of_a_view_stays_what_it_is_in_the_caches_of_earlier_versions(
    changes: dict[str, Any], weights: Weights, of: dict[str, Any], view_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "altering_libraries", lambda: "albumentations 2.0, OpenCV 5")
    store: Any = SimpleNamespace(fingerprint="data")

    assert make_view(RunSpec(small_recipe(**changes), store, weights), **of).view_id == view_id


def test_counting_views_loads_nothing_heavy() -> None:
    code = "import sys, ferray.train.features.key; assert not {'torch', 'numpy', 'pandas', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
