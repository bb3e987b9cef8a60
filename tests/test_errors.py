"""Promises of the errors: they reach the driver from any process, and read as place, fault and way out."""

import pickle
import re

import pytest

from ferray import errors
from ferray.errors import FerrayError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FerrayError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling(kind: type[FerrayError]) -> None:
    error = kind("grid.yaml:3", "learning_rate is 10", "Lower it")

    back = pickle.loads(pickle.dumps(error))

    assert type(back) is kind
    assert back.args == error.args
    assert str(back) == "grid.yaml:3: learning_rate is 10\n  Lower it"


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_is_the_tree(kind: type[FerrayError]) -> None:
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__
    (base,) = kind.__bases__
    branch = "" if base is FerrayError else "│   "
    assert kind is FerrayError or re.search(
        rf"{base.__name__}.*\n(.*\n)*? *{branch}[├└]── {kind.__name__} ", errors.__doc__
    )
    assert kind.__module__ == "ferray.errors"
