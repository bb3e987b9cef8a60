"""Whether a plan can be carried out, found out before a cluster is started; `--dry-run` asks the same.

Refused is what would fail later: in every trial, in the finals after all the training, or when worker groups are
started. What can be done but is probably not meant comes back in words. Nothing here loads torch or Ray.

Begin at `check_plan`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferray.data.store.reader import Store, open_store
from ferray.errors import DataError, RecipeError, SearchError, StorageError, WeightsError
from ferray.files import storage
from ferray.files.location import is_address
from ferray.model.backbones import find_backbone
from ferray.model.weights_file import check_header, find_file
from ferray.recipe import Recipe, check_value
from ferray.search.plan import Plan
from ferray.space import Space, to_recipe
from ferray.space.idle import describe_capped_grid, find_idle_settings
from ferray.train.features import cache as viewcache
from ferray.train.features.key import keys_of_run
from ferray.train.preflight import VOTES_WAY_OUT, check_recipe, find_risks

USE_FOLDS = "--folds 5 --keep best-fold"

MEETS_THE_DATA = (
    "class_balance", "targets", "image_size", "batch_size", "backbone", "freeze", "augmentation", "augmentation_views",
    "epochs",
)  # fmt: skip
"""Settings that decide whether a recipe can be trained on a store, or what that takes."""


def check_plan(plan: Plan, *, is_dry: bool = False) -> list[str]:
    """Refuse a plan that cannot be carried out.

    Args:
        plan: A new search, or one that is extended.
        is_dry: Whether nothing is going to be trained: what can still be brought is then no fault.

    Returns:
        What can be done, but hardly as it is meant: one line each.

    Raises:
        FerrayError: Place, fault and way out.
    """
    _check_folder(plan.run.folder, "--out names the parent of all searches: name another")
    _check_machine(plan)
    _check_seeds(plan)
    missing = _check_weights(plan, is_dry=is_dry)
    found = [*missing, *_find_idle_options(plan), *find_idle_settings(plan.space)]
    if (capped := describe_capped_grid(plan.space, plan.num_points)) is not None:
        found.append(capped)
    if not plan.has_faces:
        found.append(
            f"--data {plan.data}: only its manifest was read; what its pictures allow is checked by the search"
        )
    elif plan.data_dir is not None:  # demo faces have every class in every split
        store = open_store(plan.data_dir)
        found += _check_data(plan, store)
        found += _check_cache(plan, store)
    elif any(recipe.targets == "votes" for recipe in _recipes(plan.space)):
        raise DataError("targets votes", "demo faces have labels alone, and no votes", VOTES_WAY_OUT)
    return list(dict.fromkeys(found))


def _check_data(plan: Plan, store: Store) -> Iterator[str]:
    """Try the recipes of the plan on its data: those of its points, of every fold, and of the refit."""
    for recipe in _recipes(plan.space):
        check_recipe(recipe, store, use_folds=USE_FOLDS)
        yield from (f"{store.folder}: {risk}" for risk in find_risks(recipe, store))
    if plan.refits:
        _check_refit(store)
    yield from _find_equal_poolings(plan.space, store)


def _check_refit(store: Store) -> None:
    """With folds, the winner is trained once more on the splits as they are; both must have faces."""
    sizes = store.manifest.split_sizes
    empty = [split for split in ("train", "validation") if not sizes[split]]
    if empty:
        what = (
            f"{store.folder} has no {empty[0]} {store.manifest.shown.nouns}, which training the winner once more needs"
        )
        raise SearchError("--keep refit, the default", what, "Keep the model of the best fold: --keep best-fold")


def _recipes(space: Space) -> Iterator[Recipe]:
    """Recipes of the space, one of `MEETS_THE_DATA` changed at a time; with folds those of every fold."""
    ends = {parameter.name: parameter.ends() for parameter in space.parameters if parameter.ends()}
    first = {name: values[0] for name, values in ends.items()}
    changes: list[dict[str, Any]] = [{name: value} for name in MEETS_THE_DATA for value in ends.get(name, ())]
    for fold in range(space.folds):
        of_fold = {"fold": fold} if space.folds > 1 else {}
        for change in changes or [{}]:
            yield to_recipe(space, {**first, **of_fold, **change}, seed=0)


def _find_equal_poolings(space: Space, store: Store) -> Iterator[str]:
    """That both poolings are one where the trunk's output is one pixel, as on FER2013's pictures of 48."""
    outputs = {
        size: find_backbone(recipe.backbone).output_shape(size)
        for recipe in _recipes(space)
        if (size := recipe.image_size or store.size_px)
    }
    for parameter in space.parameters:
        if (
            parameter.name == "head_pooling"
            and parameter.searched
            and all(side == 1 for _, side, _ in outputs.values())
        ):
            what = f"head_pooling varies without effect: pictures of {max(outputs)} pixels leave one pixel to pool"
            yield f"{parameter.where}: {what}. Give it one value, or a larger image_size"


def _check_machine(plan: Plan) -> None:
    """That this machine has a core for each worker; of a cluster that is joined, only the cluster knows.

    Ray may count fewer cores, in a container: then it refuses later.
    """
    cores = os.cpu_count() or 1
    groups = plan.concurrent_trials or 1
    if plan.address is None and groups * plan.workers_per_trial > cores:
        raise SearchError(
            f"{groups} x {plan.workers_per_trial} workers",
            f"need {groups * plan.workers_per_trial} CPUs, but this machine has {cores}",
            "Lower --concurrent-trials or --workers-per-trial, or join a larger cluster: --address",
        )


def _check_seeds(plan: Plan) -> None:
    """That the finals have seeds: those after the largest of the search."""
    seeds = [parameter for parameter in plan.space.parameters if parameter.name == "seed"]
    largest = int(seeds[0].largest) if seeds else plan.seed
    try:
        check_value("seed", largest + plan.replicates - 1, where="seed")
    except RecipeError as error:
        what = f"the finals need seeds up to {largest + plan.replicates - 1}, more than a recipe takes"
        raise SearchError(f"--replicates {plan.replicates}", what, "Use smaller seeds, such as --seed 0") from error


def _check_weights(plan: Plan, *, is_dry: bool) -> list[str]:
    """That every backbone has its weights, as far as files are named; what a dry run may lack comes back in words."""
    if plan.weights in ("imagenet", "none") or is_address(plan.weights_path):
        return []
    backbones = next((one.values for one in plan.space.parameters if one.name == "backbone"), (Recipe.backbone,))
    if len(backbones) > 1 and not os.path.isdir(plan.weights_path):
        what = f"one file, but the space asks for {len(backbones)} backbones, {', '.join(backbones)}"
        way_out = (
            f"Give a folder with {backbones[0]}.safetensors and so on; search one backbone: --set"
            f" backbone={backbones[0]}; or leave --weights out for ImageNet's weights"
        )
        raise SearchError(f"--weights {plan.weights}", what, way_out)
    missing = []
    for name in backbones:
        try:
            file = find_file(plan.weights_path, name)
        except WeightsError:
            missing.append(name)
        else:
            check_header(Path(file), find_backbone(name))
    if not missing:
        return []
    what = f"has no file of weights for {', '.join(missing)}"
    present = ",".join(name for name in backbones if name not in missing)
    others = f", or search the others: --set backbone=[{present}]" if present else ""
    way_out = f"Put {missing[0]}.safetensors and so on there{others}"
    if not is_dry:
        raise SearchError(f"--weights {plan.weights}", what, way_out)
    return [f"--weights {plan.weights}: {what}. {way_out}"]


def _check_folder(folder: Path, way_out: str) -> None:
    """That a folder exists and can be written, or can be made."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        raise StorageError(str(folder), f"{existing} is a file", way_out)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(str(folder), f"{existing} cannot be written by this user", way_out)


def _check_cache(plan: Plan, store: Store) -> Iterator[str]:
    """That the frozen layers' output has room on the disk, for all epochs of a trial, or at least in memory for one.

    What has no room on the disk is computed by every trial for itself, in memory; what has to make room for other
    epochs of the trial is computed again by the next trial.
    """
    if plan.address is not None:  # the disks are those of the nodes
        return
    cache = storage.cache_dir()
    _check_folder(cache, "Name another cache folder with FERRAY_CACHE")
    one_view, all_views = _sizes_of_views(plan, store)
    capacity = viewcache.capacity_bytes(cache)
    if all_views <= capacity:
        return
    room = f"and there is room for {_in_gb(max(0, capacity))}"
    way_out = "Free space, name a folder on another disk with FERRAY_CACHE, raise FERRAY_CACHE_GB, or lower image_size"
    if one_view <= capacity:
        what = f"the frozen layers' output for all epochs of a trial takes {_in_gb(all_views)}, {room}"
        yield f"{cache}: {what}: each trial computes a part of it again. {way_out}, or set augmentation_views"
        return
    what = f"the frozen layers' output for all {store.manifest.shown.nouns} takes {_in_gb(one_view)}, {room}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if one_view > memory:
        raise StorageError(str(cache), f"{what}, and {_in_gb(memory)} of memory", way_out)
    yield f"{cache}: {what}: every trial computes it again, in memory. {way_out}"


def _sizes_of_views(plan: Plan, store: Store) -> tuple[int, int]:
    """Bytes of the largest view, and of all views of the trial that has most; 0 where nothing is kept."""
    sizes = store.manifest.split_sizes
    splits = (sizes["train"], sizes["validation"])
    num_faces = sum(splits) if plan.space.folds > 1 else max(splits)
    one_view = all_views = 0
    for recipe in _recipes(plan.space):
        if keys := keys_of_run(recipe, weights=plan.weights):
            shape = find_backbone(recipe.backbone).output_shape(recipe.image_size or store.size_px, recipe.freeze)
            view = viewcache.num_bytes(num_faces, shape)
            one_view, all_views = max(one_view, view), max(all_views, len(keys) * view)
    return one_view, all_views


def _in_gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.3g} GB"


def _find_idle_options(plan: Plan) -> Iterator[str]:
    """Options that have no effect beside the others."""
    if plan.replicates == 1 and plan.finalists != plan.space.finalists:
        yield f"--finalists {plan.finalists} has no effect without finals. Add --replicates 3, or leave it out"
    if plan.keep == "best-fold" and plan.space.folds == 1:
        yield "--keep best-fold has no effect without folds. Add --folds 5, or leave it out"
