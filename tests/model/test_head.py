"""The head: its shapes, its first weights, its dropout."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ferray.model.head import Head, draw_dropout_mask
from ferray.model.randomness import Purpose, make_generator, make_seed

FEATURES = torch.rand(5, 16, 2, 2)


def make_head(*, seed: int = 0, **settings: Any) -> Head:
    usual = {"pooling": "flatten", "hidden_units": 8}
    return Head((16, 2, 2), 7, generator=make_generator(seed, Purpose.HEAD), **(usual | settings))


@pytest.mark.parametrize("hidden_units", [None, 8])
@pytest.mark.parametrize("pooling, in_units", [("average", 16), ("flatten", 64)])
def test_every_form_of_head_gives_a_logit_a_class(pooling: str, in_units: int, hidden_units: int | None) -> None:
    head = make_head(pooling=pooling, hidden_units=hidden_units)

    assert head(FEATURES).shape == (5, 7)
    assert head.num_units == (hidden_units or in_units)
    assert (head.hidden or head.output).in_features == in_units


def test_average_pooling_is_the_mean_over_the_places() -> None:
    head = make_head(pooling="average", hidden_units=None)
    by_hand = FEATURES.mean(dim=(2, 3)) @ head.output.weight.T + head.output.bias

    torch.testing.assert_close(head(FEATURES), by_hand)


def test_flattened_features_do_not_depend_on_their_order_in_memory() -> None:
    head = make_head()

    torch.testing.assert_close(head(FEATURES.to(memory_format=torch.channels_last)), head(FEATURES))


def test_half_precision_features_are_computed_with_in_float32() -> None:
    assert make_head()(FEATURES.half()).dtype == torch.float32


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make_head(seed=3).state_dict()
    torch.manual_seed(2)
    again, other = make_head(seed=3).state_dict(), make_head(seed=4).state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_the_first_weights_have_torchs_own_range() -> None:
    weight = make_head(hidden_units=400).hidden.weight
    bound = 64**-0.5

    assert weight.abs().max() <= bound
    assert float(weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_a_dropout_mask_keeps_the_expectation() -> None:
    mask = draw_dropout_mask(400, 100, dropout=0.3, seed=0, epoch=1, step=0)

    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert mask.mean() == pytest.approx(1, abs=0.02)


def test_a_dropped_unit_does_not_reach_the_logits() -> None:
    head = make_head()
    mask = torch.zeros(5, 8)

    torch.testing.assert_close(head(FEATURES, mask), head.output.bias.expand(5, 7))


def test_without_dropout_there_is_no_mask() -> None:
    assert draw_dropout_mask(4, 4, dropout=0.0, seed=0, epoch=1, step=0) is None


def test_a_mask_depends_on_seed_epoch_and_step_and_on_nothing_before() -> None:
    def draw(**place: int) -> torch.Tensor:
        return draw_dropout_mask(4, 50, dropout=0.5, **({"seed": 0, "epoch": 1, "step": 0} | place))

    first = draw()
    others = [draw(seed=1), draw(epoch=2), draw(step=1)]
    assert torch.equal(first, draw())
    assert not any(torch.equal(first, other) for other in others)


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.sampled_from(Purpose), st.integers(0, 99)), unique=True))
def test_streams_of_different_places_have_different_seeds(places: list[tuple[int, Purpose, int]]) -> None:
    assert len({make_seed(*place) for place in places}) == len(places)


def test_a_channel_that_is_almost_always_0_makes_no_outliers() -> None:
    head = make_head(standardizes=True)
    variance = torch.full((16,), 100.0)
    variance[0] = 0.0
    head.set_scale(torch.zeros(16), variance)

    assert head.deviation[1:].flatten().tolist() == pytest.approx([10.0] * 15, rel=1e-2)
    assert head.deviation[0].item() == pytest.approx(10 / 32, rel=0.1)
    assert torch.isfinite(head(FEATURES)).all()
