"""A plan that cannot be carried out is refused by `--dry-run` too, and what it would do in vain is named."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fixtures.data import write_store_of

from ferray.commands.search import main
from ferray.data.store.reader import Store
from ferray.model.backbones import BACKBONES
from ferray.search import preflight
from ferray.search.options import SearchOptions
from ferray.search.plan import Plan, make_plan

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  dropout: {values: [0.0, 0.5]}
  batch_size: {value: 4}
"""
FULL = (2,) * 7


@pytest.fixture
def space(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(SPACE)
    return file


@pytest.fixture
def half_store(tmp_path: Path) -> Store:
    """Split 80/0/20, as in the published search: without validation faces."""
    return write_store_of(tmp_path / "half", ((8,) * 7, (0,) * 7, FULL), dataset="expw", split=(0.8, 0.0, 0.2))


def dry_run(capsys: pytest.CaptureFixture[str], space: Path, *options: str, code: int = 0) -> str:
    """What a dry run says on stderr."""
    out = str(space.parent / "runs")
    assert main(["--space", str(space), "--weights", "none", "--out", out, *options, "--dry-run"]) == code
    return capsys.readouterr().err


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_store_without_validation_faces_is_refused_and_each_way_out_is_accepted(
    space: Path, half_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(half_store.folder))
    err = dry_run(capsys, space, *data, code=2)
    assert "has no validation faces" in err
    assert "--folds 5 --keep best-fold" in err
    assert "ferray.data prepare expw" in err

    err = dry_run(capsys, space, *data, "--folds", "5", code=2)
    assert "has no validation faces, which training the winner once more needs" in err
    assert "--keep best-fold" in err
    assert "error" not in dry_run(capsys, space, *data, "--folds", "5", "--keep", "best-fold")


def test_the_search_itself_refuses_before_ray_is_loaded(space: Path, half_store: Store, tmp_path: Path) -> None:
    code = (
        "import sys; from ferray.commands.search import main; "
        f"assert main(['--space', {str(space)!r}, '--data', {str(half_store.folder)!r}, '--weights', 'none', "
        f"'--out', {str(tmp_path / 'runs')!r}]) == 2; "
        "assert not {'torch', 'ray', 'wandb', 'albumentations', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_on_real_data_loads_no_torch_and_no_ray(space: Path, tiny_store: Store) -> None:
    code = (
        "import sys; from ferray.commands.search import main; "
        f"assert main(['--space', {str(space)!r}, '--data', {str(tiny_store.folder)!r}, '--folds', '3', "
        "'--dry-run']) == 0; "
        "assert not {'torch', 'ray', 'wandb', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--workers-per-trial", "4096"], "need 4096 CPUs, but this machine has"),
        (["--concurrent-trials", "4096", "--workers-per-trial", "2"], "4096 x 2 workers"),
        (
            ["--set", "seed=[0,2147483646]", "--replicates", "3"],
            "--replicates 3: the finals need seeds up to 2147483648",
        ),
        (["--gpus-per-worker", "65536"], "--gpus-per-worker: 65536 is not in"),
        (["--gpus-per-worker", "1.5"], "--gpus-per-worker 1.5: is neither a whole number of GPUs nor a share of one"),
        (["--gpus-per-worker", "0.00001"], "--gpus-per-worker 1e-05: is neither"),
        (["--folds", "100"], "63 photographs to train and validate with cannot be divided into 100 folds"),
    ],
)
def test_a_request_that_would_fail_later_is_refused(
    options: list[str], words: str, space: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in dry_run(capsys, space, "--data", str(tiny_store.folder), *options, code=2)


def test_gpus_that_this_machine_lacks_are_refused_unless_they_are_of_another_make(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    err = dry_run(capsys, space, "--gpus-per-worker", "1", code=2)
    assert "need 1 GPUs, but this machine has 0" in err
    assert "--gpus-per-worker (0 trains on CPUs)" in err
    monkeypatch.setattr(preflight, "OTHER_GPUS", (str(tmp_path),))
    dry_run(capsys, space, "--gpus-per-worker", "1")


def test_cores_that_this_process_may_not_use_are_not_counted(
    space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    err = dry_run(capsys, space, "--concurrent-trials", "2", code=2)
    assert "need 2 CPUs, but this machine has 1" in err


def test_what_a_cluster_has_is_not_known_here(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "error" not in dry_run(capsys, space, "--workers-per-trial", "4096", "--address", "auto")


def test_one_file_of_weights_is_not_for_two_backbones(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vgg16.safetensors").touch()
    weights = ("--weights", str(tmp_path / "vgg16.safetensors"))
    err = dry_run(capsys, space, *weights, "--set", "backbone=[vgg16,vgg16_bn]", code=2)
    assert "one file, but the space asks for 2 backbones, vgg16, vgg16_bn" in err
    assert "--set backbone=vgg16" in err


def write_header(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in shapes.items()}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)


def test_a_dry_run_names_the_weights_that_a_folder_lacks_and_a_search_is_refused(
    space: Path, tmp_path: Path, tiny_store: Store, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    write_header(folder / "vgg16.safetensors", BACKBONES["vgg16"].tensor_shapes())
    weights = ("--weights", str(folder), "--set", "backbone=[vgg16,resnet18,swin_t]")
    dry_run(capsys, space, *weights)
    assert "has no file of weights for resnet18, swin_t" in caplog.text
    assert "--set backbone=[vgg16]" in caplog.text

    options = ["--space", str(space), *weights, "--data", str(tiny_store.folder), "--out", str(tmp_path)]
    assert main(options) == 2
    assert "has no file of weights for resnet18, swin_t" in capsys.readouterr().err


def test_a_file_of_another_backbone_in_a_folder_is_refused_by_its_numbers(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_header(tmp_path / "resnet18.safetensors", {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512)})
    err = dry_run(capsys, space, "--weights", str(tmp_path), "--set", "backbone=resnet18", code=2)
    assert "not the weights of resnet18: 1 tensors of 9,408 numbers, not 100 of 11,186,112" in err


@pytest.mark.parametrize(
    "settings, words",
    [
        (["backbone=vit_b_16", "image_size=72"], "pictures of 72 pixels, but vit_b_16 takes multiples of 16 alone"),
        (["backbone=timm/tf_efficientnet_lite0", "freeze=blocks1-4"], "is not cut into blocks"),
        (["backbone=timm/no_such_model"], "timm has no such model"),
        # One value of several, alone or beside one of another setting:
        (["backbone=vit_b_16", "image_size=[32, 40, 64]"], "pictures of 40 pixels"),
        (["backbone=[vgg16, vit_b_16]", "image_size=[null, 40, 64]"], "pictures of 40 pixels"),
        (["backbone=[vgg16, vit_b_16]", "image_size={min: 32, max: 64}"], "pictures of 33 pixels"),
        (["backbone=[vgg16, timm/tf_efficientnet_lite0]", "freeze=[trunk, blocks1-4]"], "is not cut into blocks"),
    ],
)
def test_what_a_backbone_cannot_do_is_refused(
    settings: list[str], words: str, space: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--weights", "imagenet", "--data", str(tiny_store.folder)]
    assert words in dry_run(capsys, space, *options, code=2)


def test_demo_faces_are_pictures_of_a_size_too(space: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = "image_size={distribution: q_uniform, min: 32, max: 64, q: %s}"
    backbone = ("--set", "backbone=[vgg16, vit_b_16]")
    assert "pictures of 40 pixels" in dry_run(capsys, space, *backbone, "--set", sizes % 8, code=2)
    dry_run(capsys, space, *backbone, "--set", sizes % 16)


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({"features.0.weight": (64, 3, 3, 3)}, "not the weights of vgg16: features.0.bias is missing"),
        (
            dict.fromkeys(BACKBONES["vgg16_bn"].tensor_shapes(), (2,)),
            "not the weights of vgg16: features.2.weight is missing",
        ),
        ({**BACKBONES["vgg16"].tensor_shapes(), "features.0.bias": (1,)}, "features.0.bias has shape (1,), not (64,)"),
        (None, "cannot be read as weights"),
        (BACKBONES["vgg16"].tensor_shapes() | {"classifier.0.weight": (7, 7)}, ""),
    ],
)
def test_a_file_of_weights_must_have_the_tensors_of_the_backbone(
    tensors: dict[str, tuple[int, ...]] | None,
    words: str,
    space: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "vgg16.safetensors"
    header = json.dumps({name: {"dtype": "F16", "shape": shape} for name, shape in (tensors or {}).items()}).encode()
    file.write_bytes(b"no weights at all" if tensors is None else len(header).to_bytes(8, "little") + header)
    assert words in dry_run(capsys, space, "--weights", str(file), code=2 if words else 0)


def test_a_broken_store_is_refused(space: Path, half_store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (half_store.folder / "faces.npy").unlink()
    assert "a broken store" in dry_run(capsys, space, "--data", str(half_store.folder), code=2)


@pytest.mark.parametrize("variable", ["FERRAY_CACHE", None])
def test_a_folder_that_cannot_be_made_is_refused(
    variable: str | None,
    space: Path,
    tiny_store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = str(space / "below")
    if variable is None:
        options = ["--out", place]
    else:
        monkeypatch.setenv(variable, place)
        options = []
    err = dry_run(capsys, space, "--data", str(tiny_store.folder), *options, code=2)
    assert f"{space} is a file" in err
    assert (variable or "--out") in err


@pytest.mark.parametrize("variable", ["FERRAY_STALL_S", "FERRAY_CACHE_GB", "FERRAY_CACHE", "WANDB_MODE"])
def test_a_variable_that_says_nothing_is_refused_also_with_demo_faces(
    variable: str, space: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(space))  # a file, no number
    assert variable in dry_run(capsys, space, code=2)


def test_a_python_that_cannot_import_ray_is_refused(space: Path) -> None:
    asked = ["-m", "ferray.search", "--space", str(space), "--dry-run"]
    for options, code in ((["-OO"], 2), (["-O"], 0)):
        done = subprocess.run([sys.executable, *options, *asked], timeout=60, capture_output=True, text=True)
        assert (done.returncode, "PYTHONOPTIMIZE=2" in done.stderr) == (code, code == 2), done.stderr


def test_a_cache_without_room_is_named_and_refused_where_the_memory_is_too_small_as_well(
    space: Path,
    tiny_store: Store,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = ("--data", str(tiny_store.folder))
    dry_run(capsys, space, *data)
    assert warned(caplog) == []

    monkeypatch.setenv("FERRAY_CACHE_GB", "0.00001")
    dry_run(capsys, space, *data)
    assert "output for all faces takes 4.3e-05 GB, and there is room for 1e-05 GB: every trial computes" in caplog.text
    caplog.clear()
    monkeypatch.setenv("FERRAY_CACHE_GB", "0.0001")
    dry_run(capsys, space, *data)
    assert warned(caplog) == []
    altered = ("--set", "augmentation=light", "--set", "augmentation_views=3")
    dry_run(capsys, space, *data, *altered)
    assert "for all epochs of a trial takes 0.000172 GB, and there is room for 0.0001 GB: each trial" in caplog.text
    monkeypatch.setenv("FERRAY_CACHE_GB", "0.00001")
    caplog.clear()
    dry_run(capsys, space, *data, "--set", "freeze=none", "--set", "weights=none")
    assert warned(caplog) == [], "nothing is cached"

    monkeypatch.setattr(os, "sysconf", lambda name: 1)
    assert "GB of memory" in dry_run(capsys, space, *data, code=2)
    monkeypatch.setenv("FERRAY_CACHE_GB", "much")
    assert "'much' is not a size" in dry_run(capsys, space, *data, code=2)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--set", "batch_size=[4,64]"], "batch_size 64: more than the 42 training faces"),
        (["--set", "head_pooling=[average,flatten]"], "head_pooling varies without effect: pictures of 32 pixels"),
        (["--set", "optimizer=adam", "--set", "momentum=[0.8,0.9]"], "momentum varies without effect"),
        (["--max-trials", "1"], "only the first 1 of the grid's 2 points, in the file's order: dropout 0.0 of 2"),
        (["--finalists", "5"], "--finalists 5 has no effect without finals"),
        (["--keep", "best-fold"], "--keep best-fold has no effect without folds"),
        (["--seed", "3", "--set", "seed=[1, 2]"], "--seed 3 has no effect: the space has seeds of its own"),
        (["--gpus-per-worker", "2", "--address", "auto"], "--gpus-per-worker 2: a worker trains on one of its GPUs"),
    ],
)
def test_what_is_done_in_vain_is_said_once_in_the_plan(
    options: list[str],
    words: str,
    space: Path,
    tiny_store: Store,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dry_run(capsys, space, "--data", str(tiny_store.folder), *options)
    assert [words in line for line in warned(caplog)] == [True]


@pytest.mark.parametrize(
    "options, warns",
    [
        (["--set", "weights=pretrained"], True),
        (["--set", "weights=[pretrained, none]"], True),
        (["--set", "weights={values: [pretrained, none]}"], True),
        (["--set", "weights={value: pretrained}"], True),
        (["--set", "weights=none"], False),
        ([], False),
    ],
)
def test_pretrained_weights_that_are_replaced_by_none_are_named(
    options: list[str], warns: bool, space: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    dry_run(capsys, space, *options)
    words = "pretrained weights are asked for, but --weights none, the default with demo faces, is for all trials"
    assert [words in line for line in warned(caplog)] == [True] * warns
    caplog.clear()
    space.write_text(f"{SPACE}  weights: {{value: pretrained}}\n")
    dry_run(capsys, space, *([] if warns else options))
    assert len(warned(caplog)) == (not options or warns)


def test_a_plan_of_which_no_trial_has_pretrained_weights_fetches_none(space: Path, tiny_store: Store) -> None:
    def plan(*settings: str, **options: Any) -> Plan:
        return make_plan(SearchOptions(space=str(space), data=str(tiny_store.folder), settings=settings, **options))

    assert plan("weights=none").weights == plan("weights=none").weights_path == "none"
    assert plan("weights=[none]").weights == "none"
    assert plan("weights=[none, pretrained]").weights == plan().weights == "imagenet"
    assert plan("weights=none", weights="imagenet").weights == "imagenet"


def test_a_seed_that_the_records_do_not_take_is_refused_when_it_is_parsed(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", str(space), "--seed", "1000000001", "--dry-run"]) == 2
    assert "--seed: 1000000001 is not in 0 .. 1000000000" in capsys.readouterr().err


def test_votes_are_refused_where_there_are_none_also_where_one_trial_of_several_asks_for_them(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store_of(tmp_path / "labels", (FULL, FULL, FULL))

    for data in (("--data", str(store.folder)), ()):
        err = dry_run(capsys, space, *data, "--set", "targets=[labels, votes]", code=2)
        assert "labels alone, and no votes" in err
        assert "--ferplus fer2013new.csv" in err
        assert "no votes" not in dry_run(capsys, space, *data, "--set", "targets=[labels]")
