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
    ({}, IMAGENET, {**TRAIN, "epoch": 1}, "d7cc3f975ec01318e2a22413c4964512"),
    (
        {"seed": 4},
        IMAGENET,
        {"split": "validation", "epoch": None, "device": "cpu"},
        "0f850ab27be1f4c03732d24c3b0582b8",
    ),
    (
        {"image_size": 224, "backbone": "vgg16_bn", "precision": "bfloat16"},
        IMAGENET,
        {"split": "train+validation", "epoch": 3, "device": "cuda:1"},
        "d17b18807195420a978d58eb7a7c9b80",
    ),
    ({"freeze": "blocks1-4"}, IMAGENET, {**TRAIN, "epoch": 2}, "c5844a04e3475c2c98ccd63fef3ace78"),
    (
        {"augmentation": "light", "augmentation_strength": 1.5, "seed": 4},
        IMAGENET,
        {**TRAIN, "epoch": 7},
        "148a6a90a12c0ff6e9ce8570cf5f3873",
    ),
    (
        {"augmentation": "strong", "augmentation_views": 3},
        IMAGENET,
        {**TRAIN, "epoch": 5},
        "6adcb63228fcbe710c59c4d9865eff32",
    ),
    ({"random_erasing": 0.25}, IMAGENET, {**TRAIN, "epoch": 2}, "c228b710a8b2050068d8aa21d2b14653"),
    (
        {"augmentation": "light", "augmentation_strength": 0.0},
        IMAGENET,
        {**TRAIN, "epoch": 2},
        "d7cc3f975ec01318e2a22413c4964512",
    ),
    ({"weights": "none", "seed": 9}, IMAGENET, {**TRAIN, "epoch": 2}, "a21d2f2ce588c9fc0ecb06cca34fd320"),
    ({"seed": 9}, NONE, {**TRAIN, "epoch": 2}, "a21d2f2ce588c9fc0ecb06cca34fd320"),
    (
        {"weights": "none", "augmentation": "standard"},
        NONE,
        {"split": "validation", "epoch": None, "device": "cpu"},
        "8919b83a86055437b5f1c81a2f20e0d2",
    ),
]


@pytest.mark.parametrize("changes, weights, of, view_id", RECORDED)
def test_the_name_of_a_view_stays_what_it_is_in_the_caches_of_earlier_versions(
    changes: dict[str, Any], weights: Weights, of: dict[str, Any], view_id: str
) -> None:
    store: Any = SimpleNamespace(fingerprint="data")

    assert make_view(RunSpec(small_recipe(**changes), store, weights), **of).view_id == view_id


def test_counting_views_loads_nothing_heavy() -> None:
    code = "import sys, ferray.train.features.key; assert not {'torch', 'numpy', 'pandas', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
