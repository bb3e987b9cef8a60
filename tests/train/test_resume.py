"""What a run continues from when its checkpoints are damaged, lost, taken over or of another run."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.train import SmallStore, fit_in, same_tensors, small_recipe
from safetensors.torch import load_file, save_file

from ferray.errors import CheckpointError, FencedError, TrainError
from ferray.files import storage
from ferray.files.storage import Lease
from ferray.model.weights import Weights
from ferray.records.progress import best_epoch
from ferray.records.trial import EpochResult
from ferray.train.checkpoints.checked_safetensors import read_checked, write_checked
from ferray.train.checkpoints.checkpoint import CheckpointFolder
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit
from ferray.train.spec import RunSpec

RECIPE = small_recipe(monitor="val_loss", learning_rate=0.01)
LAST, BEST, PREVIOUS = "last.safetensors", "best.safetensors", "last.safetensors.previous"


def train(store: SmallStore, weights: Weights, folder: Path, **named: Any) -> list[EpochResult]:
    """Epochs without their times."""
    rows = fit_in(folder, RECIPE, store, weights, **named)
    return [dataclasses.replace(row, images_per_s=0.0, seconds=0.0) for row in rows]


@pytest.fixture
def whole(store: SmallStore, weights: Weights, tmp_path: Path) -> list[EpochResult]:
    """The undisturbed run, in the folder `whole`."""
    rows = train(store, weights, tmp_path / "whole")
    assert best_epoch(rows, RECIPE).epoch == 3, "so that a lost best epoch shows"
    return rows


@pytest.fixture
def cut(whole: list[EpochResult], store: SmallStore, weights: Weights, tmp_path: Path) -> Path:
    """A folder with two of three epochs."""
    rows = fit(RECIPE, store, weights, checkpointing=Checkpointing(tmp_path / "cut"))
    next(rows)
    next(rows)
    rows.close()
    return tmp_path / "cut"


def assert_same(folder: Path, tmp_path: Path) -> None:
    for name in (LAST, BEST):
        assert same_tensors(load_file(folder / name), load_file(tmp_path / "whole" / name))
    assert sorted(file.name for file in folder.iterdir()) == [BEST, LAST, PREVIOUS]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "a wrong bit": lambda file: file.write_bytes(file.read_bytes()[:-9] + b"\x55" + file.read_bytes()[-8:]),
    "empty": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "something else": lambda file: save_file({"some": torch.ones(1)}, file),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(
    damage: Callable[[Path], Any],
    cut: Path,
    whole: list[EpochResult],
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(cut / LAST)

    assert train(store, weights, cut, recorded_epochs=2) == whole[2:], "epochs on record are not reported again"
    assert_same(cut, tmp_path)
    assert f"continues after epoch 1, from {cut / PREVIOUS}" in caplog.text


def test_where_both_are_damaged_the_run_starts_again_and_both_are_named(
    cut: Path,
    whole: list[EpochResult],
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in (LAST, PREVIOUS):
        DAMAGES["cut off"](cut / name)

    assert train(store, weights, cut) == whole
    assert_same(cut, tmp_path)
    for name in (LAST, PREVIOUS):
        assert f"{cut / name}: damaged" in caplog.text
    assert "starts at its first epoch again" in caplog.text


BEST_DAMAGES: dict[str, Callable[[Path], Any]] = DAMAGES | {
    "of an earlier epoch": lambda file: write_checked(
        file, read_checked(file)[1], read_checked(file)[0] | {"epoch": 1}
    ),
}  # fmt: skip


@pytest.mark.parametrize("recorded", [0, 1, 2])
@pytest.mark.parametrize("damage", BEST_DAMAGES.values(), ids=BEST_DAMAGES.keys())
def test_a_run_whose_best_epoch_is_lost_starts_again_with_the_same_numbers(
    damage: Callable[[Path], Any],
    recorded: int,
    cut: Path,
    whole: list[EpochResult],
    store: SmallStore,
    weights: Weights,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(cut / BEST)

    assert train(store, weights, cut, recorded_epochs=recorded) == whole[recorded:]
    assert_same(cut, tmp_path)
    assert str(cut / BEST) in caplog.text
    assert "starts at its first epoch again" in caplog.text


def test_a_run_that_has_ended_and_lost_its_best_epoch_trains_it_again(
    whole: list[EpochResult], store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "whole", tmp_path / "ended")
    (tmp_path / "ended" / BEST).unlink()

    assert train(store, weights, tmp_path / "ended", recorded_epochs=3) == []
    assert_same(tmp_path / "ended", tmp_path)


def test_an_undamaged_run_continues_without_a_warning(
    cut: Path, whole: list[EpochResult], store: SmallStore, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(store, weights, cut) == whole[2:]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("name", [LAST, PREVIOUS, BEST])
def test_a_checkpoint_of_another_run_is_an_error_wherever_it_lies(
    name: str, cut: Path, store: SmallStore, weights: Weights
) -> None:
    if name == PREVIOUS:
        DAMAGES["empty"](cut / LAST)
    facts, tensors = read_checked(cut / name)
    write_checked(cut / name, tensors, facts | {"trial_id": "0" * 12})
    before = {file.name: file.read_bytes() for file in cut.iterdir()}

    with pytest.raises(CheckpointError, match=f"{name}: a checkpoint of run 000000000000, not of"):
        train(store, weights, cut)
    assert {file.name: file.read_bytes() for file in cut.iterdir()} == before


def test_temporary_files_of_a_killed_process_are_removed(cut: Path, store: SmallStore, weights: Weights) -> None:
    for name in (LAST, BEST):
        (cut / f".{name}.abcd{storage.PARTIAL}").write_bytes(b"half")
    (cut / ".keep").touch()
    train(store, weights, cut)

    assert sorted(file.name for file in cut.iterdir()) == [".keep", BEST, LAST, PREVIOUS]


def test_a_writer_that_lost_the_lease_does_not_remove_files_of_its_successor(
    cut: Path, store: SmallStore, weights: Weights
) -> None:
    lease = Lease.take(cut, (1, 1))
    Lease.take(cut, (1, 2))
    half = cut / f".{LAST}.abcd{storage.PARTIAL}"
    half.write_bytes(b"half")

    with pytest.raises(FencedError):
        next(fit(RECIPE, store, weights, checkpointing=Checkpointing(cut, lease=lease)))
    assert half.exists()


def test_a_writer_that_lost_the_lease_gets_an_error_and_changes_nothing(
    cut: Path, store: SmallStore, weights: Weights
) -> None:
    lease = Lease.take(cut, (1, 1))
    rows = fit(RECIPE, store, weights, checkpointing=Checkpointing(cut, lease=lease))
    Lease.take(cut, (1, 2))
    before = {file.name: file.read_bytes() for file in cut.iterdir()}
    own = CheckpointFolder(cut, read_checked(cut / LAST)[0]["trial_id"])

    with pytest.raises(FencedError, match="taken over"):
        next(rows)
    with pytest.raises(FencedError):
        CheckpointFolder(cut, "1" * 12, lease).copy_from(own)
    assert {file.name: file.read_bytes() for file in cut.iterdir()} == before


def test_a_writer_that_lost_the_lease_cannot_save_a_partial_epoch(
    cut: Path, store: SmallStore, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferray.train.interruption.POLL_INTERVAL_S", 0.0)
    lease = Lease.take(cut, (1, 1))
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        if len(asked) == 2:
            Lease.take(cut, (1, 2))
        return len(asked) == 2

    before = (cut / LAST).read_bytes()
    with pytest.raises(FencedError):
        list(fit(RECIPE, store, weights, checkpointing=Checkpointing(cut, lease=lease), is_interrupted=ask))
    assert (cut / LAST).read_bytes() == before


def test_the_holder_of_the_lease_writes(
    cut: Path, whole: list[EpochResult], store: SmallStore, weights: Weights
) -> None:
    assert train(store, weights, cut, lease=Lease.take(cut, (3, 1))) == whole[2:]


def test_a_run_does_not_start_from_a_shorter_run_that_is_damaged(cut: Path, store: SmallStore, tmp_path: Path) -> None:
    shorter = CheckpointFolder(cut, read_checked(cut / LAST)[0]["trial_id"])
    DAMAGES["a wrong bit"](cut / LAST)

    with pytest.raises(CheckpointError, match="damaged"):
        CheckpointFolder(tmp_path / "long", "1" * 12).copy_from(shorter)
    assert not (tmp_path / "long" / LAST).exists()


def test_a_run_that_starts_from_a_shorter_one_trains_only_the_rest(
    whole: list[EpochResult], store: SmallStore, weights: Weights, tmp_path: Path
) -> None:
    long = dataclasses.replace(RECIPE, epochs=4)
    shorter = CheckpointFolder(tmp_path / "whole", RunSpec(RECIPE, store, weights).trial_id)
    CheckpointFolder(tmp_path / "long", RunSpec(long, store, weights).trial_id).copy_from(shorter)
    rows = list(fit(long, store, weights, checkpointing=Checkpointing(tmp_path / "long")))

    assert [row.epoch for row in rows] == [4]


def test_a_validation_loss_that_is_not_finite_is_a_run_that_diverged(
    cut: Path, store: SmallStore, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (cut / LAST).read_bytes()
    monkeypatch.setattr("ferray.train.fit.cross_entropy_sum", lambda *_: torch.tensor(float("nan")))

    with pytest.raises(
        TrainError, match=r"^diverged in epoch 3, validation, step 1 of 1: the loss is nan\n  Lower lea"
    ):
        train(store, weights, cut)
    assert (cut / LAST).read_bytes() == before


def test_a_score_that_is_not_finite_is_a_run_that_diverged(
    store: SmallStore, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ferray.metrics.confusion.macro_f1", lambda _: float("nan"))

    with pytest.raises(TrainError, match=r"^diverged in epoch 1, scores: train_macro_f1 is nan"):
        train(store, weights, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_continues_while_an_exploding_loss_is_finite(store: SmallStore, weights: Weights) -> None:
    recipe = small_recipe(freeze="blocks1-4", learning_rate=1.0, epochs=3)
    rows = list(fit(recipe, store, weights))

    assert len(rows) == 3
    assert max(row.val_loss for row in rows) > 10  # chance has 1.95
