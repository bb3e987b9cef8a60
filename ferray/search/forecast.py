"""Where a plan would run, what of it is in the cache, and how long it would take, without starting anything.

Begin at `make_forecast`.
"""

import json
import os
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferray.data.store.manifest import Manifest, read_manifest
from ferray.errors import FerrayError, RecipeError, SearchError
from ferray.files import storage
from ferray.recipe import NUMBERS_VERSION, Recipe
from ferray.search.expected import epochs_to_come
from ferray.search.fleet.allocation import Allocation, GroupRequest, allocate
from ferray.search.fleet.cluster import Cluster, num_allowed_cores
from ferray.search.pace import Pace, Planned, Prior
from ferray.search.plan import Plan
from ferray.search.rates import (
    Kind,
    Rate,
    faces_of_epoch,
    faces_of_view,
    find_rate,
    read_overhead,
    read_rates,
    view_rate,
)
from ferray.search.work import Work, count_work, max_epochs, num_new_points
from ferray.train.features.cache import view_sizes
from ferray.train.features.key import ViewKey
from ferray.train.folds import TRAIN_AND_VALIDATION
from ferray.versions import altering_libraries, building_library
from ferray.wording import count_of, duration_text

if TYPE_CHECKING:
    from ferray.search.history.recorded import History
    from ferray.search.open import Search

MAX_GPUS = 16
"""GPUs of one machine that are looked for."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What can be said of a plan in advance."""

    workers: str
    """The worker groups, or what they depend on."""
    cache: str
    """The cache folder, and how many of the plan's views are in it."""
    seconds: float | None
    """How long it will take, from the command to its end, as fast as an earlier search on this machine; None without
    one. Which trials are stopped early is left to chance."""
    time: str
    """The same in words, or what it depends on."""
    cost: float | None
    """What that costs; None without a price of an hour."""


def forecast_plan(plan: Plan, history: "History | None" = None) -> Forecast:
    """The forecast of a plan's new points; of a search that is resumed as it was, of as many as have not ended.

    Args:
        plan: What was asked for.
        history: The records of the search that is resumed; None for a new one.
    """
    num_points = num_new_points(plan)
    if history is not None and plan.additions is None and num_points is not None:
        num_points = max(0, num_points - len(history.decisions.ended()) // plan.space.folds)
    num_trials = None if num_points is None else num_points * plan.space.folds + plan.num_final_trials
    return make_forecast(plan, count_work(plan, num_points), num_trials=num_trials)


def has_all_views(plan: Plan) -> bool:
    """Whether the cache has all features that the plan's points need, as far as that is known in advance."""
    cache, work = storage.cache_dir(), count_work(plan, num_new_points(plan))
    manifest = _manifest(plan, cache)
    return work is not None and manifest is not None and _ready_views(plan, cache, work, manifest) == work.views


def make_forecast(plan: Plan, work: Work | None, *, num_trials: int | None) -> Forecast:
    """Say where a plan would run, what is in the cache, and how long it would take.

    Args:
        plan: What was asked for.
        work: Its work; None where that is not known in advance.
        num_trials: Trials to train, those of the finals included; None for no limit.
    """
    cache = storage.cache_dir()
    manifest = _manifest(plan, cache)
    ready: frozenset[ViewKey] = frozenset()
    if work is not None and manifest is not None:
        ready = _ready_views(plan, cache, work, manifest)
    seconds, time = _time(plan, work, ready, manifest, read_rates(cache), num_trials)
    cost = None if seconds is None or plan.price is None else plan.price * seconds / 3600
    return Forecast(
        workers=_workers(plan), cache=_describe_cache(cache, work, ready), seconds=seconds, time=time, cost=cost
    )


def _ready_views(plan: Plan, cache: Path, work: Work, manifest: Manifest) -> frozenset[ViewKey]:
    return ready_views(
        cache,
        manifest,
        work.views,
        has_folds=plan.space.folds > 1,
        trains_unaltered=work.trains_unaltered,
        device=_device(plan),
    )


def ready_views(
    cache: Path,
    manifest: Manifest,
    views: Iterable[ViewKey],
    *,
    has_folds: bool | None = None,
    trains_unaltered: bool | None = None,
    device: str | None = None,
) -> frozenset[ViewKey]:
    """The views that are in the cache for the faces of a store, as this version computes them.

    Which pretrained weights and which precision a search has is not known without reading the weights and asking the
    workers. Views of one device, precision and fingerprint are counted together: those of which the most are there.

    Args:
        cache: The node's cache folder.
        manifest: Of the store.
        views: Those that are wanted.
        has_folds: Whether trials train on folds, whose views span both splits; None if unknown.
        trains_unaltered: Whether a trial trains on unaltered pictures, which are needed for validation in any case;
            None if unknown, which is taken for no where a wanted view is altered.
        device: `cpu` or `cuda`, which computes them; None if unknown.
    """
    found: set[tuple[object, ...]] = set()
    origins: set[tuple[str, str, str]] = set()
    for file in (cache / "views").glob("*/view.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            facts = json.loads(file.read_bytes())
            origin = (str(facts["device"]), str(facts["precision"]), str(facts["weights"]))
            if _is_usable(facts, manifest) and device in (None, origin[0]):
                found.add((*(facts.get(name, 0.0) for name in _PICTURES), facts["split"], *origin))
                origins.add(origin)

    views = frozenset(views)
    if trains_unaltered is None:
        trains_unaltered = all(view.epoch is None for view in views)
    whole_splits = {"train", "validation"} if trains_unaltered else {"validation"}

    def is_ready(view: ViewKey, device: str, precision: str, weights: str) -> bool:
        size = view.image_size or manifest.size_px
        pictures = (view.backbone, view.freeze, size, view.policy, view.strength, view.seed, view.epoch)
        origin = (device, precision if view.precision == "auto" else view.precision, view.weights or weights)

        def has(*spans: str) -> bool:
            return all((*pictures, view.random_erasing, span, *origin) in found for span in spans)

        if has_folds is not False and has(TRAIN_AND_VALIDATION):
            return True
        return has_folds is not True and has(*(whole_splits if view.epoch is None else {"train"}))

    ready = (frozenset(view for view in views if is_ready(view, *origin)) for origin in sorted(origins))
    return max(ready, key=len, default=frozenset())


def make_pace(search: "Search", total: int | None, *, num_groups: int) -> Pace:
    """The pace of a search that begins or goes on, with all that is known of it in advance.

    Args:
        search: The search.
        total: Its trials in all; None if unknown.
        num_groups: Its worker groups.
    """
    plan, manifest = search.plan, search.store.manifest
    work = count_work(plan, num_new_points(plan), recipe_of=search.recipe)
    return Pace(
        total,
        None if work is None else work.views,
        search.history.records,
        find_ready=lambda views: ready_views(storage.cache_dir(), manifest, views),
        planned=plan_epochs(plan, work),
        prior=make_prior(plan, set() if work is None else work.kinds(manifest.size_px), manifest),
        num_groups=num_groups,
    )


_PICTURES = ("backbone", "freeze", "image_size", "policy", "strength", "seed", "epoch", "random_erasing")
"""The facts of a view that say what went through which layers."""


def _is_usable(facts: dict[str, Any], manifest: Manifest) -> bool:
    """Whether a view is of the faces of a store and has the numbers that this version would compute."""
    try:
        libraries = ["" if facts["epoch"] is None else altering_libraries(), building_library(facts["backbone"])]
    except RecipeError:  # of a backbone whose library was removed
        return False
    wanted = (manifest.fingerprint, NUMBERS_VERSION, ", ".join(filter(None, libraries)))
    return (facts["data"], facts["numbers_version"], facts["libraries"]) == wanted


def _manifest(plan: Plan, cache: Path) -> Manifest | None:
    """Of the plan's store; None for demo faces that are not drawn yet."""
    folder = plan.data_dir or max(cache.glob("demo-*/manifest.json"), default=cache / "none").parent
    try:
        return read_manifest(folder)
    except FerrayError:
        return None


def _workers(plan: Plan) -> str:
    if plan.address is not None:
        return f"what the cluster at {plan.address} has room for"
    here = f"this machine: {count_of(num_allowed_cores(), 'CPU')}, {count_of(num_gpus(), 'GPU')}"
    try:
        return f"{allocate_here(plan)} ({here})"
    except SearchError as error:
        return f"do not fit {here}: {error.args[1]}"


def allocate_here(plan: Plan) -> Allocation:
    """The worker groups of a plan on this machine, as far as its resources are known without Ray.

    Ray may count fewer cores, in a container: then it refuses later.

    Raises:
        SearchError: They do not fit; the missing resource is named.
    """
    freeze = next((one.values for one in plan.space.parameters if one.name == "freeze"), (Recipe().freeze,))
    request = GroupRequest(
        workers=plan.workers_per_trial,
        gpus_per_worker=plan.gpus_per_worker,
        num_groups=plan.concurrent_trials,
        heads_only=list(freeze) == ["trunk"],
        num_trials=plan.num_trials,
    )
    return allocate(Cluster(num_allowed_cores(), float(num_gpus()), 1, joined=False), request)


def _device(plan: Plan) -> str | None:
    """The kind of device that computes the views; None for that of a cluster."""
    if plan.address is not None:
        return None
    return "cuda" if (num_gpus() if plan.gpus_per_worker is None else plan.gpus_per_worker) else "cpu"


def num_gpus() -> int:
    """NVIDIA's GPUs that a process here may use; without torch, which takes seconds to load."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return sum(os.path.exists(f"/dev/nvidia{number}") for number in range(MAX_GPUS))


def _describe_cache(cache: Path, work: Work | None, ready: frozenset[ViewKey]) -> str:
    sizes = view_sizes(cache)
    held = f"{cache}: {sum(sizes) / 1e9:.1f} GB in {count_of(len(sizes), 'file')} of features"
    if work is None or not work.views:
        return held
    note = ", if from the same weights" if any(not view.weights for view in ready) else ""
    return f"{held}; of the {count_of(len(work.views), 'view')} that this needs, {len(ready)} are there{note}"


def plan_epochs(plan: Plan, work: Work | None) -> Planned:
    """The epochs of a plan, those of the finals included, by what the time of each depends on."""
    longest, num_final = max_epochs(plan), plan.num_final_trials + plan.num_completions
    epochs = None
    if work is not None and work.epochs:
        # Which points go to the finals is not known: their epochs are taken for a mixture like that of all.
        share = num_final * longest / sum(work.epochs.values())
        epochs = {kind: num * (plan.space.folds + share) for kind, num in work.epochs.items()}
    return Planned(epochs=epochs, max_epochs=longest, num_final=num_final, halving=plan.space.early_terminate)


def make_prior(plan: Plan, kinds: Set[Kind], manifest: Manifest) -> Prior:
    """What earlier searches on this machine say of one, whose trials are of these kinds, on a store."""
    cache = storage.cache_dir()
    rates, overhead = read_rates(cache), read_overhead(cache)
    end_s = 0.0 if overhead is None else overhead.end_s
    if len(kinds) != 1 or plan.address is not None:
        return Prior(end_s=end_s)
    (kind,) = kinds
    rate, view_faces_per_s = find_rate(rates, kind), view_rate(rates, kind)
    return Prior(
        epoch_s=None if rate is None else faces_of_epoch(manifest, plan.space.folds) / rate.epoch_faces_per_s,
        is_like=rate is not None and rate.kind == kind,
        view_s=None if view_faces_per_s is None else faces_of_view(manifest) / view_faces_per_s,
        end_s=end_s,
    )


def _time(
    plan: Plan,
    work: Work | None,
    ready: frozenset[ViewKey],
    manifest: Manifest | None,
    rates: dict[Kind, Rate],
    num_trials: int | None,
) -> tuple[float | None, str]:
    """The fields `seconds` and `time` of a forecast."""
    unknown = "not known in advance: "
    if work is None or num_trials is None or manifest is None:
        missing = "the demo faces are not drawn yet" if manifest is None else "the points are not"
        return None, f"{unknown}{missing}"
    kinds = work.kinds(manifest.size_px)
    if not kinds and plan.num_final_trials:
        return None, f"{unknown}every point is on record, and the finals may be, too"
    if not kinds:
        return 0.0, "none: there is nothing to train"
    if len(kinds) != 1:
        return None, f"{unknown}trials with different frozen layers or sizes take different times"
    (kind,) = kinds
    prior, missing_views = make_prior(plan, kinds, manifest), len(work.views - ready)
    trunk = f"{kind.backbone}, freeze {kind.freeze}, {kind.image_size} px"
    if prior.epoch_s is None:
        most = f"; most of it is {count_of(missing_views, 'pass', 'passes')} of the trunk" if missing_views else ""
        name = f"{trunk}, {_describe_batches(kind.batch_sizes)}"
        return None, f"{unknown}no search on this machine has measured {name}{most}"
    if missing_views and prior.view_s is None:
        return None, f"{unknown}no search on this machine has computed features of {trunk}"
    planned = plan_epochs(plan, work)
    all_epochs = num_epochs = sum((planned.epochs or {}).values())
    if planned.halving is not None:
        num_final_epochs = planned.num_final * planned.max_epochs
        num_search = num_trials - plan.num_final_trials
        num_epochs = num_final_epochs + epochs_to_come(num_search, planned.max_epochs, planned.halving)
    overhead = read_overhead(storage.cache_dir())
    views_s = missing_views * (prior.view_s or 0.0)
    start_s = 0.0 if overhead is None else overhead.start_s
    total = start_s + views_s + num_epochs * prior.epoch_s + prior.end_s
    parts = [f"{count_of(round(num_epochs), 'epoch')} {duration_text(num_epochs * prior.epoch_s)}"]
    parts += [f"features {duration_text(views_s)}"] if missing_views else []
    parts += [f"start and end {duration_text(start_s + prior.end_s)}"] if overhead is not None else []
    most_s = total + (all_epochs - num_epochs) * prior.epoch_s
    bound = f", {duration_text(most_s)} if no trial is stopped" if num_epochs < all_epochs else ""
    rate = find_rate(rates, kind)
    assert rate is not None, "its epochs have a time"
    return total, f"about {duration_text(total)}{bound} ({', '.join(parts)}), by search {rate.search}, {rate.groups}"


def _describe_batches(sizes: Sequence[int]) -> str:
    """The batch sizes of a plan: all of a few, of many the ends."""
    listed = " and ".join(map(str, sizes)) if len(sizes) < 4 else f"{len(sizes)} sizes from {sizes[0]} to {sizes[-1]}"
    return f"batches of {listed}"
