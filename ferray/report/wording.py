"""Names and values of settings, as people write them, in one form everywhere. Begin at `setting_text`."""

from collections.abc import Iterable
from typing import Any, get_args

from ferray.recipe import Freeze, Policy

EXPONENTIAL = frozenset({"learning_rate", "weight_decay"})
"""Settings that people vary by factors of ten: below 0.1 they have an exponent."""

ORDERED: dict[str, tuple[str, ...]] = {"freeze": get_args(Freeze), "augmentation": get_args(Policy)}
"""Settings of words with an order: by how much of the trunk is frozen, and how strongly pictures are altered."""


def in_words(name: str) -> str:
    """The name of a field or a metric in words: `validation accuracy`."""
    words = name.replace("val_", "validation ").replace("macro_f1", "macro F1").replace("lr_", "learning rate ")
    return words.replace("_", " ")


def setting_text(name: str, value: Any) -> str:
    """A setting as people write it: learning rate `1e-3`, dropout `0.25`, batch size `256`, hidden units `none`.

    The page's script has the same rule for its table of trials.

    Args:
        name: A field of `Recipe`.
        value: A JSON scalar.
    """
    if name in EXPONENTIAL and isinstance(value, float) and 0 < abs(value) < 0.1:
        return exponent_text(value)
    return value_text(value)


def sort_words(name: str, words: Iterable[Any]) -> list[Any]:
    """Values of a setting that are no numbers: by its own order where it has one, else by the alphabet; None last.

    Args:
        name: A field of `Recipe`.
        words: Distinct words, booleans and None.
    """
    order = ORDERED.get(name, ())
    place = {word: number for number, word in enumerate(order)}
    return sorted(words, key=lambda word: (word is None, place.get(word, len(order)), str(word)))


def value_text(value: Any) -> str:
    """A value as people write it, with three digits: `0.001`, `1e-4`, `256`, `none`.

    Args:
        value: A JSON scalar.
    """
    if value is None:
        return "none"
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return exponent_text(value)


def exponent_text(value: float) -> str:
    """A number with an exponent: `1e-3`."""
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
