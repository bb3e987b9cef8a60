"""What a plan says in advance: where, what is in the cache, how long."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferray.data.store.reader import Store
from ferray.errors import StorageError
from ferray.recipe import NUMBERS_VERSION, Recipe
from ferray.search.dry_run import describe_plan, plan_to_json
from ferray.search.expected import epochs_to_come
from ferray.search.first_lines import first_lines
from ferray.search.forecast import Forecast, forecast_plan, make_forecast, ready_views
from ferray.search.options import SearchOptions
from ferray.search.plan import Plan, make_plan
from ferray.search.preflight import check_plan
from ferray.search.rates import Overhead, Rate, note_overhead, note_rate, note_rate_of, read_overhead, read_rates
from ferray.search.work import count_work
from ferray.train.features.view import View, view_folder
from ferray.versions import altering_libraries
from ferray.wording import duration_text

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  augmentation_views: {value: 1}
  learning_rate: {values: [0.01, 0.001, 0.0001]}
  epochs: {value: 4}
"""
RATE = Rate(
    backbone="vgg16", freeze="trunk", image_size=32, batch_sizes=(32,), search="first", groups="2 worker groups",
    epoch_faces_per_s=100.0,
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("FERRAY_CACHE", str(folder))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return folder


def plan_of(folder: Path, store: Store, space: str, **options: Any) -> Plan:
    file = folder / "space.yaml"
    file.write_text(space)
    asked = {"space": str(file), "data": str(store.folder), "weights": "none", "out": str(folder)}
    return make_plan(SearchOptions(**asked | options))


@pytest.fixture
def plan(tmp_path: Path, tiny_store: Store) -> Plan:
    return plan_of(tmp_path, tiny_store, SPACE)


def forecast(plan: Plan) -> Forecast:
    return make_forecast(plan, count_work(plan, plan.num_points), num_trials=plan.num_trials)


def put_view(cache: Path, plan: Plan, store: Store, *, altered: bool, **changes: Any) -> None:
    """Leave a view in the cache as training does, of each span that is trained on or validated with."""
    work = count_work(plan, plan.num_points)
    assert work is not None
    key = next(key for key in work.views if (key.epoch is not None) is altered)
    values = {"image_size": store.size_px, "precision": "float32", "device": "cpu", "data": store.fingerprint}
    libraries = altering_libraries() if altered else ""
    for span in changes.pop("spans", ("train",) if altered else ("train", "validation")):
        view = View(**key._asdict() | values | {"split": span, "libraries": libraries} | changes)
        folder = view_folder(view, cache)
        folder.mkdir(parents=True)
        (folder / "view.json").write_text(json.dumps(dataclasses.asdict(view)))
        (folder / "features.npy").write_bytes(b"0" * 1000)


def test_without_a_rate_the_time_says_what_it_depends_on(cache: Path, plan: Plan) -> None:
    said = forecast(plan)

    assert said.seconds is None
    what = "no search on this machine has measured vgg16, freeze trunk, 32 px, batches of 32"
    assert said.time == f"not known in advance: {what}; most of it is 2 passes of the trunk"
    note_rate(cache, RATE)
    assert "has computed features of vgg16, freeze trunk, 32 px" in forecast(plan).time


def test_a_measured_rate_gives_the_time_and_views_in_the_cache_cost_none(
    cache: Path, plan: Plan, tiny_store: Store
) -> None:
    note_rate(cache, dataclasses.replace(RATE, view_faces_per_s=2.0))
    counts = {split: sum(faces.values()) for split, faces in tiny_store.manifest.counts.items()}
    epochs_s = 6 * 4 * counts["train"] / 100
    view_s = (counts["train"] + counts["validation"]) / 2
    for num_ready, altered in ((0, False), (1, True)):
        said = forecast(plan)
        assert said.seconds == pytest.approx(epochs_s + (2 - num_ready) * view_s)
        assert said.time.startswith(
            f"about {duration_text(said.seconds)} (24 epochs {duration_text(epochs_s)}, features "
        )
        assert said.time.endswith("), by search first, 2 worker groups")
        assert f"of the 2 views that this needs, {num_ready} are there" in said.cache
        put_view(cache, plan, tiny_store, altered=altered)
    assert forecast(plan).seconds == pytest.approx(epochs_s)


def test_a_view_of_other_faces_or_a_damaged_file_is_not_taken_for_one(
    cache: Path, plan: Plan, tiny_store: Store
) -> None:
    put_view(cache, plan, tiny_store, altered=True)
    work = count_work(plan, plan.num_points)
    assert work is not None
    assert len(ready_views(cache, tiny_store.manifest, work.views)) == 1
    other = dataclasses.replace(tiny_store.manifest, fingerprint="0" * 64)
    assert not ready_views(cache, other, work.views)
    for file in (cache / "views").glob("*/view.json"):
        file.write_text("[" * 100_000)
    assert not ready_views(cache, tiny_store.manifest, work.views)


def test_a_cache_that_can_only_be_read_will_do_for_a_plan_whose_views_are_in_it(
    cache: Path, plan: Plan, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != cache and access(path, mode))
    for altered in (False, True):
        with pytest.raises(StorageError, match="cannot be written"):
            check_plan(plan)
        put_view(cache, plan, tiny_store, altered=altered)
    check_plan(plan)


def num_ready(plan: Plan) -> int:
    """The views that a plan is said to find in the cache."""
    work = count_work(plan, plan.num_points)
    assert work is not None
    found = re.search(rf"of the {len(work.views)} views? that this needs, (\d+) (is|are) there", forecast(plan).cache)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    "altered, changes",
    [
        (False, {"numbers_version": NUMBERS_VERSION - 1}),
        (True, {"libraries": "albumentations 1.3, OpenCV 4"}),
        (True, {"device": "cuda"}),
        (True, {"random_erasing": 0.5}),
        (False, {"weights": "none, zero-mean filters, seed 99"}),
        (False, {"spans": ("validation",)}),
        (False, {"spans": ("train+validation",)}),
    ],
)
def test_a_view_that_this_version_would_compute_again_is_not_counted(
    altered: bool, changes: dict[str, Any], cache: Path, plan: Plan, tiny_store: Store
) -> None:
    put_view(cache, plan, tiny_store, altered=altered, **changes)
    assert num_ready(plan) == 0
    if "spans" not in changes:
        put_view(cache, plan, tiny_store, altered=altered)
    assert num_ready(plan) == ("spans" not in changes)


def test_where_all_pictures_are_altered_the_unaltered_view_is_of_the_validation_faces_alone(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    plan = plan_of(tmp_path, tiny_store, SPACE.replace("[none, light]", "[light]"))
    put_view(cache, plan, tiny_store, altered=False, spans=("validation",))
    assert num_ready(plan) == 1
    work = count_work(plan, plan.num_points)
    assert work is not None
    assert len(ready_views(cache, tiny_store.manifest, work.views)) == 1  # as a search asks


def test_folds_read_views_of_both_splits_together(cache: Path, tmp_path: Path, tiny_store: Store) -> None:
    plan = plan_of(tmp_path, tiny_store, SPACE, settings=("folds=3",))
    put_view(cache, plan, tiny_store, altered=False)
    assert num_ready(plan) == 0
    put_view(cache, plan, tiny_store, altered=False, spans=("train+validation",))
    assert num_ready(plan) == 1


def test_views_of_two_sets_of_weights_are_not_added_up(cache: Path, tmp_path: Path, tiny_store: Store) -> None:
    file = tmp_path / "trunk.safetensors"
    file.write_bytes(b"weights")
    plan = plan_of(tmp_path, tiny_store, SPACE, weights=str(file))
    for altered, weights in ((False, "a" * 64), (True, "b" * 64)):
        put_view(cache, plan, tiny_store, altered=altered, weights=weights)
    assert "of the 2 views that this needs, 1 are there, if from the same weights" in forecast(plan).cache
    put_view(cache, plan, tiny_store, altered=True, weights="a" * 64)
    assert num_ready(plan) == 2


def test_a_search_with_halving_has_a_rate_of_its_own_and_until_then_that_of_one_without(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    halving = SPACE + "early_terminate: {type: hyperband, min_iter: 4, eta: 2}\n"
    plan = plan_of(tmp_path, tiny_store, halving, settings=("augmentation=none",))
    put_view(cache, plan, tiny_store, altered=False)
    epochs = 3 * 4 * tiny_store.manifest.split_sizes["train"]
    note_rate(cache, RATE)
    assert forecast(plan).seconds == pytest.approx(epochs / 100)
    note_rate(cache, dataclasses.replace(RATE, epoch_faces_per_s=50.0, halving=True))
    assert forecast(plan).seconds == pytest.approx(epochs / 50)
    assert forecast(plan_of(tmp_path, tiny_store, SPACE, settings=("augmentation=none",))).seconds == pytest.approx(
        epochs / 100
    )


def test_a_rate_is_kept_by_kind_and_survives_a_damaged_file(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    note_rate(cache, dataclasses.replace(RATE, view_faces_per_s=2.0))
    note_rate(cache, dataclasses.replace(RATE, search="second", epoch_faces_per_s=50.0))
    note_rate(cache, dataclasses.replace(RATE, freeze="none"))
    rates = read_rates(cache)
    assert len(rates) == 2
    assert rates[RATE.kind] == dataclasses.replace(RATE, search="second", epoch_faces_per_s=50.0, view_faces_per_s=2.0)
    for damaged in ("[{}]", '[{"epoch_faces_per_s": -1}]', "[" * 100_000, "no"):
        (cache / "rates.json").write_text(damaged)
        assert read_rates(cache) == {}
        assert "not used" in caplog.text
        caplog.clear()


def test_an_epoch_of_a_fold_has_the_faces_of_the_other_folds(
    cache: Path, tmp_path: Path, tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that is measured with folds is one of faces, and both searches take the time that was measured."""
    plan = plan_of(tmp_path, tiny_store, SPACE, settings=("folds=4", "augmentation=none"))
    sizes = tiny_store.manifest.split_sizes
    num_faces = (sizes["train"] + sizes["validation"]) * 3 / 4
    assert num_faces != sizes["train"]
    pace: Any = SimpleNamespace(rates=lambda: (0.5, None), recipes={Recipe(image_size=tiny_store.size_px)})
    note_rate_of(SimpleNamespace(plan=plan, store=tiny_store), pace, "1 worker group")  # type: ignore[arg-type]
    (rate,) = read_rates(cache).values()
    assert rate.epoch_faces_per_s == pytest.approx(num_faces / 0.5)

    put_view(cache, plan, tiny_store, altered=False, spans=("train+validation",))
    num_epochs = (3 * 4 + 1) * 4  # of 3 points, and the refit
    assert make_forecast(plan, count_work(plan, 3), num_trials=3 * 4 + 1).seconds == pytest.approx(num_epochs * 0.5)


def test_the_workers_are_those_that_the_search_would_start(
    cache: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert forecast(plan).workers == "4 worker groups of 1 worker, 1 CPU each (this machine: 4 CPUs, 0 GPUs)"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert forecast(plan).workers.startswith("2 worker groups of 1 worker, 1 GPU and 2 CPU each")
    too_many = dataclasses.replace(plan, concurrent_trials=9)
    assert forecast(too_many).workers.startswith("do not fit this machine: 4 CPUs, 2 GPUs")
    assert forecast(dataclasses.replace(plan, address="auto")).workers == "what the cluster at auto has room for"


@pytest.mark.parametrize(
    "seconds, text", [(0.2, "1 s"), (59, "59 s"), (303, "5:03 min"), (725, "12 min"), (3900, "1 h 05 min")]
)
def test_times_are_written_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_a_rate_is_that_of_its_batch_sizes_alone_and_features_have_no_batch_size(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    space = SPACE.replace("[none, light]", "[none]")
    plans = {
        sizes: plan_of(tmp_path, tiny_store, space, settings=(f"batch_size=[{', '.join(map(str, sizes))}]",))
        for sizes in ((8,), (64,), (8, 64))
    }
    note_rate(cache, dataclasses.replace(RATE, batch_sizes=(8,), view_faces_per_s=2.0))
    note_rate(cache, dataclasses.replace(RATE, batch_sizes=(64,), epoch_faces_per_s=400.0))
    sizes = tiny_store.manifest.split_sizes
    view_s = (sizes["train"] + sizes["validation"]) / 2.0
    for batch_sizes, faces_per_s in (((8,), 100.0), ((64,), 400.0)):
        epochs_s = 3 * 4 * sizes["train"] / faces_per_s
        assert forecast(plans[batch_sizes]).seconds == pytest.approx(epochs_s + view_s)
    assert "has measured vgg16, freeze trunk, 32 px, batches of 8 and 64" in forecast(plans[8, 64]).time

    recipes = {Recipe(image_size=32, batch_size=size) for size in (64, 8)}
    pace: Any = SimpleNamespace(rates=lambda: (0.5, None), recipes=recipes)
    note_rate_of(SimpleNamespace(plan=plans[8, 64], store=tiny_store), pace, "1 worker group")  # type: ignore[arg-type]
    assert forecast(plans[8, 64]).seconds == pytest.approx(6 * 4 * 0.5 + view_s)


def test_a_rate_of_an_earlier_version_which_mixed_batch_sizes_is_that_of_no_plan(cache: Path, plan: Plan) -> None:
    note_rate(cache, RATE)
    rates = json.loads((cache / "rates.json").read_text())
    del rates[0]["batch_sizes"]
    (cache / "rates.json").write_text(json.dumps(rates))
    assert forecast(plan).seconds is None


def test_the_time_of_a_search_has_its_start_and_its_end_and_a_price_makes_it_a_cost(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    plan = plan_of(tmp_path, tiny_store, SPACE, settings=("augmentation=none",), price=7.2)
    put_view(cache, plan, tiny_store, altered=False)
    note_rate(cache, RATE)
    without = forecast(plan)
    note_overhead(cache, Overhead(start_s=15.0, end_s=5.0))
    with_overhead = forecast(plan)

    assert without.seconds is not None
    assert with_overhead.seconds == pytest.approx(without.seconds + 20)
    assert "start and end 20 s" in with_overhead.time
    assert with_overhead.cost == pytest.approx(7.2 * with_overhead.seconds / 3600)
    assert f"cost      about {with_overhead.cost:.2f}, at 7.2 an hour" in list(describe_plan(plan))
    assert plan_to_json(plan)["cost"] == with_overhead.cost


def test_trials_that_halving_stops_are_expected_and_the_time_without_it_is_the_bound(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    space = "run_cap: 30\nearly_terminate: {type: hyperband, min_iter: 1, eta: 3}\n" + SPACE.replace("grid", "random")
    plan = plan_of(
        tmp_path, tiny_store, space, settings=("augmentation=none", "epochs=9", "dropout={min: 0.0, max: 0.5}")
    )
    put_view(cache, plan, tiny_store, altered=False)
    note_rate(cache, RATE)
    said = forecast(plan)
    faces = tiny_store.manifest.split_sizes["train"]
    assert said.seconds == pytest.approx(epochs_to_come(30, 9, plan.space.early_terminate) * faces / 100)
    assert f", {duration_text(30 * 9 * faces / 100)} if no trial is stopped" in said.time


def test_what_searches_take_besides_their_trials_is_the_mean_of_the_last_and_those_before(cache: Path) -> None:
    assert read_overhead(cache) is None
    note_overhead(cache, Overhead(start_s=10.0, end_s=4.0))
    note_overhead(cache, Overhead(start_s=20.0, end_s=8.0))
    assert read_overhead(cache) == Overhead(start_s=15.0, end_s=6.0)
    (cache / "overhead.json").write_text('{"start_s": -1}')
    assert read_overhead(cache) is None
    (cache / "overhead.json").write_text("[" * 100_000)
    assert read_overhead(cache) is None


def test_the_first_lines_of_a_search_say_how_long_it_takes_and_what_that_costs(
    cache: Path, tmp_path: Path, tiny_store: Store
) -> None:
    plan = plan_of(tmp_path, tiny_store, SPACE, settings=("augmentation=none",), price=3.0)
    put_view(cache, plan, tiny_store, altered=False)
    note_rate(cache, RATE)
    found = forecast_plan(plan)
    lines = list(first_lines(plan, tiny_store, found))
    assert lines[-2] == f"time: {found.time}"
    assert lines[-1] == f"cost: about {found.cost:.2f}, at 3 an hour"
    assert any("of the 1 view that this needs, 1 are there" in line for line in lines)


def test_a_search_that_goes_on_takes_as_long_as_what_is_left(cache: Path, plan: Plan, tiny_store: Store) -> None:
    note_rate(cache, dataclasses.replace(RATE, view_faces_per_s=2.0))
    for altered in (False, True):
        put_view(cache, plan, tiny_store, altered=altered)
    epoch_s = tiny_store.manifest.split_sizes["train"] / 100
    for num_ended, seconds in ((0, 24 * epoch_s), (4, 8 * epoch_s), (6, 0.0)):
        history: Any = SimpleNamespace(decisions=SimpleNamespace(ended=lambda num=num_ended: [None] * num))
        assert forecast_plan(plan, history).seconds == pytest.approx(seconds)
    assert forecast_plan(plan, history).time == "none: there is nothing to train"
    with_finals = dataclasses.replace(plan, replicates=2)
    assert forecast_plan(with_finals, history).seconds is None
    assert "the finals may be, too" in forecast_plan(with_finals, history).time
