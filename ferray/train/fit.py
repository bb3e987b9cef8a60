"""One training run, epoch by epoch: the same code on one CPU and on eight GPUs; it knows neither Ray nor W&B.

Everything random is a pure function of the recipe's seed and the place (epoch, step, face), so a run has no random
state to save: one that goes on from its last checkpoint ends, on a CPU, with the same bits as one never interrupted,
whether it was left after an epoch or in the middle of one.

Begin at `fit`.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ferray.data.store.reader import Store
from ferray.errors import DivergedError
from ferray.files.storage import Lease
from ferray.metrics import confusion as confusions
from ferray.model.classifier import FreePart, build_free, trunk_tensors
from ferray.model.head import draw_dropout_mask
from ferray.model.randomness import Purpose, make_seed
from ferray.model.weights import Weights
from ferray.recipe import Recipe, trial_id
from ferray.records.trial import METRIC_FIELDS, EpochResult
from ferray.train.checkpoints.checkpoint import NOT_BEGUN, Partial, State, find_last, put_back
from ferray.train.checkpoints.writer import Epochs, Keeper
from ferray.train.features.inputs import Inputs, Rows, open_inputs, order_batches, send
from ferray.train.folds import divide
from ferray.train.losses import TrainingLoss, build_training_loss, cross_entropy_sum
from ferray.train.mixup import cut_batches
from ferray.train.optim import build_optimizer, set_learning_rate
from ferray.train.ranks import ALONE, Ranks, sum_gradients
from ferray.train.tally import Sums, Tally

log = logging.getLogger(__name__)

VALIDATION_BATCH = 32
"""Faces that are validated at once, on each rank."""

ASK_EVERY_S = 1.0
"""About how often a caller is asked whether to leave an epoch in its middle, between its steps."""

ASK_FEATURES_EVERY_S = 1.0
"""About how often while an epoch's features are computed, before its first step."""


class Interrupted(Exception):  # noqa: N818 -- no error: what was trained is kept, and the same call goes on there
    """Training was left in the middle of an epoch because its caller said so."""


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
    lease: Lease | None = None,
    is_interrupted: Callable[[], bool] | None = None,
    save_every_s: float = 0.0,
) -> Epochs:
    """Train; whoever iterates decides after each checkpoint to go on or to stop.

    An epoch is heard of after a checkpoint that holds it is written, or before a fault that has ended the run: then
    whoever goes on trains it again, to the same numbers. A run whose `checkpoints` hold an earlier part of it goes on
    there; where they are damaged, on an earlier one, or from the start. It ends after `recipe.epochs`, or when
    `recipe.patience` has run out.

    Args:
        recipe: Settled: see `ferray.train.settle`.
        store: Its training and validation splits are used, or folds of both, never its test split.
        weights: What the trunk starts from.
        checkpoints: The run's folder, of which only rank 0 reads and writes; None keeps nothing.
        ranks: This process's place; all ranks call with the same other arguments, and iterate in step.
        device: `cpu`, or `cuda`, `cuda:1`, ...
        cache: The node's folder, shared by all runs; None keeps features in memory, with the same numbers.
        recorded_epochs: How many epochs the caller has on record. Later ones that the checkpoint knows of come again
            first; recorded ones that must be trained again, to the same numbers, do not. None for all that the
            checkpoint knows of.
        lease: On `checkpoints`; None where nobody else may take the folder over. Only rank 0's counts.
        is_interrupted: Whether to leave training at once; asked about once a second, between steps on rank 0 alone,
            while features are computed on each rank that has it. The time of an interrupted epoch is that of its parts,
            without what lay between them.
        save_every_s: Epochs that end sooner after the last checkpoint share the next one, since a head's epoch may be
            shorter than the writing of its checkpoint; 0 writes one after each. None waits for the run's end, for
            features that are yet to be computed, or beyond an interruption. Of those that wait when a fault ends a run
            of several ranks nothing is heard, unless all have met the fault, which is a divergence.

    Raises:
        Interrupted: `is_interrupted` said so; the steps so far are in the checkpoint.
        DivergedError: A loss or a score is not finite.
        CheckpointError: The last checkpoint is of another run or version.
        FencedError: Somebody else has taken `checkpoints` over.
        WeightsError: Weights of another backbone.
        DataError: A split without faces, fewer photographs than folds, or a class without the training faces that the
            recipe's class balance needs.
        StorageError: The checkpoints or the cache cannot be written.
    """

    def parts() -> Generator[Sequence[EpochResult], None, None]:
        run = _open_run(recipe, store, weights, ranks=ranks, device=torch.device(device), cache=cache, lease=lease)
        history, partial = _resume(run, checkpoints)
        recorded = len(history) if recorded_epochs is None else recorded_epochs
        yield history[recorded:]
        keeper = Keeper(
            checkpoints,
            run.free,
            run.optimizer,
            history,
            recipe=recipe,
            identity=run.identity,
            ranks=ranks,
            lease=lease,
            every_s=save_every_s,
        )
        for rows in _train_on(run, keeper, partial, _Watch(is_interrupted, ranks)):
            yield [row for row in rows if row.epoch > recorded]

    return Epochs(parts())


def _train_on(
    run: "_Run", keeper: Keeper, partial: Partial, watch: "_Watch"
) -> Generator[Sequence[EpochResult], None, None]:
    """The epochs that are left, by the checkpoints that hold them; arguments and errors as `fit`."""
    while not keeper.is_complete:
        started = time.perf_counter() - partial.seconds
        epoch = keeper.num_epochs + 1
        try:
            trained = _train(run, epoch, partial, watch)
            if isinstance(trained, _Trained):
                result = _make_result(run, epoch, trained, _validate(run, epoch), started=started)
        except Exception as error:
            if run.ranks.world == 1 or isinstance(error, DivergedError):  # else the other ranks may be elsewhere
                yield keeper.waiting  # no checkpoint: the tensors at hand are of a later step, of which nobody knows
            raise
        if isinstance(trained, Partial):
            yield keeper.save(trained if trained.steps > partial.steps else NOT_BEGUN)
            raise Interrupted(f"epoch {epoch} after {trained.steps} steps")
        partial = NOT_BEGUN
        rate, epochs = result.images_per_s, run.recipe.epochs
        log.info("%s: epoch %d of %d, val_loss %.4f, %.0f faces/s", run.identity, epoch, epochs, result.val_loss, rate)
        yield keeper.add(result, at_once=not run.inputs.is_ready(epoch + 1))


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
    lease: Lease | None


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """What a pass over the training faces came to."""

    sums: Sums
    """Seen while training; of mixed faces, the one that prevails."""
    learning_rate: float
    """Of the head, in the last step."""
    seconds: float


def _open_run(
    recipe: Recipe,
    store: Store,
    weights: Weights,
    *,
    ranks: Ranks,
    device: torch.device,
    cache: Path | None,
    lease: Lease | None,
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
        lease=lease,
    )


def _resume(run: _Run, checkpoints: Path | None) -> tuple[list[EpochResult], Partial]:
    """Put the last good checkpoint back, rank 0's on all ranks; no epochs where there is none."""
    found: State | None = None
    with run.ranks.together():
        if checkpoints is not None and run.ranks.is_first:
            found = find_last(checkpoints, recipe=run.recipe, identity=run.identity, lease=run.lease)
    state = run.ranks.from_first(found)
    if state is None:
        return [], NOT_BEGUN
    put_back(state, run.free, run.optimizer)
    log.info("%s: goes on after epoch %d and %d steps", run.identity, len(state.history), state.partial.steps)
    return list(state.history), state.partial


def _make_result(run: _Run, epoch: int, trained: _Trained, validated: Sums, *, started: float) -> EpochResult:
    """What an epoch came to; a DivergedError where a number of it is not finite."""
    result = EpochResult(
        epoch=epoch,
        train_loss=trained.sums.loss,
        train_accuracy=confusions.accuracy(trained.sums.confusion),
        train_balanced_accuracy=confusions.balanced_accuracy(trained.sums.confusion),
        train_macro_f1=confusions.macro_f1(trained.sums.confusion),
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


class _Watch:
    """Asks rank 0 about once a second whether to stop, at steps that all ranks know: the others cost no exchange.

    Args:
        ask: None for never; between steps rank 0's counts.
        ranks: Of which all ask at the same steps.
    """

    def __init__(self, ask: Callable[[], bool] | None, ranks: Ranks) -> None:
        self._ask, self._ranks = ask, ranks
        self._is_used = ranks.from_first(ask is not None)
        self._asked = time.perf_counter()
        self._passed, self._wait = 0, 1  # steps since then, and until the next time

    def leave_if_asked(self) -> None:
        """For long work of each rank by itself, again and again: raises Interrupted where it is to stop."""
        now = time.perf_counter()
        if self._ask is not None and now - self._asked >= ASK_FEATURES_EVERY_S:
            self._asked = now
            if self._ask():
                raise Interrupted

    def says_stop(self) -> bool:
        """Whether to leave training before the step that is about to begin."""
        self._passed += 1
        if not self._is_used or self._passed < self._wait:
            return False
        stop, wait = False, 1
        with self._ranks.together():
            if self._ask is not None and self._ranks.is_first:
                stop = self._ask()
                now = time.perf_counter()
                wait = int(self._wait * ASK_EVERY_S / max(now - self._asked, 1e-9))
                wait, self._asked = max(1, min(wait, 2 * self._wait)), now
        stop, self._wait = self._ranks.from_first((stop, wait))
        self._passed = 0
        return stop


def _train(run: _Run, epoch: int, begun: Partial, watch: _Watch) -> _Trained | Partial:
    """One pass over the training faces, or what is left of it; a part of it where it was interrupted."""
    started = time.perf_counter() - begun.seconds
    is_left = False
    with run.ranks.together():
        try:
            run.inputs.open_epoch(epoch, watch.leave_if_asked)
        except Interrupted:  # on this rank; the others may have been asked later, or have come to the end
            is_left = True
    if run.ranks.any(is_left):
        return begun
    batches = order_batches(run.train_labels, recipe=run.recipe, epoch=epoch)
    portions = cut_batches(batches, recipe=run.recipe, epoch=epoch, ranks=run.ranks)
    tally = _make_tally(run, steps=len(batches), earlier=begun.sums)
    learning_rate = run.recipe.learning_rate
    with closing(run.inputs.train([part.reads for part in portions[begun.steps :] if len(part.rows)])) as inputs:
        for step in range(begun.steps, len(batches)):
            if watch.says_stop():
                seconds = time.perf_counter() - started
                return Partial(steps=step, seconds=seconds, sums=tally.sums(run.train_labels))
            batch, portion = batches[step], portions[step]
            run.optimizer.zero_grad()
            if len(portion.rows):  # a small last batch may leave nothing for this rank
                mask_BU = _draw_mask(run, epoch=epoch, step=step, num_faces=len(batch))
                logits_BK = run.free(portion.mix(next(inputs)), mask_BU)
                loss_sum = portion.loss(run.loss, logits_BK, run.train_labels)
                (loss_sum / len(batch)).backward()  # type: ignore[no-untyped-call]
                tally.add(step, portion.rows, logits_BK.detach(), loss_sum.detach())
            learning_rate = _step(run, step=(epoch - 1) * len(batches) + step, steps_per_epoch=len(batches))
    sums = _finite(tally.sums(run.train_labels), run, epoch=epoch, part="training")
    return _Trained(sums=sums, learning_rate=learning_rate, seconds=time.perf_counter() - started)


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


def _validate(run: _Run, epoch: int) -> Sums:
    """One pass over the validation faces, by plain cross-entropy: runs with all kinds of losses can be compared."""
    own = run.ranks.own_part(len(run.validation_labels))
    rows = np.arange(own.start, own.stop)
    parts = [rows[begin : begin + VALIDATION_BATCH] for begin in range(0, len(rows), VALIDATION_BATCH)]
    tally = _make_tally(run, steps=1)
    with torch.no_grad(), closing(run.inputs.validation(parts)) as inputs:
        for part, features_BDHW in zip(parts, inputs, strict=True):
            logits_BK = run.free(features_BDHW)
            labels_B = send(torch.from_numpy(run.validation_labels[part]), run.device)
            tally.add(0, part, logits_BK, cross_entropy_sum(logits_BK, labels_B))
    return _finite(tally.sums(run.validation_labels), run, epoch=epoch, part="validation")


def _make_tally(run: _Run, *, steps: int, earlier: Sums | None = None) -> Tally:
    return Tally(steps=steps, num_classes=run.num_classes, ranks=run.ranks, device=run.device, earlier=earlier)


def _finite(sums: Sums, run: _Run, *, epoch: int, part: str) -> Sums:
    """Sums of a pass whose every step has a finite loss; one that is only large may come down again."""
    wrong = np.flatnonzero(~np.isfinite(sums.losses))
    if len(wrong):
        place = f"{part}, step {wrong[0] + 1} of {len(sums.losses)}"
        raise _diverged(run.recipe, epoch, place, f"the loss is {sums.losses[wrong[0]]:g}")
    return sums


def _diverged(recipe: Recipe, epoch: int, place: str, what: str) -> DivergedError:
    way_out = f"Lower learning_rate, now {recipe.learning_rate:g}, or set gradient_clip, now {recipe.gradient_clip}"
    return DivergedError(f"diverged in epoch {epoch}, {place}", what, way_out)
