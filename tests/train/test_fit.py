"""The training loop: bitwise resumption, what moves and what does not, when it ends, what it refuses."""

import dataclasses
import itertools
import math
import threading
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe, small_weights
from safetensors.torch import load_file

from ferray.errors import CheckpointError, DataError, TrainError, WeightsError
from ferray.model.randomness import Purpose, make_seed
from ferray.model.weights import Weights, load_weights
from ferray.recipe import FIELD_NAMES, NO_WEIGHTS, ClassBalance, MetricName, Recipe, to_values
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult
from ferray.space.idle import CONDITIONS
from ferray.train.checkpoints.checkpoint import CheckpointFolder
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.environment import LOCAL
from ferray.train.fit import fit
from ferray.train.folds import split_rows
from ferray.train.run import open_run
from ferray.train.spec import RunSpec

TIMES = {"images_per_s": 0.0, "seconds": 0.0}


def train(recipe: Recipe, store: SmallStore, weights: Weights, **named: Any) -> list[EpochResult]:
    """All epochs, without their times."""
    rows = fit_in(named.pop("checkpoints", None), recipe, store, weights, **named)
    return [dataclasses.replace(row, **TIMES) for row in rows]


BEFORE = {  # freeze: training and validation loss of each epoch
    "trunk": [(1.8841805, 1.8983213), (1.9277669, 1.8960838), (1.9687886, 1.8935506)],
    "blocks1-4": [(1.8846069, 1.8980374), (1.9264674, 1.8950650), (1.9664937, 1.8918718)],
    "none": [(1.8941249, 1.8907607), (1.9107112, 1.8751418), (1.9175750, 1.8580788)],
}

RECIPES = {
    "a head by adam": small_recipe(epochs=4, learning_rate=0.01),
    "a head by adamw on altered pictures": small_recipe(
        epochs=4, optimizer="adamw", weight_decay=0.1, augmentation="light"
    ),
    "block 5 by sgd with a cosine": small_recipe(
        epochs=4, freeze="blocks1-4", optimizer="sgd", learning_rate=0.01, schedule="cosine", warmup_epochs=0.5
    ),
    "everything by adam in bfloat16": small_recipe(epochs=4, freeze="none", precision="bfloat16", gradient_clip=0.5),
    "mixed features of a fold, erased and drawn alike": small_recipe(
        epochs=4, folds=3, fold=1, mixup_alpha=0.4, random_erasing=0.5, class_balance="balanced_sampling"
    ),
    "mixed pictures of a fold with permuted labels": small_recipe(
        epochs=4, freeze="none", folds=2, fold=0, mixup_alpha=1.0, focal_gamma=1.0, shuffle_labels=True
    ),
    "votes, mixed": small_recipe(epochs=4, targets="votes", mixup_alpha=0.4),
    "sgd without momentum by steps": small_recipe(
        epochs=4, optimizer="sgd", momentum=0.0, schedule="step", step_epochs=1
    ),
}


@pytest.mark.parametrize("done", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_run_cut_off_after_an_epoch_and_run_again_ends_with_the_same_bits(
    recipe: Recipe, done: int, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    whole = train(recipe, store, weights, checkpoints=tmp_path / "whole")

    cut = fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path / "cut"))
    begun = [dataclasses.replace(row, **TIMES) for row in itertools.islice(cut, done)]
    cut.close()
    ended = train(recipe, store, weights, checkpoints=tmp_path / "cut")

    assert begun + ended == whole
    for name in ("last.safetensors", "best.safetensors"):
        assert same_tensors(load_file(tmp_path / "cut" / name), load_file(tmp_path / "whole" / name))


@pytest.mark.parametrize("settings", [{}, {"schedule": "step", "step_epochs": 1}, {"warmup_epochs": 1.5}])
def test_a_longer_run_that_continues_a_shorter_one_ends_with_the_bits_of_one_from_the_start(
    settings: dict[str, Any], store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    short, long = (small_recipe(epochs=epochs, **settings) for epochs in (2, 4))
    train(short, store, weights, checkpoints=tmp_path / "short")
    folders = {
        name: CheckpointFolder(tmp_path / name, RunSpec(recipe, store, weights).trial_id)
        for name, recipe in (("short", short), ("long", long))
    }
    folders["long"].copy_from(folders["short"])
    gone_on = train(long, store, weights, checkpoints=tmp_path / "long", recorded_epochs=0)

    assert gone_on == train(long, store, weights, checkpoints=tmp_path / "whole")
    for name in ("last.safetensors", "best.safetensors"):
        assert same_tensors(load_file(tmp_path / "long" / name), load_file(tmp_path / "whole" / name))


def test_a_run_does_not_continue_from_the_checkpoint_of_another_run(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    train(small_recipe(), store, weights, checkpoints=tmp_path / "short")
    long = CheckpointFolder(tmp_path / "long", "1" * 12)
    with pytest.raises(CheckpointError, match="not of 000000000000"):
        long.copy_from(CheckpointFolder(tmp_path / "short", "0" * 12))
    with pytest.raises(CheckpointError, match="cannot be read"):
        long.copy_from(CheckpointFolder(tmp_path / "none", "0" * 12))


def test_two_equal_runs_are_equal_whatever_torchs_own_generator_and_leave_it_alone(
    store: SmallStore, weights: Weights
) -> None:
    recipe = small_recipe(augmentation="strong", freeze="blocks1-4")
    torch.manual_seed(1)
    first = train(recipe, store, weights)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = train(recipe, store, weights)

    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # setting: what both runs have, what the second changes
    "backbone": ({"weights": "none"}, {"backbone": "vgg16_bn"}),
    "weights": ({}, {"weights": "none"}),
    "image_size": ({}, {"image_size": 64}),
    "freeze": ({"learning_rate": 0.01}, {"freeze": "blocks1-4"}),
    "head_pooling": ({"image_size": 64}, {"head_pooling": "average"}),
    "hidden_units": ({}, {"hidden_units": 8}),
    "dropout": ({}, {"dropout": 0.0}),
    "augmentation": ({}, {"augmentation": "standard"}),
    "augmentation_strength": ({"augmentation": "standard"}, {"augmentation_strength": 1.5}),
    "augmentation_views": ({"augmentation": "standard"}, {"augmentation_views": 1}),
    "targets": ({}, {"targets": "votes"}),
    "label_smoothing": ({}, {"label_smoothing": 0.2}),
    "optimizer": ({}, {"optimizer": "sgd"}),
    "learning_rate": ({}, {"learning_rate": 0.002}),
    "trunk_lr_factor": ({"freeze": "none"}, {"trunk_lr_factor": 1.0}),
    "weight_decay": ({}, {"weight_decay": 0.5}),
    "momentum": ({"optimizer": "sgd"}, {"momentum": 0.1}),
    "schedule": ({}, {"schedule": "cosine"}),
    "warmup_epochs": ({}, {"warmup_epochs": 1.0}),
    "step_epochs": ({"schedule": "step"}, {"step_epochs": 1}),
    "step_factor": ({"schedule": "step", "step_epochs": 1}, {"step_factor": 0.5}),
    "batch_size": ({}, {"batch_size": 5}),
    "epochs": ({}, {"epochs": 3}),
    "patience": ({"learning_rate": 0.9, "epochs": 9}, {"patience": 1}),
    "gradient_clip": ({"optimizer": "sgd"}, {"gradient_clip": 0.01}),
    "precision": ({}, {"precision": "bfloat16"}),
    "seed": ({}, {"seed": 1}),
    "feature_scaling": ({}, {"feature_scaling": "standardize"}),
    "random_erasing": ({}, {"random_erasing": 1.0}),
    "mixup_alpha": ({}, {"mixup_alpha": 0.4}),
    "class_balance": ({}, {"class_balance": "balanced_sampling"}),
    "effective_number_beta": ({"class_balance": "effective_number_weights"}, {"effective_number_beta": 0.5}),
    "logit_adjustment_tau": ({"class_balance": "logit_adjustment"}, {"logit_adjustment_tau": 0.5}),
    "focal_gamma": ({}, {"focal_gamma": 2.0}),
    "folds": ({"folds": 3, "fold": 0}, {"folds": 2}),
    "fold": ({"folds": 3, "fold": 0}, {"fold": 1}),
    "shuffle_labels": ({}, {"shuffle_labels": True}),
}


@pytest.mark.parametrize("setting", CHANGES)
def test_every_setting_changes_the_numbers(setting: str, store: SmallStore, weights: Weights) -> None:
    common, change = CHANGES[setting]
    runs = []
    for settings in (common, common | change):
        recipe = small_recipe(**({"epochs": 2} | settings))
        runs.append(train(recipe, store, weights if recipe.backbone == "vgg16" else small_weights(recipe.backbone)))

    assert runs[0] != runs[1]


IDLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # as CHANGES, where the setting's condition does not hold
    "momentum": ({"optimizer": "adam"}, {"momentum": 0.1}),
    "augmentation": ({"augmentation_strength": 0.0}, {"augmentation": "standard"}),
    "augmentation_strength": ({}, {"augmentation_strength": 0.5}),
    "augmentation_views": ({}, {"augmentation_views": 1}),
    "trunk_lr_factor": ({}, {"trunk_lr_factor": 1.0}),
    "effective_number_beta": ({"class_balance": "inverse_weights"}, {"effective_number_beta": 0.5}),
    "logit_adjustment_tau": ({"class_balance": "inverse_weights"}, {"logit_adjustment_tau": 0.5}),
    "schedule": ({"step_epochs": 2}, {"schedule": "step"}),
    "step_epochs": ({"schedule": "cosine"}, {"step_epochs": 1}),
    "step_factor": ({"step_epochs": 1}, {"step_factor": 0.5}),
    "mixup_alpha": ({"batch_size": 1, "dropout": 0.0}, {"mixup_alpha": 0.4}),
    "patience": ({"learning_rate": 0.9, "epochs": 3}, {"patience": 2}),
}


@pytest.mark.parametrize("setting", CONDITIONS)
def test_a_setting_that_a_plan_calls_idle_changes_no_numbers(setting: str, store: SmallStore, weights: Weights) -> None:
    common, change = IDLE[setting]
    recipes = [small_recipe(**({"epochs": 2} | settings)) for settings in (common, common | change)]
    runs = [[(row.train_loss, row.val_loss) for row in train(recipe, store, weights)] for recipe in recipes]

    assert not any(CONDITIONS[setting].holds(to_values(recipe)) for recipe in recipes)
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-6)


def test_the_settings_that_change_numbers_are_all_but_the_monitor() -> None:
    assert set(CHANGES) == set(FIELD_NAMES) - {"monitor"}


def test_each_way_to_balance_classes_has_numbers_of_its_own(weights: Weights) -> None:
    ways = get_args(ClassBalance)
    runs = [train(small_recipe(epochs=1, class_balance=way), SmallStore(29, 14), weights) for way in ways]

    assert all(one != other for one, other in itertools.combinations(runs, 2))


@pytest.mark.parametrize("settings", [{}, {"freeze": "blocks1-4"}, {"freeze": "none", "learning_rate": 0.003}])
def test_the_history_of_a_recipe_without_the_later_settings_is_the_one_before_they_were_there(
    settings: dict[str, Any], store: SmallStore, weights: Weights
) -> None:
    rows = train(small_recipe(**settings), store, weights)

    losses = [(row.train_loss, row.val_loss) for row in rows]
    # Computed with the version before; other processors round differently.
    assert losses == [pytest.approx(pair, rel=1e-5) for pair in BEFORE[settings.get("freeze", "trunk")]]


def test_a_head_trained_on_shuffled_labels_falls_to_chance(weights: Weights) -> None:
    store = SmallStore(140, 140)

    def score(**settings: Any) -> float:
        recipe = small_recipe(learning_rate=0.03, epochs=6, dropout=0.0, **settings)
        return train(recipe, store, weights)[-1].val_balanced_accuracy

    assert score() > 0.5
    # Faces of a class look alike here, so that a run takes all or none of them for its own: 1 of 7 classes on average.
    assert sum(score(shuffle_labels=True, seed=seed) for seed in range(4)) / 4 < 0.3


ERASED = {"random_erasing": 0.5, "augmentation_views": 2}


@pytest.mark.parametrize(
    "freeze, settings", [("trunk", {}), ("trunk", ERASED), ("blocks1-4", {}), ("blocks1-4", ERASED), ("none", {})]
)
def test_all_folds_share_their_views_and_have_the_numbers_of_a_run_without_a_cache(
    freeze: str, settings: dict[str, Any], weights: Weights, tmp_path: Path
) -> None:
    store = SmallStore(40, 20)
    for fold in (0, 2):
        recipe = small_recipe(freeze=freeze, epochs=2, folds=3, fold=fold, **settings)
        assert train(recipe, store, weights, cache=tmp_path) == train(recipe, store, weights)

    altered = 2 if settings else 0
    expected = {"trunk": 1 + altered, "blocks1-4": 0 if settings else 1, "none": 0}[freeze]
    assert len(list(tmp_path.glob("views/*/features.npy"))) == expected


def test_the_labels_of_the_fold_that_is_validated_with_do_not_reach_training(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(folds=3, fold=1, class_balance="inverse_weights", mixup_alpha=0.4)
    other = SmallStore()
    own = split_rows(recipe, store).validation.rows
    other.labels[own] = 0
    other.faces[own] = 255 - other.faces[own]
    split = split_rows(recipe, store)
    runs = []
    for number, some in enumerate((store, other)):
        with pytest.MonkeyPatch.context() as patch:
            # The labels that the folds are stratified by differ.
            patch.setattr("ferray.train.spec.split_rows", lambda *_: split)
            rows = train(recipe, some, weights, checkpoints=tmp_path / str(number))
        runs.append([row.train_loss for row in rows])

    assert runs[0] == runs[1]
    assert same_tensors(*(load_file(tmp_path / name / "last.safetensors") for name in "01"))


@pytest.mark.parametrize("augmentation", ["none", "standard"])
@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "blocks1-3"])
def test_cached_features_give_the_same_numbers_as_none(
    freeze: str, augmentation: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(freeze=freeze, augmentation=augmentation)
    uncached = train(recipe, store, weights)
    computing = train(recipe, store, weights, cache=tmp_path)
    cached = train(recipe, store, weights, cache=tmp_path)

    assert uncached == computing == cached


@pytest.mark.parametrize("freeze", ["trunk", "blocks1-4", "blocks1-3", "none"])
def test_frozen_tensors_do_not_move_and_free_ones_do(
    freeze: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    begin = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    recipe = small_recipe(freeze=freeze, learning_rate=0.01, epochs=1)
    train(recipe, store, weights, checkpoints=tmp_path)
    saved = load_file(tmp_path / "best.safetensors")
    moved = {name for name, tensor in saved.items() if not name.startswith("head.") and not tensor.equal(begin[name])}

    first_free = {"trunk": 15, "blocks1-4": 12, "blocks1-3": 9, "none": 0}[freeze]
    assert moved == {name for name in begin if int(name.split(".")[1]) >= first_free}
    assert same_tensors(dict(weights.tensors), begin), "weights are shared by all runs of a process"


def test_it_learns(weights: Weights) -> None:
    rows = train(small_recipe(learning_rate=0.03, epochs=15, dropout=0.0), SmallStore(70, 35), weights)

    assert rows[-1].train_loss < rows[0].train_loss / 2
    assert rows[-1].val_accuracy > 0.5


def test_every_epoch_is_reported_with_its_scores_and_its_rate(store: SmallStore, weights: Weights) -> None:
    recipe = small_recipe(schedule="cosine", learning_rate=0.01)
    rows = list(fit(recipe, store, weights))

    assert [row.epoch for row in rows] == [1, 2, 3]
    last_steps = (2, 5, 8)  # of 9
    rates = [0.01 * 0.5 * (1 + math.cos(math.pi * step / 9)) for step in last_steps]
    assert [row.learning_rate for row in rows] == pytest.approx(rates)
    for row in rows:
        scores = [value for name, value in dataclasses.asdict(row).items() if name.endswith(("accuracy", "f1"))]
        assert len(scores) == 6
        assert all(0 <= score <= 1 for score in scores)
        assert row.images_per_s > 0
        assert row.seconds > 0


@pytest.mark.parametrize("monitor", get_args(MetricName))
def test_patience_counts_from_the_best_epoch_of_the_monitored_metric(
    monitor: str, store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(monitor=monitor, patience=2, epochs=60, learning_rate=0.5)
    rows = train(recipe, store, weights, checkpoints=tmp_path)
    best = best_epoch(rows, recipe).epoch

    assert len(rows) == best + 2
    value = (min if monitor == "val_loss" else max)(getattr(row, monitor) for row in rows)
    assert getattr(rows[best - 1], monitor) == value
    assert all(getattr(row, monitor) != value for row in rows[: best - 1])
    assert train(recipe, store, weights, checkpoints=tmp_path) == [], "a run that has ended stays ended"


def test_a_run_that_has_ended_is_not_run_again(store: SmallStore, weights: Weights, tmp_path: Path) -> None:
    rows = train(small_recipe(), store, weights, checkpoints=tmp_path)

    assert train(small_recipe(), store, weights, checkpoints=tmp_path) == []
    assert train(small_recipe(), store, weights, checkpoints=tmp_path, recorded_epochs=1) == rows[1:]


def test_an_epoch_is_reported_after_its_checkpoint_is_written(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    written = []
    for _ in fit(small_recipe(), store, weights, checkpointing=Checkpointing(tmp_path)):
        written.append((tmp_path / "last.safetensors").read_bytes())

    assert len(set(written)) == 3


def test_a_loss_that_is_not_finite_names_epoch_step_and_a_way_out(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    recipe = small_recipe(freeze="blocks1-4", learning_rate=0.5)
    tensors = dict(weights.tensors)
    tensors["features.12.weight"] = 1e38 * tensors["features.12.weight"]  # of a free layer: its output overflows

    with pytest.raises(TrainError, match=r"epoch 1, training, step [12] of 3: the loss is") as caught:
        train(recipe, store, dataclasses.replace(weights, tensors=tensors), checkpoints=tmp_path)
    assert "Lower learning_rate, now 0.5, or set gradient_clip, now None" in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing is kept of an epoch that failed"


def test_features_that_do_not_fit_half_precision_are_refused(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    tensors = {name: 1e4 * tensor for name, tensor in weights.tensors.items()}

    with pytest.raises(WeightsError, match="the trunk's output for faces 24 to 35 does not fit float16"):
        train(small_recipe(), store, dataclasses.replace(weights, tensors=tensors), cache=tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_the_test_split_is_never_looked_at(store: SmallStore, weights: Weights) -> None:
    asked: list[str] = []

    class Watched(SmallStore):
        def rows(self, split: str) -> slice:
            asked.append(split)
            return super().rows(split)

    for settings in ({}, {"folds": 2, "fold": 1}, {"folds": 2, "fold": 1, "freeze": "none"}):
        train(small_recipe(**settings), Watched(), weights)
    assert set(asked) == {"train", "validation"}


def test_a_run_does_not_continue_from_a_checkpoint_of_other_settings(
    store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    train(small_recipe(epochs=1), store, weights, checkpoints=tmp_path)

    with pytest.raises(CheckpointError, match=r"last\.safetensors: a checkpoint of run \w+, not of"):
        train(small_recipe(epochs=2), store, weights, checkpoints=tmp_path)


def test_a_caller_that_stops_early_leaves_no_thread(store: SmallStore, weights: Weights) -> None:
    rows = fit(small_recipe(freeze="none", augmentation="light"), store, weights)
    next(rows)
    rows.close()

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_a_recipe_that_is_not_settled_is_a_mistake_of_ours(store: SmallStore, weights: Weights) -> None:
    with pytest.raises(ValueError, match="settle"):
        train(Recipe(), store, weights)


def test_weights_of_another_backbone_are_refused(store: SmallStore, weights: Weights) -> None:
    with pytest.raises(WeightsError, match="weights of vgg16, but the recipe's backbone is vgg16_bn"):
        train(small_recipe(backbone="vgg16_bn"), store, weights)


@pytest.mark.parametrize(
    "settings", [{"freeze": "none"}, {"freeze": "trunk"}, {"freeze": "trunk", "backbone": "vgg16_bn"}]
)
def test_a_run_from_no_weights_depends_on_its_seed(
    settings: dict[str, Any], store: SmallStore, small_rows: None, tmp_path: Path
) -> None:
    none = load_weights("none", settings.get("backbone", "vgg16"))
    runs = [
        train(small_recipe(weights="none", seed=seed, **settings), store, none, cache=tmp_path) for seed in (0, 0, 1)
    ]

    assert runs[0] == runs[1] != runs[2]


def test_pictures_are_brought_to_the_recipes_size(weights: Weights) -> None:
    rows = train(small_recipe(image_size=64, epochs=1), SmallStore(8, 8, size_px=32), weights)
    other = train(small_recipe(image_size=32, epochs=1), SmallStore(8, 8, size_px=64), weights)

    assert len(rows) == len(other) == 1


@pytest.mark.parametrize("settings", [{"head_pooling": "average"}, {"hidden_units": None}, {"label_smoothing": 0.2}])
def test_every_form_of_head_and_loss_trains(settings: dict[str, Any], store: SmallStore, weights: Weights) -> None:
    rows = train(small_recipe(learning_rate=0.02, epochs=6, dropout=0.0, **settings), store, weights)

    assert rows[-1].train_loss < rows[0].train_loss


@pytest.mark.slow
def test_vgg16_itself_trains_resumes_and_keeps_its_trunk(shared_dir: Path, tmp_path: Path) -> None:
    weights = load_weights(shared_dir / "weights" / "vgg16-imagenet-features-fp16.safetensors", "vgg16")
    store = SmallStore(10, 5)
    recipe = small_recipe(epochs=2, freeze="blocks1-4", batch_size=5)
    whole = train(recipe, store, weights, checkpoints=tmp_path / "whole")
    cut = fit(recipe, store, weights, checkpointing=Checkpointing(tmp_path / "cut"))
    next(cut)
    cut.close()

    assert train(recipe, store, weights, checkpoints=tmp_path / "cut") == whole[1:]
    assert same_tensors(*(load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut")))


def test_small_weights_stand_for_pretrained_ones(small_rows: None) -> None:
    assert small_weights(seed=1).fingerprint != small_weights(seed=2).fingerprint != NO_WEIGHTS


def test_votes_stay_with_the_labels_that_are_shuffled(weights: Weights) -> None:
    store = SmallStore(40, 20)
    spec = RunSpec(small_recipe(targets="votes", shuffle_labels=True, seed=3), store, weights)  # type: ignore[arg-type]

    run = open_run(spec, LOCAL)

    drawn = np.random.default_rng(make_seed(3, Purpose.LABELS)).permutation(store.labels[:40])
    np.testing.assert_array_equal(run.train_labels, drawn)
    assert run.train_targets is not None
    np.testing.assert_array_equal(run.train_targets.argmax(axis=1), drawn)
    np.testing.assert_allclose(run.train_targets.sum(axis=1), 1, rtol=1e-6)


def test_scores_count_labels_where_votes_are_the_targets(weights: Weights) -> None:
    """A head that learns votes for another class than the label is wrong on every face, and its loss on them small."""
    store = SmallStore(70, 35)
    store.votes = np.eye(7, dtype=np.uint16)[(store.labels + 1) % 7]

    rows = train(small_recipe(targets="votes", learning_rate=0.03, epochs=15, dropout=0.0), store, weights)

    assert rows[-1].val_accuracy < 0.1
    assert rows[-1].train_accuracy < 0.1
    assert rows[-1].val_loss > rows[0].val_loss
    assert rows[-1].train_loss < rows[0].train_loss / 2


def test_votes_are_asked_of_a_store_that_has_none_only_where_they_are_the_targets(weights: Weights) -> None:
    store = SmallStore()
    store.votes = None  # type: ignore[assignment]

    assert train(small_recipe(epochs=1), store, weights)
    with pytest.raises(DataError, match="has labels alone"):
        train(small_recipe(epochs=1, targets="votes"), store, weights)
