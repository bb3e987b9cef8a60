"""What is changed in Tune."""

from collections.abc import Iterator

import pytest
from ray.tune import registry

import ferray.search.tuner  # noqa: F401  it changes the registry

NAME = ("__test__", "of ferray")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    registry._global_registry.unregister(*NAME)


def test_tunes_registry_remembers_what_it_was_asked_for_until_that_is_registered_anew() -> None:
    book = registry._global_registry
    assert not book.contains(*NAME)
    book.register(*NAME, ["first"])
    assert book.contains(*NAME)
    held = book.get(*NAME)
    assert held == ["first"]
    assert book.get(*NAME) is held, "not unpickled again"

    book.register(*NAME, ["second"])
    assert book.contains(*NAME)
    assert book.get(*NAME) == ["second"]

    book.unregister(*NAME)
    assert not book.contains(*NAME)
