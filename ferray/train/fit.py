"""One training run, epoch by epoch: the same code on one CPU and on eight GPUs; it knows neither Ray nor W&B.

Everything random is a pure function of the recipe's seed and the place (epoch, step, face), so a run has no random
state to save. A run that is interrupted, after an epoch or in the middle of one, and continued from its last checkpoint
ends, on a CPU, with the same bits as one that is never interrupted.

Suffixes of tensors: B batch, D channels, H height, W width, U units of the head, K classes. Begin at `fit`.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ferray.data.store.reader import Store
from ferray.errors import DivergedError, TrainError
from ferray.metrics import confusion as confusions
from ferray.model.head import draw_dropout_mask
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.records.trial import METRIC_FIELDS, EpochResult
from ferray.train.checkpoints.checkpoint import EPOCH_START, CheckpointFolder, PartialEpoch, ResumeState, restore
from ferray.train.checkpoints.writer import Checkpointing, CheckpointWriter, Epochs
from ferray.train.environment import LOCAL, Environment
from ferray.train.features.inputs import order_batches, validation_batches
from ferray.train.interruption import Interrupted, InterruptionPoller
from ferray.train.losses import cross_entropy_sum
from ferray.train.mixup import split_batches
from ferray.train.optim import set_learning_rate
from ferray.train.ranks import sum_gradients
from ferray.train.run import TrainingRun, open_run
from ferray.train.spec import RunSpec
from ferray.train.standardization import set_scale, sum_channels
from ferray.train.totals import PassAccumulator, PassTotals
from ferray.train.transfer import to_device
from ferray.wording import first_line

log = logging.getLogger(__name__)


def fit(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    checkpointing: Checkpointing | None = None,
    environment: Environment = LOCAL,
    is_interrupted: Callable[[], bool] | None = None,
) -> Epochs:
    """Train, one epoch for each step of the iteration; the caller may stop after any of them.

    An epoch is reported as soon as a checkpoint holds it. With `checkpointing.min_interval_s`, epochs are pending until
    the next checkpoint. Pending epochs are flushed at the end of the run, before uncached features are computed, and on
    interruption. If a run diverges, or a run of one rank fails, pending epochs are reported, though no checkpoint
    holds them: a run that continues trains them again, to the same numbers. With several ranks, any other fault drops
    them.

    A run whose folder holds an earlier part of it continues there; where its checkpoints are damaged, it continues
    from an earlier one or from the start. It ends after `recipe.epochs`, or when `recipe.patience` has run out.

    Args:
        recipe: Settled: see `ferray.train.settle`.
        store: Its training and validation splits are used, or folds of both, never its test split.
        weights: What the trunk starts from.
        checkpointing: Where and how often to write checkpoints; None writes none.
        environment: Ranks, device and feature cache. All ranks call with the same recipe, store, weights and
            intervals, and iterate in step.
        is_interrupted: Whether to leave training at once; called about once a second, between steps on rank 0 alone,
            and on each rank by itself while features are computed, and in validation, which is not left. The time of
            an interrupted epoch is the sum of its parts, without the time between them.

    Raises:
        Interrupted: `is_interrupted` returned true; the steps so far are in the checkpoint.
        DivergedError: A loss or a score is not finite.
        TrainError: The memory of the GPU of a single rank is full.
        CheckpointError: The last checkpoint is of another run or version.
        FencedError: Another process has taken the checkpoint folder over.
        WeightsError: The weights are of another backbone.
        DataError: A split without faces, fewer photographs than folds, or a class without the training faces that the
            recipe's class balance needs.
        StorageError: The checkpoints or the cache cannot be written.
    """

    def batches() -> Generator[Sequence[EpochResult], None, None]:
        with _memory_errors(recipe, environment):
            run = open_run(RunSpec(recipe, store, weights), environment)
            folder, recorded, min_interval_s = None, None, 0.0
            if checkpointing is not None:
                folder = CheckpointFolder(checkpointing.folder, run.trial_id, checkpointing.lease)
                recorded, min_interval_s = checkpointing.recorded_epochs, checkpointing.min_interval_s
            history, partial = _resume(run, folder)
            num_recorded = len(history) if recorded is None else recorded
            yield history[num_recorded:]
            writer = CheckpointWriter(run, history, folder, min_interval_s=min_interval_s)
            poller = InterruptionPoller(is_interrupted, run.ranks)
            for rows in _train_epochs(run, writer, partial, poller):
                yield [row for row in rows if row.epoch > num_recorded]  # a damaged checkpoint may repeat recorded ones

    return Epochs(batches())


@contextmanager
def _memory_errors(recipe: Recipe, environment: Environment) -> Iterator[None]:
    """Turn a GPU's OutOfMemoryError of the block into a TrainError that names the settings that decide the memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        if environment.ranks.world > 1:  # the other ranks may be waiting for this one: only its caller can end that
            raise
        what = (
            f"its memory is full, with batch_size {recipe.batch_size}, image_size {recipe.image_size}"
            f" and freeze {recipe.freeze}: {first_line(str(error))}"
        )
        way_out = "Lower batch_size or image_size, freeze more of the trunk, or let fewer workers share the GPU"
        raise TrainError(environment.device, what, way_out) from error


def _resume(run: TrainingRun, folder: CheckpointFolder | None) -> tuple[list[EpochResult], PartialEpoch]:
    """Restore the last good checkpoint, rank 0's on all ranks; no epochs where there is none."""
    found: ResumeState | None = None
    with run.ranks.together():
        if folder is not None and run.ranks.is_first:
            found = folder.find_last(run.recipe)
    state = run.ranks.from_first(found)
    if state is None:
        return [], EPOCH_START
    restore(state, run.free, run.optimizer)
    log.info("%s: continues after epoch %d and %d steps", run.trial_id, len(state.history), state.partial.steps)
    return list(state.history), state.partial


def _train_epochs(
    run: TrainingRun, writer: CheckpointWriter, partial: PartialEpoch, poller: InterruptionPoller
) -> Generator[Sequence[EpochResult], None, None]:
    """The remaining epochs, those of one checkpoint together; errors as `fit`.

    Args:
        run: Restored from its last checkpoint.
        writer: Knows the epochs so far.
        partial: The part of the next epoch that is trained already.
        poller: Says when to stop.
    """
    while not writer.is_complete:
        started = time.perf_counter() - partial.seconds
        epoch = writer.num_epochs + 1
        try:
            trained = _train(run, epoch, partial, poller)
            if isinstance(trained, _TrainingPass):
                result = _make_result(run, epoch, trained, _validate(run, epoch, poller), started=started)
        except Exception as error:
            # With several ranks a fault of one rank alone leaves the others elsewhere; all of them diverge together.
            if run.ranks.world == 1 or isinstance(error, DivergedError):
                yield writer.pending  # without a checkpoint: the tensors are those of a later step
            raise
        if isinstance(trained, PartialEpoch):
            yield writer.save(trained if trained.steps > partial.steps else EPOCH_START)
            raise Interrupted(f"epoch {epoch} after {trained.steps} steps")
        partial = EPOCH_START
        rate, epochs = result.images_per_s, run.recipe.epochs
        log.info("%s: epoch %d of %d, val_loss %.4f, %.0f images/s", run.trial_id, epoch, epochs, result.val_loss, rate)
        yield writer.add(result, save_now=not run.inputs.is_ready(epoch + 1))


@dataclass(frozen=True, kw_only=True)
class _TrainingPass:
    """One pass over the training faces."""

    totals: PassTotals
    """Seen while training; of mixed faces, the label of the larger share counts."""
    learning_rate: float
    """The head's learning rate in the last step."""
    seconds: float


def _make_result(
    run: TrainingRun, epoch: int, trained: _TrainingPass, validated: PassTotals, *, started: float
) -> EpochResult:
    """The metrics of an epoch; a DivergedError where one of them is not finite."""
    result = EpochResult(
        epoch=epoch,
        train_loss=trained.totals.loss,
        train_accuracy=confusions.accuracy(trained.totals.confusion),
        train_balanced_accuracy=confusions.balanced_accuracy(trained.totals.confusion),
        train_macro_f1=confusions.macro_f1(trained.totals.confusion),
        val_loss=validated.loss,
        val_accuracy=confusions.accuracy(validated.confusion),
        val_balanced_accuracy=confusions.balanced_accuracy(validated.confusion),
        val_macro_f1=confusions.macro_f1(validated.confusion),
        learning_rate=trained.learning_rate,
        images_per_s=len(run.train_labels) / trained.seconds,
        seconds=time.perf_counter() - started,
    )
    for name in METRIC_FIELDS:
        if not math.isfinite(value := getattr(result, name)):
            raise _diverged(run.recipe, epoch, "scores", f"{name} is {value:g}")
    return result


def _train(
    run: TrainingRun, epoch: int, partial: PartialEpoch, poller: InterruptionPoller
) -> _TrainingPass | PartialEpoch:
    """One pass over the training faces, or the rest of a partial one; a partial one again if it is interrupted."""
    started = time.perf_counter() - partial.seconds
    is_interrupted, measured = False, None
    with run.ranks.together():
        try:
            run.inputs.open_epoch(epoch, poller.raise_if_interrupted)
            if run.free.head.standardizes and epoch == 1 and not partial.steps:
                measured = sum_channels(run, poller.raise_if_interrupted)
        except Interrupted:  # on this rank; others may have been asked later, or have finished their part
            is_interrupted = True
    if run.ranks.any(is_interrupted):
        return partial
    if measured is not None:
        set_scale(run, measured)
    batches = order_batches(run.train_labels, recipe=run.recipe, epoch=epoch)
    rank_batches = split_batches(batches, recipe=run.recipe, epoch=epoch, ranks=run.ranks)
    accumulator = _make_accumulator(run, steps=len(batches), earlier=partial.totals)
    learning_rate = run.recipe.learning_rate
    reads = [own.reads for own in rank_batches[partial.steps :] if len(own.rows)]
    with closing(run.inputs.train(reads)) as inputs:
        for step in range(partial.steps, len(batches)):
            if poller.should_stop():
                seconds = time.perf_counter() - started
                return PartialEpoch(steps=step, seconds=seconds, totals=accumulator.totals(run.train_labels))
            batch, own = batches[step], rank_batches[step]
            run.optimizer.zero_grad()
            if len(own.rows):  # a small last batch may leave nothing for this rank
                mask_BU = _draw_mask(run, epoch=epoch, step=step, num_faces=len(batch))
                logits_BK = run.free(own.mix(next(inputs)), mask_BU)
                loss_sum = own.loss(run.loss, logits_BK, run.train_labels, run.train_targets)
                (loss_sum / len(batch)).backward()  # type: ignore[no-untyped-call]
                accumulator.add(step, own.rows, logits_BK.detach(), loss_sum.detach())
            learning_rate = _step(run, step=(epoch - 1) * len(batches) + step, steps_per_epoch=len(batches))
    totals = _check_finite(accumulator.totals(run.train_labels), run, epoch=epoch, part="training")
    return _TrainingPass(totals=totals, learning_rate=learning_rate, seconds=time.perf_counter() - started)


def _draw_mask(run: TrainingRun, *, epoch: int, step: int, num_faces: int) -> Tensor | None:
    """This rank's rows of the dropout mask that is drawn for the whole batch."""
    mask_BU = draw_dropout_mask(
        num_faces, run.free.head.num_units, dropout=run.recipe.dropout, seed=run.recipe.seed, epoch=epoch, step=step
    )
    return None if mask_BU is None else to_device(mask_BU[run.ranks.own_part(num_faces)], run.device)


def _step(run: TrainingRun, *, step: int, steps_per_epoch: int) -> float:
    """Update the weights, alike on all ranks; returns the head's learning rate."""
    parameters = list(run.free.parameters())
    sum_gradients(parameters, run.ranks)
    if run.recipe.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(parameters, run.recipe.gradient_clip)
    learning_rate = set_learning_rate(run.optimizer, run.recipe, step=step, steps_per_epoch=steps_per_epoch)
    run.optimizer.step()
    return learning_rate


def _validate(run: TrainingRun, epoch: int, poller: InterruptionPoller) -> PassTotals:
    """One pass over the validation faces, by plain cross-entropy, so that runs with all kinds of losses compare."""
    own = run.ranks.own_part(len(run.validation_labels))
    batches = validation_batches(own.start, own.stop)
    accumulator = _make_accumulator(run, steps=1)
    with torch.no_grad(), closing(run.inputs.validation(batches)) as inputs:
        for rows, features_BDHW in zip(batches, inputs, strict=True):
            poller.show_progress()
            logits_BK = run.free(features_BDHW)
            labels_B = to_device(torch.from_numpy(run.validation_labels[rows]), run.device)
            accumulator.add(0, rows, logits_BK, cross_entropy_sum(logits_BK, labels_B))
    return _check_finite(accumulator.totals(run.validation_labels), run, epoch=epoch, part="validation")


def _make_accumulator(run: TrainingRun, *, steps: int, earlier: PassTotals | None = None) -> PassAccumulator:
    return PassAccumulator(
        steps=steps, num_classes=run.num_classes, ranks=run.ranks, device=run.device, earlier=earlier
    )


def _check_finite(totals: PassTotals, run: TrainingRun, *, epoch: int, part: str) -> PassTotals:
    """The same totals, if the loss of every step is finite; a loss that is only large may decrease again."""
    wrong = np.flatnonzero(~np.isfinite(totals.losses))
    if len(wrong):
        place = f"{part}, step {wrong[0] + 1} of {len(totals.losses)}"
        raise _diverged(run.recipe, epoch, place, f"the loss is {totals.losses[wrong[0]]:g}")
    return totals


def _diverged(recipe: Recipe, epoch: int, place: str, what: str) -> DivergedError:
    way_out = f"Lower learning_rate, now {recipe.learning_rate:g}, or set gradient_clip, now {recipe.gradient_clip}"
    return DivergedError(f"diverged in epoch {epoch}, {place}", what, way_out)
