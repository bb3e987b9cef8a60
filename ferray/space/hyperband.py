"""W&B's `early_terminate`: the epochs after which it judges trials. Begin at `read_hyperband`.

The rungs are those of W&B's scheduler, `hyperband_stopping.py` of its package `sweeps` 0.3.0, lines 136 to 159.
`docs/sweep-files.md` says where ferray differs.
"""

import logging
from collections.abc import Mapping

from ferray.space.definition import Hyperband
from ferray.space.nodes import Node, describe_value

log = logging.getLogger(__name__)

MAX_RUNGS = 100
"""W&B computes no more."""

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")


def read_hyperband(node: Node, epochs: int) -> Hyperband:
    """The rule for stopping early that a file has.

    Args:
        node: The value of `early_terminate`.
        epochs: Of the longest trial.

    Raises:
        SpaceError: Not a rule of W&B's, or one without rungs.
    """
    keys = node.mapping()
    for key, child in keys.items():
        if key not in _KEYS:
            raise child.error("is unknown", "early_terminate has type, min_iter or max_iter and s, eta, strict")
    if "type" not in keys or keys["type"].value != "hyperband":
        found = keys.get("type", node)
        raise found.error(f"is {describe_value(found.value)}, no rule for stopping early", "Write `type: hyperband`")
    _check_strict(keys)
    eta = float(keys["eta"].number()) if "eta" in keys else 3.0
    if eta <= 1:
        raise keys["eta"].error(f"is {eta:g}", "Write a number above 1; 3 is usual")
    if "max_iter" in keys:
        halving = _from_max_iter(node, eta, epochs)
    elif "min_iter" in keys:
        min_iter = keys["min_iter"].integer(at_least=1)
        max_epochs = max(epochs, min_iter)
        halving = Hyperband(rungs=rungs_from_min(min_iter, eta, below=max_epochs), max_epochs=max_epochs, eta=eta)
    else:
        raise node.error("has neither min_iter nor max_iter", "Write min_iter: the first epoch that may be the last")
    _warn_of_ignored_keys(keys, halving, epochs)
    reached = halving.rungs_below(epochs)
    if not reached:
        key = "max_iter" if "max_iter" in keys else "min_iter"
        given = keys[key].value
        log.warning("%s: no trial is stopped early: %s is %d, epochs %d", node.where, key, given, epochs)
    return halving


def rungs_from_max(max_iter: int, num_rungs: int, eta: float) -> tuple[int, ...]:
    """`max_iter / eta`, `max_iter / eta**2`, ..., each without its fraction, in ascending order; none is below 1.

    Args:
        max_iter: No rung itself.
        num_rungs: Largest number of rungs, W&B's `s`.
        eta: Above 1.
    """
    rungs: list[int] = []
    band = float(max_iter)
    for _ in range(num_rungs):
        band /= eta
        if band < 1:
            break
        rungs.append(int(band))
    return tuple(sorted(set(rungs)))


def rungs_from_min(min_iter: int, eta: float, *, below: int) -> tuple[int, ...]:
    """`min_iter`, `min_iter * eta`, `min_iter * eta**2`, ..., each without its fraction, in ascending order.

    Args:
        min_iter: The first.
        eta: Above 1.
        below: All rungs are below it.
    """
    rungs: list[int] = []
    band = float(min_iter)
    for _ in range(MAX_RUNGS):
        if band >= below:
            break
        rungs.append(int(band))
        band *= eta
    return tuple(sorted(set(rungs)))


def _from_max_iter(node: Node, eta: float, epochs: int) -> Hyperband:
    keys = node.mapping()
    if "s" not in keys:
        way_out = "Write s, or min_iter instead of max_iter"
        if "min_iter" in keys:
            way_out = "Leave max_iter out for rungs from min_iter on, or write s"
        raise node.error("has max_iter but not s, the number of rungs", way_out)
    max_iter, num_rungs = keys["max_iter"].integer(at_least=2), keys["s"].integer(at_least=1)
    rungs = rungs_from_max(max_iter, num_rungs, eta)
    if not rungs:
        raise keys["max_iter"].error(f"is {max_iter}, less than eta", "Raise max_iter, or lower eta")
    return Hyperband(rungs=rungs, max_epochs=max(max_iter, epochs), eta=eta)


def _check_strict(keys: Mapping[str, Node]) -> None:
    strict = keys.get("strict")
    if strict is None:
        return
    if not isinstance(strict.value, bool):
        raise strict.error(f"is {describe_value(strict.value)}", "Write true or false")
    if strict.value:
        log.warning("%s: strict: true has no effect: a rung judges a trial by its best epoch so far", strict.where)


def _warn_of_ignored_keys(keys: Mapping[str, Node], halving: Hyperband, epochs: int) -> None:
    """Keys that W&B accepts and does not read, and a `max_iter` that leaves the later epochs without a rung."""
    reached = ", ".join(map(str, halving.rungs_below(epochs))) or "none"
    ignored, used = ("min_iter", "max_iter") if "max_iter" in keys else ("s", "min_iter")
    if ignored in keys:
        what = f"early_terminate.{ignored} has no effect beside {used}, as in W&B: rungs at epochs {reached}"
        log.warning("%s: %s", keys[ignored].where, what)
    elif "max_iter" in keys and (max_iter := keys["max_iter"].value) < epochs:
        what = f"early_terminate.max_iter is {max_iter}, epochs up to {epochs}: rungs only at epochs {reached}"
        log.warning("%s: %s", keys["max_iter"].where, what)
