"""One training run, epoch by epoch: the same code on one CPU and on eight GPUs; it knows neither Ray nor W&B.

Everything random is a pure function of the recipe's seed and the place (epoch, step, face), so a run has no random
state to save: one that goes on from its last checkpoint ends, on a CPU, with the same bits as one never interrupted.

Begin at `fit`.
"""

import logging
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from ferray.data.store import Store
from ferray.errors import TrainError
from ferray.model.classifier import FreePart, build_free, trunk_tensors
from ferray.model.head import draw_dropout_mask
from ferray.model.randomness import Purpose, make_seed
from ferray.model.weights import Weights
from ferray.recipe import Recipe, trial_id
from ferray.records import EpochResult
from ferray.train import metrics
from ferray.train.checkpoint import LAST, load_last, read_last, save_epoch
from ferray.train.folds import divide
from ferray.train.inputs import Inputs, Rows, open_inputs, order_batches, send
from ferray.train.losses import TrainingLoss, build_training_loss, cross_entropy_sum
from ferray.train.mixup import cut_batches
from ferray.train.optim import build_optimizer, set_learning_rate
from ferray.train.ranks import ALONE, Ranks, sum_gradients

log = logging.getLogger(__name__)

VALIDATION_BATCH = 32
"""Faces that are validated at once, on each rank."""


def fit(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    checkpoints: Path | None,
    ranks: Ranks = ALONE,
    device: str = "cpu",
    cache: Path | None,
    recorded_epochs: int | None = None,
) -> Generator[EpochResult, None, None]:
    """Train; whoever iterates decides after each epoch to go on or to stop.

    An epoch is yielded after its checkpoint is written. A run whose `checkpoints` hold an earlier part of it goes on
    there. It ends after `recipe.epochs`, or when `recipe.patience` has run out.

    Args:
        recipe: Settled: see `ferray.train.settle`.
        store: Its training and validation splits are used, or folds of both, never its test split.
        weights: What the trunk starts from.
        checkpoints: The run's folder, of which only rank 0 reads and writes; None keeps nothing.
        ranks: This process's place; all ranks call with the same other arguments, and iterate in step.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        cache: The node's folder, shared by all runs; None keeps features in memory, with the same numbers.
        recorded_epochs: How many epochs the caller has on record; later ones that the checkpoint knows of are yielded
            again first. None for all.

    Raises:
        TrainError: A loss is not finite.
        CheckpointError: The last checkpoint is broken or of another run.
        WeightsError: Weights of another backbone.
        DataError: A split without faces, fewer photographs than folds, or a class without the training faces that the
            recipe's class balance needs.
        StorageError: The checkpoints or the cache cannot be written.
    """
    run = _open_run(recipe, store, weights, ranks=ranks, device=torch.device(device), cache=cache)
    history = _resume(run, checkpoints)
    yield from history[len(history) if recorded_epochs is None else recorded_epochs :]
    while len(history) < recipe.epochs and not _is_out_of_patience(history, recipe):
        started = time.perf_counter()
        epoch = len(history) + 1
        trained, learning_rate, seconds = _train(run, epoch)
        validated = _validate(run, epoch)
        result = EpochResult(
            epoch=epoch,
            train_loss=trained.loss,
            train_accuracy=metrics.accuracy(trained.confusion),
            train_balanced_accuracy=metrics.balanced_accuracy(trained.confusion),
            train_macro_f1=metrics.macro_f1(trained.confusion),
            val_loss=validated.loss,
            val_accuracy=metrics.accuracy(validated.confusion),
            val_balanced_accuracy=metrics.balanced_accuracy(validated.confusion),
            val_macro_f1=metrics.macro_f1(validated.confusion),
            learning_rate=learning_rate,
            images_per_s=len(run.train_labels) / seconds,
            seconds=time.perf_counter() - started,
        )
        history.append(result)
        _save(run, checkpoints, history)
        rate = result.images_per_s
        log.info(
            "%s: epoch %d of %d, val_loss %.4f, %.0f faces/s", run.identity, epoch, recipe.epochs, result.val_loss, rate
        )
        yield result


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the epochs of one run share."""

    recipe: Recipe
    identity: str
    ranks: Ranks
    device: torch.device
    free: FreePart
    optimizer: Optimizer
    loss: TrainingLoss
    inputs: Inputs
    train_labels: Rows
    validation_labels: Rows
    num_classes: int


@dataclass(frozen=True)
class _Outcome:
    """What a pass over a part of the faces came to, all ranks together."""

    loss: float
    """Mean over the faces, in nats."""
    confusion: NDArray[np.int64]


def _open_run(
    recipe: Recipe, store: Store, weights: Weights, *, ranks: Ranks, device: torch.device, cache: Path | None
) -> _Run:
    """Build the model and what feeds it."""
    identity = trial_id(recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights.fingerprint)

    @lru_cache(maxsize=1)
    def tensors() -> dict[str, Tensor]:
        return trunk_tensors(recipe, weights)

    tensors_of_trunk = tensors() if recipe.freeze != "trunk" else {}
    free = build_free(recipe, tensors_of_trunk, num_classes=len(store.class_names), device=device)
    division = divide(recipe, store)
    train_labels = np.asarray(store.labels[division.train.rows])
    if recipe.shuffle_labels:
        train_labels = np.random.default_rng(make_seed(recipe.seed, Purpose.LABELS)).permutation(train_labels)
    return _Run(
        recipe=recipe,
        identity=identity,
        ranks=ranks,
        device=device,
        free=free,
        optimizer=build_optimizer(free, recipe),
        loss=build_training_loss(recipe, train_labels, class_names=store.class_names, device=device),
        inputs=open_inputs(
            recipe, store, weights, division=division, trunk_tensors=tensors, device=device, cache=cache
        ),
        train_labels=train_labels,
        validation_labels=np.asarray(store.labels[division.validation.rows]),
        num_classes=len(store.class_names),
    )


def _resume(run: _Run, checkpoints: Path | None) -> list[EpochResult]:
    """Put the last checkpoint back, rank 0's on all ranks; no epochs where there is none."""
    data: bytes | None = None
    with run.ranks.together():
        if checkpoints is not None and run.ranks.is_first:
            data = read_last(checkpoints)
    data = run.ranks.from_first(data)
    if data is None:
        return []
    history = load_last(data, run.free, run.optimizer, identity=run.identity, where=f"{checkpoints}/{LAST}")
    log.info("%s: goes on after epoch %d", run.identity, len(history))
    return history


def _save(run: _Run, checkpoints: Path | None, history: Sequence[EpochResult]) -> None:
    """Write the checkpoints on rank 0; a disk that is full there stops all ranks."""
    with run.ranks.together():
        if checkpoints is not None and run.ranks.is_first:
            is_best = best_epoch(history, run.recipe) == history[-1].epoch
            save_epoch(checkpoints, run.free, run.optimizer, history, identity=run.identity, is_best=is_best)


def best_epoch(history: Sequence[EpochResult], recipe: Recipe) -> int:
    """The epoch with the best monitored metric, the earliest of equals."""
    sign = -1.0 if recipe.maximize else 1.0
    return min(history, key=lambda row: (sign * getattr(row, recipe.monitor), row.epoch)).epoch


def _is_out_of_patience(history: Sequence[EpochResult], recipe: Recipe) -> bool:
    if recipe.patience is None or not history:
        return False
    return len(history) - best_epoch(history, recipe) >= recipe.patience


def _train(run: _Run, epoch: int) -> tuple[_Outcome, float, float]:
    """One pass over the training faces.

    Returns:
        What was seen while training (of mixed faces, the one that prevails), the head's learning rate in the last step,
        and the seconds it took.
    """
    begun = time.perf_counter()
    with run.ranks.together():
        run.inputs.open_epoch(epoch)
    batches = order_batches(run.train_labels, recipe=run.recipe, epoch=epoch)
    portions = cut_batches(batches, recipe=run.recipe, epoch=epoch, ranks=run.ranks)
    tally = _Tally(run, steps=len(batches))
    learning_rate = run.recipe.learning_rate
    with closing(run.inputs.train([portion.reads for portion in portions if len(portion.rows)])) as inputs:
        for step, (batch, portion) in enumerate(zip(batches, portions, strict=True)):
            run.optimizer.zero_grad()
            if len(portion.rows):  # a small last batch may leave nothing for this rank
                mask_BU = _draw_mask(run, epoch=epoch, step=step, num_faces=len(batch))
                logits_BK = run.free(portion.mix(next(inputs)), mask_BU)
                loss_sum = portion.loss(run.loss, logits_BK, run.train_labels)
                (loss_sum / len(batch)).backward()  # type: ignore[no-untyped-call]
                tally.add(step, portion.rows, logits_BK.detach(), loss_sum.detach())
            learning_rate = _step(run, step=(epoch - 1) * len(batches) + step, steps_per_epoch=len(batches))
    outcome = tally.total(run.train_labels, where=f"epoch {epoch}, training")
    return outcome, learning_rate, time.perf_counter() - begun


def _draw_mask(run: _Run, *, epoch: int, step: int, num_faces: int) -> Tensor | None:
    """This rank's rows of the dropout mask that was drawn for the whole batch."""
    mask_BU = draw_dropout_mask(
        num_faces, run.free.head.num_units, dropout=run.recipe.dropout, seed=run.recipe.seed, epoch=epoch, step=step
    )
    return None if mask_BU is None else send(mask_BU[run.ranks.own_part(num_faces)], run.device)


def _step(run: _Run, *, step: int, steps_per_epoch: int) -> float:
    """Move the weights, alike on all ranks; returns the head's learning rate."""
    parameters = list(run.free.parameters())
    sum_gradients(parameters, run.ranks)
    if run.recipe.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, run.recipe.gradient_clip)
    learning_rate = set_learning_rate(run.optimizer, run.recipe, step=step, steps_per_epoch=steps_per_epoch)
    run.optimizer.step()
    return learning_rate


def _validate(run: _Run, epoch: int) -> _Outcome:
    """One pass over the validation faces, by plain cross-entropy: runs with all kinds of losses can be compared."""
    own = run.ranks.own_part(len(run.validation_labels))
    rows = np.arange(own.start, own.stop)
    parts = [rows[begin : begin + VALIDATION_BATCH] for begin in range(0, len(rows), VALIDATION_BATCH)]
    tally = _Tally(run, steps=1)
    with torch.no_grad(), closing(run.inputs.validation(parts)) as inputs:
        for part, features_BDHW in zip(parts, inputs, strict=True):
            logits_BK = run.free(features_BDHW)
            labels_B = send(torch.from_numpy(run.validation_labels[part]), run.device)
            tally.add(0, part, logits_BK, cross_entropy_sum(logits_BK, labels_B))
    return tally.total(run.validation_labels, where=f"epoch {epoch}, validation")


class _Tally:
    """Losses and predictions of a pass, kept on the device until its end: a GPU is not made to wait for them."""

    def __init__(self, run: _Run, *, steps: int) -> None:
        self._run = run
        self._loss_sums = torch.zeros(steps, dtype=torch.float64, device=run.device)
        self._rows: list[Rows] = [np.empty(0, dtype=np.int64)]
        self._predictions: list[Tensor] = [torch.empty(0, dtype=torch.int64, device=run.device)]

    def add(self, step: int, rows: Rows, logits_BK: Tensor, loss_sum: Tensor) -> None:
        """Count this rank's faces of one step."""
        self._loss_sums[step] += loss_sum
        self._rows.append(rows)
        self._predictions.append(logits_BK.argmax(dim=1))

    def total(self, labels: Rows, *, where: str) -> _Outcome:
        """The pass of all ranks together.

        Args:
            labels: Of the whole part.
            where: The pass, for the error.

        Raises:
            TrainError: The loss of a step is not finite.
        """
        predictions = torch.cat(self._predictions).cpu().numpy()
        num_classes = self._run.num_classes
        confusion = metrics.make_confusion(labels[np.concatenate(self._rows)], predictions, num_classes=num_classes)
        counts = torch.from_numpy(confusion.reshape(-1)).to(self._loss_sums)
        both = torch.cat([self._loss_sums, counts])
        self._run.ranks.all_reduce_sum(both)
        loss_sums, all_counts = np.split(both.cpu().numpy(), [len(self._loss_sums)])
        if not np.isfinite(loss_sums).all():
            step = int(np.flatnonzero(~np.isfinite(loss_sums))[0])
            recipe = self._run.recipe
            raise TrainError(
                f"{where}, step {step + 1} of {len(loss_sums)}",
                f"the loss is {loss_sums[step]:g}",
                f"Lower learning_rate, now {recipe.learning_rate:g}, or set gradient_clip, now {recipe.gradient_clip}",
            )
        confusion = all_counts.astype(np.int64).reshape(num_classes, num_classes)
        return _Outcome(loss=float(loss_sums.sum() / confusion.sum()), confusion=confusion)
