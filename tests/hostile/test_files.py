"""Files that somebody else made, 60 variants of each kind: an answer or a `FerrayError`, nothing opened outside.

`make fuzz` draws a million of the same.
"""

import logging
from collections.abc import Iterator

import pytest
from hostile.cases import Parser
from hostile.parsers import CASES, make_parser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferray.model.backbones import BACKBONES

SHARE = st.floats(0, 1, exclude_max=True)
EDITS = st.lists(st.tuples(SHARE, SHARE, SHARE), min_size=1, max_size=6)
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=CASES)
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    """Each of them; trunks have few channels while one is in use."""
    trunks = dict(BACKBONES)
    logging.disable()  # each broken file is a warning
    yield make_parser(request.param, tmp_path_factory.mktemp(request.param))
    logging.disable(logging.NOTSET)
    BACKBONES.update(trunks)


def test_a_hostile_file_is_answered_or_refused_with_a_way_out_and_nothing_else_is_opened(parser: Parser) -> None:
    assert all(map(parser.one_case, parser.seeds))

    @QUICK
    @given(SHARE, EDITS)
    def edited(place: float, edits: list[tuple[float, float, float]]) -> None:
        parser.one_case(parser.file_of(place, edits))

    @settings(QUICK, max_examples=20)
    @given(st.binary(max_size=200))
    def of_no_form(data: bytes) -> None:
        parser.one_case(data)

    edited()
    of_no_form()
