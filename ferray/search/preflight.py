"""Whether a plan can be carried out, found out before a cluster is started; `--dry-run` asks the same.

Refused is what would fail later: in every trial, in the finals after all the training, or when worker groups are
started. What can be done but is probably not meant comes back in words. Nothing here loads torch or Ray.

Begin at `check_plan`.
"""

import itertools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ferray.data.demo import SIZE_PX
from ferray.data.store.manifest import read_manifest
from ferray.data.store.reader import Store, open_store
from ferray.errors import DataError, RecipeError, SearchError, StorageError, WeightsError
from ferray.files import storage
from ferray.files.location import is_address
from ferray.model.backbones import find_backbone
from ferray.model.weights_file import check_header, find_file
from ferray.recipe import Recipe, check_value
from ferray.search.fleet.messages import stall_limit_s
from ferray.search.forecast import allocate_here, has_all_views
from ferray.search.history.recorded import History
from ferray.search.options import SearchOptions
from ferray.search.plan import Plan
from ferray.space import Parameter, Space, to_recipe
from ferray.space.idle import describe_capped_grid, find_idle_settings
from ferray.tracking.mode import wanted_mode
from ferray.train.features import cache as viewcache
from ferray.train.features.key import keys_of_run
from ferray.train.preflight import VOTES_WAY_OUT, check_picture_size, check_recipe, find_risks

USE_FOLDS = "--folds 5 --keep best-fold"

MEETS_THE_DATA = (
    "class_balance", "targets", "image_size", "batch_size", "backbone", "freeze", "augmentation", "augmentation_views",
    "epochs",
)  # fmt: skip
"""Settings that decide whether a recipe can be trained on a store, or what that takes."""

MAX_TRIED = 10_000
"""Combinations of backbone, freeze and image_size that are tried."""

SMALLEST_SHARE = 1e-4
"""Ray knows no smaller share of a GPU."""

OTHER_GPUS = ("/dev/dxg", "/dev/kfd")
"""Devices of GPUs that are not counted here: those of Windows below Linux, and AMD's. Ray counts them later."""


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
    storage.check_folder(plan.run.folder, "--out names the parent of all searches: name another")
    _check_machine(plan)
    check_variables(plan.wandb)
    _check_cache_folder(plan)
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
    else:
        _check_pictures(plan.space, SIZE_PX, whose="demo faces", nouns="faces")
        if any(recipe.targets == "votes" for recipe in _recipes(plan.space)):
            raise DataError("targets votes", "demo faces have labels alone, and no votes", VOTES_WAY_OUT)
    return list(dict.fromkeys(found))


def check_changes(plan: Plan, options: SearchOptions) -> list[str]:
    """Refuse what is asked anew of a search that is resumed with its own space, and that cannot be carried out.

    Its space, data and weights were checked when it was begun. What is only on record, such as the number of trials at
    a time, is no fault here: a search that has ended can be looked at on a smaller machine.

    Args:
        plan: With what is on record and what is given now.
        options: What is given now.

    Returns:
        As `check_plan`.

    Raises:
        FerrayError: Place, fault and way out.
    """
    given = (options.concurrent_trials, options.workers_per_trial, options.gpus_per_worker)
    if any(one is not None for one in given):
        _check_machine(plan)
    check_variables(plan.wandb)
    _check_seeds(plan)
    if options.keep is not None and plan.refits and plan.data_dir is not None and plan.has_faces:
        _check_refit(open_store(plan.data_dir))
    asked = any(one is not None for one in (options.keep, options.finalists, options.gpus_per_worker))
    return list(_find_idle_options(plan)) if asked else []


def check_same_data(plan: Plan, history: History) -> None:
    """Refuse to go on with a search on other data than its own.

    Raises:
        SearchError: The store has other pictures or labels.
        DataError: Its manifest cannot be read.
    """
    if plan.data_dir is not None and read_manifest(plan.data_dir).fingerprint != history.search.data.fingerprint:
        what = f"{plan.data} is not the store of the search: it was made anew, or is another one"
        raise SearchError(
            f"--resume {plan.run.name}", what, "Name its own: --data DIR; or start a search of another name"
        )


def _check_data(plan: Plan, store: Store) -> Iterator[str]:
    """Try the recipes of the plan on its data: those of its points, of every fold, and of the refit."""
    for recipe in _recipes(plan.space):
        check_recipe(recipe, store, use_folds=USE_FOLDS)
        yield from (f"{store.folder}: {risk}" for risk in find_risks(recipe, store))
    _check_pictures(plan.space, store.size_px, whose=str(store.folder), nouns=store.manifest.shown.nouns)
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


def _check_pictures(space: Space, size_px: int, *, whose: str, nouns: str) -> None:
    """Try every backbone with every part that may be frozen and every size of the pictures: each may be refused alone.

    Args:
        space: Any.
        size_px: As `check_picture_size`, like the other two.
        whose: The store.
        nouns: Its pictures.
    """
    names = ("backbone", "freeze", "image_size")
    tried = {one.name: values for one in space.parameters if one.name in names and (values := _values_to_try(one))}
    if math.prod(map(len, tried.values())) > MAX_TRIED:
        return  # what is refused then fails its own trials
    first = {parameter.name: parameter.ends()[0] for parameter in space.parameters if parameter.ends()}
    for values in itertools.product(*tried.values()):
        point = {**first, **dict(zip(tried, values, strict=True))}
        check_picture_size(to_recipe(space, point, seed=0), size_px, whose=whose, nouns=nouns)


def _values_to_try(parameter: Parameter) -> tuple[Any, ...]:
    """All values that are listed, or of a range the first two and the last: what takes those takes all multiples."""
    if parameter.kind in ("value", "values"):
        return parameter.values
    count = parameter.num_values or 0
    second = (parameter.value_at(1),) if count > 1 else ()
    return tuple(dict.fromkeys([*second, *parameter.ends()]))


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
    """That this machine has a core and a GPU for each worker; of a cluster that is joined, only the cluster knows."""
    gpus = plan.gpus_per_worker or 0.0
    if (gpus > 1 and gpus != int(gpus)) or 0 < gpus < SMALLEST_SHARE:
        what = "is neither a whole number of GPUs nor a share of one"
        raise SearchError(f"--gpus-per-worker {gpus:g}", what, "Give 1, or a share such as 0.5")
    if plan.address is not None:
        return
    try:
        allocate_here(plan)
    except SearchError:
        if plan.gpus_per_worker == 0 or not any(map(os.path.exists, OTHER_GPUS)):
            raise


def check_variables(wandb: str | None) -> None:
    """That ferray's own variables and W&B's mode can be read, and Ray be imported; each raises its own error.

    Args:
        wandb: The mode that is asked for, in which case the variable does not count.
    """
    if sys.flags.optimize > 1:
        what = "removes docstrings, and Ray cannot be imported without them"
        raise SearchError("python -OO, or PYTHONOPTIMIZE=2,", what, "Leave it out, or use -O")
    wanted_mode(wandb)
    stall_limit_s()
    viewcache.limit_bytes()


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


def _check_cache_folder(plan: Plan) -> None:
    """That the cache can be written, or has all that the plan needs: then one that can only be read will do."""
    if plan.address is not None:  # the disks are those of the nodes
        return
    cache = storage.cache_dir()
    try:
        storage.check_folder(cache, "Name another cache folder with FERRAY_CACHE")
    except StorageError:
        if not has_all_views(plan):
            raise


def _check_cache(plan: Plan, store: Store) -> Iterator[str]:
    """That the frozen layers' output has room on the disk, for all epochs of a trial, or at least in memory for one.

    What has no room on the disk is computed by every trial for itself, in memory; what has to make room for other
    epochs of the trial is computed again by the next trial.
    """
    if plan.address is not None:
        return
    cache = storage.cache_dir()
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
    if plan.seed and plan.space.method == "grid" and any(one.name == "seed" for one in plan.space.parameters):
        yield f"--seed {plan.seed} has no effect: the space has seeds of its own. Leave one of the two out"
    if plan.replaces_weights:
        which = "--weights none, the default with demo faces," if plan.data is None else "--weights none"
        yield f"pretrained weights are asked for, but {which} is for all trials. Give --weights imagenet"
    if (plan.gpus_per_worker or 0) > 1:
        yield f"--gpus-per-worker {plan.gpus_per_worker:g}: a worker trains on one of its GPUs. Give 1"
    if plan.keep == "best-fold" and plan.space.folds == 1:
        yield "--keep best-fold has no effect without folds. Add --folds 5, or leave it out"
