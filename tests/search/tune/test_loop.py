"""What is changed in Tune."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ray.tune import registry
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

import ferray.search.tune.loop  # noqa: F401  it changes the registry and the controller

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


def test_tune_makes_no_texts_of_trials_for_a_snapshot_that_nobody_reads() -> None:
    controller = SimpleNamespace(_trials_to_cache=set(), _trial_metadata={})
    TuneController._mark_trial_to_checkpoint(controller, Trial("of ferray", stub=True, _setup_default_resource=False))
    assert TuneController._get_trial_checkpoints(controller) == {}
