"""Names and values of settings, as people write them. Begin at `in_words` and `value_text`."""

from typing import Any


def in_words(name: str) -> str:
    """The name of a field or a metric in words: `validation accuracy`."""
    words = name.replace("val_", "validation ").replace("macro_f1", "macro F1").replace("lr_", "learning rate ")
    return words.replace("_", " ")


def value_text(value: Any) -> str:
    """A setting as people write it: `0.001`, `1e-4`, `256`, `none`.

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
