"""The command before anything heavy is loaded: options, plans, errors."""

import dataclasses
import json
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from fixtures.data import write_tiny_store
from fixtures.history import make_search_file

from ferray.commands.search import main
from ferray.data.store.reader import Store
from ferray.model.weights import load_weights
from ferray.recipe import NO_WEIGHTS, make_recipe
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.search.history.points import make_identify
from ferray.search.history.resume import open_history
from ferray.search.open import open_search
from ferray.search.options import SearchOptions
from ferray.search.plan import make_plan
from ferray.space import points, read_space

SPACE = """\
method: grid
metric: {name: val_accuracy, goal: maximize}
parameters:
  augmentation: {values: [none, light]}
  learning_rate: {values: [0.001, 0.0001]}
  epochs: {value: 3}
"""
SEARCHED = ("augmentation", "learning_rate")
SETTLED = {"epochs": 3, "weights": "none", "image_size": 32, "precision": "float32"}


@pytest.fixture
def space(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(SPACE)
    return str(file)


def fails(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([*options, "--dry-run"]) == 2
    return capsys.readouterr().err


def test_a_dry_run_lists_every_point_and_the_passes_of_the_trunk(
    space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", space, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "augmentation=light  learning_rate=1e-4" in out
    assert "4, at most 3 epochs each" in out
    assert "4 passes of the frozen trunk" in out  # one without augmentation, one an epoch with it


def test_a_dry_run_loads_nothing_heavy_and_leaves_nothing_behind(space: str, tmp_path: Path) -> None:
    code = (
        "import sys; from ferray.commands.search import main; "
        f"assert main(['--space', {space!r}, '--dry-run', '--out', {str(tmp_path / 'runs')!r}]) == 0; "
        "assert not {'torch', 'ray', 'wandb', 'albumentations', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not (tmp_path / "runs").exists()


def test_a_setting_on_the_command_line_replaces_the_spaces(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, "--set", "learning_rate=[0.1,0.01,0.001]", "--set", "epochs=2", "--dry-run"]) == 0
    assert "6, at most 2 epochs each" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options,words",
    [
        (["--set", "learning_rat=1"], ["learning_rat", "Did you mean 'learning_rate'?"]),
        (["--set", "learning_rate=[10]"], ["learning_rate", "10"]),
        (["--data", "nowhere"], ["--data nowhere", "not a store", "ferray.data prepare"]),
        (["--weights", "nowhere.safetensors"], ["--weights nowhere.safetensors", "no such file"]),
        (["--name", "a/b"], ["--name a/b", "not a plain folder name"]),
        (["--name", "a\tb"], ["--name a\\tb", "not a plain folder name", "tabs"]),
        (["--name=-x"], ["--name -x", "begins with a dash"]),
        (["--folds", "5", "--set", "folds = 3"], ["--folds 5", "folds is given by --set, too"]),
        (["--out", ""], ["argument --out: an empty value"]),
        (["--name="], ["argument --name: an empty value"]),
        (["--address", "", "--seed", "1"], ["argument --address: an empty value"]),
        ([""], ["error: an empty value"]),
        (["--name", "n" * 300], ["has 300 bytes", "at most 255", "shorter"]),
        (["--name", "\u8868" * 90], ["has 270 bytes", "at most 255"]),
        (["--resume", "nowhere"], ["no search here", "Known names: none"]),
        (["--set", "freeze=blocks1-4"], ["freeze is 'blocks1-4'", "pretrained"]),
        (["--again"], ["--again: reads the test split once more", "--resume NAME --again"]),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_the_way_out(
    options: list[str], words: list[str], space: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options if "--resume" in options else ["--space", space, *options]
    err = fails(capsys, *given, "--out", str(tmp_path))
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    "text, lines",
    [
        (
            "early_terminate: {type: hyperband, max_iter: 26, s: 2, eta: 3}\nrun_cap: 4\n"
            "parameters: {dropout: {min: 0.0, max: 0.5}, epochs: {value: 26}}\n",
            ["trials    4, at most 26 epochs each", "stopping  successive halving after epochs 2, 8, by 3"],
        ),
        (
            "early_terminate: {type: hyperband, min_iter: 9}\nrun_cap: 4\n"
            "parameters: {dropout: {min: 0.0, max: 0.5}, epochs: {value: 9}}\n",
            ["stopping  successive halving at no epoch: its first comes too late"],
        ),
        (
            "parameters: {dropout: {min: 0.0, max: 0.5}}\n",
            ["trials    without end (neither run_cap nor --max-trials ends them), at most 10 epochs each"],
        ),
        (
            "run_cap: 12\nparameters: {batch_size: {values: [8, 16]}}\n",
            ["trials    2 (of run_cap 12: the space has no more points), at most 10 epochs each"],
        ),
        ("parameters: {batch_size: {values: [8, 16]}}\n", ["trials    2, at most 10 epochs each"]),
    ],
)
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_dry_run_says_how_many_points_there_are_and_where_they_can_be_stopped(
    method: str, text: str, lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"method: {method}\nmetric: {{name: val_accuracy, goal: maximize}}\n{text}")
    assert main(["--space", str(file), "--dry-run"]) == 0
    assert set(lines) <= set(capsys.readouterr().out.splitlines())


def test_more_points_than_the_space_has_are_said_to_be_none(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, "--max-trials", "12", "--set", "run_cap=7", "--dry-run"]) == 0
    assert "trials    4 (of run_cap 7 and --max-trials 12: the space has no more points)" in capsys.readouterr().out
    assert main(["--space", space, "--max-trials", "4", "--set", "run_cap=7", "--dry-run"]) == 0
    assert "trials    4 (of run_cap 7: the space has no more points)" in capsys.readouterr().out


def test_a_dry_run_counts_folds_and_finals(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--space", space, "--folds", "5", "--replicates", "3", "--finalists", "2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "5 trials a point, ranked by their mean; then the winner is trained once more" in out
    assert "the best 2 points with 3 seeds each" in out
    assert f"at most {(4 * 5 + 2 * 2 * 5 + 1) * 3} epochs" in out  # folds, two more seeds of two points, the refit


def test_a_folder_that_has_lost_its_search_file_gets_no_second_history(
    space: str, resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (resumed.folder / "search.json").unlink()
    err = fails(capsys, "--space", space, "--name", resumed.name, "--out", str(resumed.folder.parent))
    assert "has a journal, but no search.json" in err


def test_a_search_whose_folder_is_in_use_is_not_resumed_but_can_be_looked_at(
    resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--resume", resumed.name, "--out", str(resumed.folder.parent)]
    with resumed.lock():
        assert main(asked) == 2
        assert "another process is using this folder" in capsys.readouterr().err
        assert main([*asked, "--dry-run"]) == 0


def test_an_unknown_space_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean 'grid'?" in fails(capsys, "--space", "gird")


@pytest.fixture
def resumed(tmp_path: Path, tiny_store: Store) -> Run:
    """A search named `first` of which two points have ended and one has begun."""
    run = Run(tmp_path / "first")
    run.folder.mkdir()
    (run.folder / "space.yaml").write_text(SPACE)
    recorded = {"data": str(tiny_store.folder), "weights": "none", "set": [], "seed": 0, "space": "small"}
    data = {"fingerprint": tiny_store.fingerprint, "folder": str(tiny_store.folder), "dataset": "tiny", "size_px": 32}
    weights = {"vgg16": NO_WEIGHTS}
    run.write_search(make_search_file(options=recorded, data=data, weights=weights, precision="float32"))
    space = read_space(run.folder / "space.yaml", {"weights": "none"})
    identify = make_identify(run.read_search(), space)
    for number, point in enumerate(islice(points(space, seed=0), 3)):
        trial_id = identify(point)
        run.journal().append({"event": "suggest", "number": number, "trial_id": trial_id, "point": point})
        if number < 2:
            end = {"event": "end", "number": number, "trial_id": trial_id, "state": "done", "epoch": 3, "score": 0.5}
            run.journal().append(end)
    return run


def resume(options: SearchOptions, store: Store) -> None:
    """All that a resumed search does before it trains."""
    with open_history(options) as history:
        open_search(make_plan(options, history), history, store, {"vgg16": load_weights("none", "vgg16")}, say=print)


def dry(capsys: pytest.CaptureFixture[str], run: Run, *options: str) -> str:
    assert main(["--resume", run.name, "--out", str(run.folder.parent), "--dry-run", *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "options, words",
    [
        (["--concurrent-trials", "4096"], "need 4096 CPUs"),
        (["--workers-per-trial", "4096"], "need 4096 CPUs"),
        (["--gpus-per-worker", "1.5"], "--gpus-per-worker 1.5"),
    ],
)
def test_what_a_resumed_search_is_asked_for_anew_is_checked_as_that_of_a_new_one(
    options: list[str], words: str, resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--resume", resumed.name, "--out", str(resumed.folder.parent), "--dry-run"]
    assert main([*asked, *options]) == 2
    assert words in capsys.readouterr().err


def test_options_on_record_that_are_too_many_for_this_machine_do_not_keep_anyone_from_looking(
    resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    search = resumed.read_search()
    resumed.write_search(search.changed(options=search.options.changed(concurrent_trials=4096)))
    dry(capsys, resumed)


def test_a_refit_that_is_asked_for_when_a_search_is_resumed_needs_validation_faces_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    store = write_tiny_store(tmp_path / "store", per_class=(6, 0, 2))
    run = Run(tmp_path / "first")
    run.folder.mkdir()
    (run.folder / "space.yaml").write_text(SPACE)
    recorded = {"data": str(store.folder), "weights": "none", "set": ["folds=3"], "seed": 0, "space": "small"}
    data = {"fingerprint": store.fingerprint, "folder": str(store.folder), "dataset": "tiny", "size_px": 32}
    run.write_search(
        make_search_file(options={**recorded, "keep": "best-fold"}, data=data, weights={"vgg16": NO_WEIGHTS})
    )
    dry(capsys, run)
    err = fails(capsys, "--resume", "first", "--out", str(tmp_path), "--keep", "refit")
    assert "has no validation faces, which training the winner once more needs" in err
    dry(capsys, run, "--finalists", "5")
    assert "--finalists 5 has no effect without finals" in caplog.text


def test_a_name_that_is_taken_is_refused_and_a_search_cannot_change_its_data(
    space: str, tmp_path: Path, resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--resume first" in fails(capsys, "--space", space, "--name", "first", "--out", str(tmp_path))
    other = str(write_tiny_store(tmp_path / "other", per_class=(3, 2, 2)).folder)
    given = {"--data": other, "--seed": "7", "--weights": "imagenet", "--name": "second"}
    for option, value in given.items():
        err = fails(capsys, "--resume", "first", option, value, "--out", str(tmp_path))
        assert f"{option} {value}: the search first has its own, " in err
    same = ["--data", resumed.read_search().data.folder, "--seed", "0", "--weights", "none"]
    assert main(["--resume", "first", "--out", str(tmp_path), "--dry-run", *same]) == 0


def test_data_that_are_gone_or_others_are_refused_before_anything_starts(
    resumed: Run, tmp_path: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store = shutil.copytree(tiny_store.folder, tmp_path / "store")
    search = resumed.read_search()
    resumed.write_search(search.changed(options=search.options.changed(data=str(store))))
    asked = ("--resume", "first", "--out", str(tmp_path))
    assert main([*asked, "--dry-run"]) == 0

    shutil.rmtree(store)
    err = fails(capsys, *asked)
    assert f"--data {store}: not a store\n  Say where the store of the search is now: --data DIR" in err
    write_tiny_store(store, per_class=(3, 2, 2))
    assert f"--resume first: {store} is not the store of the search" in fails(capsys, *asked)
    assert "is not the store of the search" in fails(capsys, *asked, "--set", "learning_rate=[0.1]")


def test_data_that_were_moved_are_known_by_their_content(
    resumed: Run, tmp_path: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(tiny_store.folder, tmp_path / "moved")
    search = resumed.read_search()
    resumed.write_search(search.changed(data=search.data.changed(folder=str(tmp_path / "gone"))))
    out = dry(capsys, resumed, "--data", str(moved), "--set", "learning_rate=[0.01, 0.001]")
    assert f"data      {moved}" in out
    assert "2 new points of" in out


def test_a_space_that_asks_for_more_seeds_of_the_best_gets_them(
    resumed: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = resumed.read_search()
    resumed.write_search(search.changed(options=search.options.changed(replicates=1, finalists=3)))
    (tmp_path / "more.yaml").write_text(SPACE + "replicates: 4\n")
    asked = ["--space", str(tmp_path / "more.yaml")]
    assert "finals    the best 3 points with 4 seeds each" in dry(capsys, resumed, *asked)
    assert "finals    the best 2 points with 4 seeds each" in dry(capsys, resumed, *asked, "--finalists", "2")
    assert "finals" not in dry(capsys, resumed)


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--dry-run", "--set", "learning_rate=[0.01, 0.001]")])
@pytest.mark.parametrize("has_records", [True, False])
def test_a_search_of_a_version_with_other_numbers_is_refused_by_a_dry_run_too_and_where_records_are_lost(
    has_records: bool,
    options: tuple[str, ...],
    resumed: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record that is lost would be made again with today's numbers, under the trial's old name."""
    if has_records:
        for event in resumed.journal().read():
            if event["event"] == "suggest":
                recipe = make_recipe(SETTLED | {name: event["point"][name] for name in SEARCHED}, where="test")
                resumed.write_trial(TrialRecord(trial_id=event["trial_id"], number=event["number"], recipe=recipe))
    asked = ["--resume", "first", "--out", str(resumed.folder.parent), *options]
    assert main([*asked, "--dry-run"]) == 0
    before = {file: file.read_bytes() for file in resumed.folder.rglob("*") if file.is_file()}
    capsys.readouterr()
    monkeypatch.setattr("ferray.recipe.NUMBERS_VERSION", 99)
    assert main(asked) == 2
    err = capsys.readouterr().err
    assert ("a version whose numbers are others" if has_records else "its record is lost") in err
    assert "start the search under another name" in err
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("name", ["runs/first", "first/", ".."])
def test_what_is_resumed_is_a_plain_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--resume {name!r}: not the name of a search\n  Give the name alone" in fails(capsys, "--resume", name)


def test_a_dry_run_of_a_resumed_search_lists_only_what_is_new(
    resumed: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = dry(capsys, resumed)
    assert "1 new point of" in out
    assert [line for line in out.splitlines() if "learning_rate=" in line] == [
        "    3  augmentation=light  learning_rate=1e-4"
    ]
    assert "nothing   For more, give --space FILE" in dry(capsys, resumed, "--max-trials", "3")
    before = {file: file.read_bytes() for file in resumed.folder.rglob("*") if file.is_file()}
    (tmp_path / "bigger.yaml").write_text(SPACE.replace("0.001, 0.0001", "0.01, 0.001, 0.0001"))
    out = dry(capsys, resumed, "--space", str(tmp_path / "bigger.yaml"))
    assert "3 new points of" in out
    assert "3 of its points are on record" in out
    assert [line.split()[1:] for line in out.splitlines() if "learning_rate=" in line] == [
        ["augmentation=none", "learning_rate=1e-2"],
        ["augmentation=light", "learning_rate=1e-2"],
        ["augmentation=light", "learning_rate=1e-4"],
    ]
    assert "at most 9 epochs" in out
    assert {file: file.read_bytes() for file in resumed.folder.rglob("*") if file.is_file()} == before


def test_a_dry_run_names_what_a_new_space_no_longer_asks_for(resumed: Run, capsys: pytest.CaptureFixture[str]) -> None:
    out = dry(capsys, resumed, "--set", "learning_rate=[0.0001, 0.01]", "--set", "epochs=4")
    assert "4 new points of" in out
    assert "3 earlier points, no longer asked for, stay in tables and ranking:" in out
    line = next(line for line in out.splitlines() if "trial 2:" in line)
    assert set(line.split()[2:]) == {"augmentation=light", "learning_rate=1e-3", "epochs=3"}


def test_a_search_that_grew_knows_so_though_its_journal_is_cut_off_before_the_line_that_says_it(
    resumed: Run, tmp_path: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "longer.yaml").write_text(SPACE.replace("epochs: {value: 3}", "epochs: {value: 4}"))
    asked = SearchOptions(resume="first", out=str(tmp_path))
    resume(dataclasses.replace(asked, space=str(tmp_path / "longer.yaml")), tiny_store)
    assert resumed.journal().read()[-1]["event"] == "extend"
    lines = resumed.journal().file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"suggest", b"suggesT")
    resumed.journal().file.write_bytes(b"".join(lines))

    out = dry(capsys, resumed)
    assert "4 new points of" in out  # the old ones are of 3 epochs
    assert "at most 4 epochs" in out
    resume(asked, tiny_store)
    events = resumed.journal().read()
    assert [event["event"] for event in events] == ["suggest", "end", "extend"]
    assert len(resumed.read_search().extensions) == 1
    assert "4 new points of" in dry(capsys, resumed)


def test_known_points_are_matched_whatever_leaves_their_settings_open(
    resumed: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size of the data, written out, is the size that was left open."""
    out = dry(capsys, resumed, "--set", "image_size=32", "--set", "precision=float32")
    assert "3 of its points are on record" in out


@pytest.mark.parametrize(
    "change,options,words",
    [
        (
            ("val_accuracy, goal: maximize", "val_loss, goal: minimize"),
            [],
            ["val_loss (minimize)", "val_accuracy (maxi"],
        ),
        (("", ""), ["--folds", "3"], ["number of folds is 3, but that of search first is 1"]),
        (
            ("[0.001, 0.0001]", "[0.001]"),
            [],
            ["every point of it is on record", "with more values or epochs", "--retry"],
        ),
        (("method: grid", "method: random\nrun_cap: 2"), [], ["the 2 points that run_cap allows", "run_cap"]),
        (("method: grid", "method: random"), ["--max-trials", "3"], ["the 3 points that --max-trials allows"]),
    ],
)
def test_another_question_or_nothing_new_is_refused_with_the_way_out(
    change: tuple[str, str],
    options: list[str],
    words: list[str],
    resumed: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "[0.001]" in change:
        resumed.journal().append({"event": "end", "number": 2, "trial_id": "x", "state": "done"})
    (tmp_path / "other.yaml").write_text(SPACE.replace(*change))
    asked = ["--resume", "first", "--out", str(tmp_path), "--space", str(tmp_path / "other.yaml"), *options]
    err = fails(capsys, *asked)
    for word in words:
        assert word in err


def test_retry_without_a_search_is_refused(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--resume NAME --retry" in fails(capsys, "--space", space, "--retry")


def test_help_names_every_option_in_one_screenful_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    named = {word.strip("[],") for word in out.split() if word.startswith(("--", "[--"))}
    assert named >= {
        "--space", "--data", "--out", "--name", "--resume", "--set", "--weights", "--workers-per-trial",
        "--gpus-per-worker", "--concurrent-trials", "--max-trials", "--seed", "--wandb", "--address", "--dry-run",
        "--retry", "--max-failures", "--again", "--folds", "--keep", "--replicates", "--finalists", "--shuffle-labels",
        "--json",
    }  # fmt: skip


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_search_that_fails_prints_one_json_object_too(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--space", "gird", "--out", str(tmp_path), "--json", *words]) == 2
    printed = capsys.readouterr()
    answer = json.loads(printed.out)

    assert answer["state"] == "failed"
    assert "grid" in answer["error"]["way_out"]
    assert printed.err.startswith("error: ")
