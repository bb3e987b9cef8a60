"""Promises of `ferray fit`: what is chosen, what is refused, and that it goes on; without Ray."""

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fixtures.history import make_search_file
from hypothesis import given
from hypothesis import strategies as st

import ferray
from ferray.api import choices, folder
from ferray.api.choices import SIZES_PX, backbone_of_space, check_enough, choose_size, find_split
from ferray.commands import fit
from ferray.commands.fit import main
from ferray.data.sources.folders import read_folders
from ferray.errors import DataError, FerrayError
from ferray.files import storage
from ferray.model.weights import load_weights
from ferray.records.run import Run
from ferray.search.options import SearchOptions
from ferray.search.plan import make_plan
from ferray.search.preflight import check_plan


def write_pictures(root: Path, counts: dict[str, int], *, side: int = 40) -> Path:
    random = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(root / name / f"{number}.png"), random.integers(0, 255, (side, 30, 3), dtype=np.uint8))
    return root


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[SearchOptions]:
    """The searches that were asked for, each checked as one is before it starts; none is run."""
    asked: list[SearchOptions] = []

    def run(options: SearchOptions, *_: object, **__: object) -> tuple[Any, bool]:
        asked.append(options)
        if options.resume is not None:
            run = Run(Path(options.out) / options.resume)
            return SimpleNamespace(run=run, resume_command=f"go on with {options.resume}"), True
        plan = make_plan(options)
        check_plan(plan)
        plan.run.write_search(make_search_file())
        return plan, True

    monkeypatch.setattr(folder, "run_session", run)
    monkeypatch.setattr("ferray.train.features.speed.measure_trunk_speed", lambda *_, size_px, **__: 2e6 / size_px**2)
    monkeypatch.setattr(choices, "num_gpus", lambda: 0)
    return asked


def test_a_folder_of_two_classes_of_twenty_pictures_is_prepared_checked_and_searched(
    asked: list[SearchOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 19, "dog": 20})
    shutil.copy(pets / "dog" / "0.png", pets / "cat" / "99.png")

    search = ferray.fit_folder(pets, out=tmp_path / "runs", minutes=3, weights="none")

    assert search.path == tmp_path / "runs" / "pets"
    (options,) = asked
    assert (options.space, options.name, options.weights) == ("grid", "pets", "none")
    assert options.minutes is not None
    assert 2 < options.minutes <= 3, "the time that preparing took is gone"
    store = ferray.open_store(tmp_path / "runs" / "pets-store")
    assert store.size_px == 48, "the first size that is not below the pictures'"
    assert store.manifest.split_sizes == {"train": 24, "validation": 8, "test": 8}
    err = capsys.readouterr().err
    assert "40 pictures in 2 classes; 48 px, as large as the pictures" in err
    assert "\ncheck: 1 " in err
    assert f"python -m ferray.data check {store.folder}" in err


def test_run_again_it_opens_the_store_whatever_is_faster_now_and_resumes_the_search(
    asked: list[SearchOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})
    words = [str(pets), "--out", str(tmp_path / "runs"), "--weights", "none", "--minutes", "5"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"python -m ferray.predict {tmp_path / 'runs' / 'pets' / 'best'} {pets}" in out
    assert "python -m ferray.search --resume pets --out" in out
    assert "--minutes 5" in out
    monkeypatch.setattr("ferray.train.features.speed.measure_trunk_speed", lambda *_, **__: 1e-3)

    assert main(words) == 0

    assert [options.resume for options in asked] == [None, "pets"]
    assert asked[1].settings == ()
    assert ferray.open_store(tmp_path / "runs" / "pets-store").size_px == 48


@pytest.mark.parametrize(
    "options, variables, words",
    [
        (["--name", "a/b"], {}, "--name a/b: not a plain folder name"),
        (["--name", "n" * 256], {}, "has 256 bytes"),
        (["--out", "s3://bucket/runs"], {}, "--out s3://bucket/runs: s3:// is not supported"),
        (["--out", "{file}"], {}, "{file} is a file"),
        ([], {"FERRAY_CACHE": "{file}"}, "{file} is a file"),
        ([], {"FERRAY_STALL_S": "soon"}, "FERRAY_STALL_S: 'soon' is not a time"),
        ([], {"WANDB_MODE": "ofline"}, "WANDB_MODE: 'ofline' is no mode"),
    ],
)
def test_what_the_search_would_refuse_is_refused_before_the_pictures_are_prepared(
    options: list[str],
    variables: dict[str, str],
    words: str,
    asked: list[SearchOptions],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})
    file = tmp_path / "file"
    file.touch()
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=file))
    assert main([str(pets), "--weights", "none", *(option.format(file=file) for option in options)]) == 2
    assert words.format(file=file) in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pets"]
    assert asked == []


def test_a_store_of_other_pictures_is_not_searched_in_their_place(asked: list[SearchOptions], tmp_path: Path) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})
    ferray.fit_folder(pets, out=tmp_path / "runs", weights="none")
    write_pictures(pets, {"cow": 20})

    with pytest.raises(DataError, match="holds another store"):
        ferray.fit_folder(pets, out=tmp_path / "runs", weights="none")
    assert len(asked) == 1


@pytest.mark.parametrize(
    "counts, words",
    [
        ({"cat": 30}, "only one class, 'cat'"),
        ({"cat": 30, "dog": 9}, "dog has 9"),
        ({"cat": 9, "dog": 1, "a": 9, "b": 9, "c": 9, "d": 9, "e": 30}, "and 1 more"),
        ({"cat": 30, "dog": 0}, "dog"),
    ],
)
def test_too_few_pictures_are_refused_before_anything_is_written(
    counts: dict[str, int], words: str, asked: list[SearchOptions], tmp_path: Path
) -> None:
    pets = write_pictures(tmp_path / "pets", counts)

    with pytest.raises(DataError, match=words):
        ferray.fit_folder(pets, out=tmp_path / "runs", weights="none")
    assert not (tmp_path / "runs").exists()
    assert asked == []


def test_pictures_so_alike_that_a_class_has_no_validation_are_refused_and_copies_can_be_skipped(
    asked: list[SearchOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})
    for number in range(1, 20):
        shutil.copy(pets / "cat" / "0.png", pets / "cat" / f"{number}.png")
    words = [str(pets), "--out", str(tmp_path / "runs"), "--weights", "none"]

    assert main(words) == 2
    err = capsys.readouterr().err
    assert "no validation pictures of cat: so many look like copies" in err
    assert "--copies skip" in err
    assert asked == []

    shutil.rmtree(tmp_path / "runs")
    assert main([*words, "--copies", "skip"]) == 0
    assert ferray.open_store(tmp_path / "runs" / "pets-store").manifest.counts["validation"] == {"cat": 4, "dog": 4}


def test_weights_that_cannot_be_downloaded_are_named_with_both_ways_out_and_not_replaced(
    asked: list[SearchOptions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fail)
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})

    assert main([str(pets), "--out", str(tmp_path / "runs")]) == 2
    err = capsys.readouterr().err
    assert "could not be downloaded" in err
    assert "--weights FILE" in err
    assert "--weights none" in err
    assert (asked, (tmp_path / "runs").exists()) == ([], False)


def test_a_tree_without_validation_gets_it_from_train_and_one_with_a_whole_split_keeps_it(tmp_path: Path) -> None:
    for splits, shares in ((("train", "test"), (0.9, 0.1, 0.0)), (("train", "validation", "test"), None)):
        root = tmp_path / str(len(splits))
        for split in splits:
            write_pictures(root / split, {"cat": 12, "dog": 12}, side=30)
        assert find_split(read_folders(root)) == shares
    small = read_folders(write_pictures(tmp_path / "small", {"cat": 99, "dog": 150}, side=8))
    large = read_folders(write_pictures(tmp_path / "large", {"cat": 100, "dog": 150}, side=8))
    assert (find_split(small), find_split(large)) == ((0.6, 0.2, 0.2), (0.7, 0.1, 0.2))
    check_enough(small)


@given(
    num=st.integers(1, 10**6),
    largest=st.sampled_from(SIZES_PX),
    limit_s=st.floats(0.1, 1e6),
    rate=st.floats(1e3, 1e9),
)
def test_the_size_is_the_largest_that_is_useful_and_ready_in_time(
    num: int, largest: int, limit_s: float, rate: float
) -> None:
    def seconds(size: int) -> float:
        return choices.NUM_PASSES * num / (rate / size**2)

    size, alters, _ = choose_size(num, largest, limit_s=limit_s, speed=lambda size: rate / size**2)

    assert size <= largest
    assert all(seconds(other) > limit_s for other in SIZES_PX if size < other <= largest)
    assert alters == (seconds(size) <= limit_s)
    assert alters or size == SIZES_PX[0]


def test_few_pictures_get_more_epochs_and_smaller_batches(tmp_path: Path) -> None:
    chosen = []
    for name, count in (("fewest", 20), ("few", 80), ("many", 700)):
        source = read_folders(write_pictures(tmp_path / name, {"cat": count, "dog": count}, side=8))
        weights = load_weights("none", "vgg16")
        choice = choices.choose_options(source, weights, minutes=60, space=None, size_px=32)
        chosen.append(dict(one.split("=") for one in choice.settings))
    fewest, few, many = chosen
    assert (fewest["batch_size"], fewest["epochs"]) == ("[8, 16]", "40")
    assert (few["batch_size"], few["epochs"]) == ("[16, 32]", "40")
    assert (many["batch_size"], many["epochs"]) == ("[32, 128]", "12")


def test_a_space_that_is_given_is_searched_as_it_is_with_weights_of_its_backbone(
    asked: list[SearchOptions], tmp_path: Path
) -> None:
    pets = write_pictures(tmp_path / "pets", {"cat": 20, "dog": 20})
    space = tmp_path / "mine.yaml"
    space.write_text("method: grid\nparameters: {backbone: {value: vgg16_bn}, epochs: {value: 2}}\n")
    assert backbone_of_space(str(space)) == "vgg16_bn"
    assert backbone_of_space(None) == backbone_of_space("grid") == "vgg16"

    ferray.fit_folder(pets, out=tmp_path / "runs", weights="none", space=space, size_px=32)

    assert (asked[0].space, asked[0].settings) == (str(space), ())
    with pytest.raises(FerrayError, match="no such file or space"):
        ferray.fit_folder(pets, out=tmp_path / "runs", weights="none", space="gird")


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"minutes": 0}, "minutes=0"),
        ({"minutes": "3"}, "minutes='3'"),
        ({"size_px": 3.5}, "size_px=3.5"),
        ({"name": 3}, "name=3"),
        ({"out": None}, "out=None"),
        ({"images": 3}, "images=3"),
    ],
    ids=str,
)
def test_a_wrong_argument_names_its_parameter(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(FerrayError) as error:
        ferray.fit_folder(**{"images": "pets", **arguments})
    assert str(error.value.args[0]).startswith(named)


def test_the_speed_of_the_trunk_is_measured_in_pictures_a_second() -> None:
    from ferray.train.features.speed import measure_trunk_speed

    weights = load_weights("none", "mobilenet_v3_small")
    small, large = (
        measure_trunk_speed(weights, size_px=size, device="cpu", cache=storage.cache_dir()) for size in (32, 224)
    )
    assert small > large > 0


@pytest.mark.parametrize(
    "words",
    [
        ["pets"],
        ["my pets", "--minutes", "2.5", "--out", "my runs", "--name", "it's"],
        ["pets", "--weights", "a b.safetensors", "--space", "finetune", "--size", "64"],
        ["pets", "--classes", "pets.yaml", "--copies", "skip", "--wandb", "disabled"],
    ],
)
def test_the_command_on_record_is_the_one_that_was_given(words: list[str]) -> None:
    options = folder.FolderOptions(**vars(fit._parse(words, "fit")))
    given = shlex.split(options.command)

    assert given[:3] == ["python", "-m", "ferray.fit"]
    assert folder.FolderOptions(**vars(fit._parse(given[3:], "fit"))) == options
