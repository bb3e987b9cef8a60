"""Promises of the cost: seconds by state, GPUs by the session in which a trial began."""

import dataclasses
from typing import Any

import pytest
from fixtures.history import make_search_file
from fixtures.records import trial

from ferray.report.results.cost import measure_cost


def session(began: str, **values: Any) -> dict[str, Any]:
    groups = {"num_groups": 2, "workers": 2, "gpus_per_worker": 1.0, **values.pop("groups", {})}
    return {"began": began, "groups": groups, "devices": ["gpu"], **values}


def test_seconds_are_added_up_by_the_state_of_trials() -> None:
    records = [trial(0.1, 0.2, number=0), trial(0.1, number=1, state="stopped"), trial(number=2, state="failed")]
    cost = measure_cost(make_search_file(), [dataclasses.replace(records[0], state="done"), *records[1:]])

    assert cost.by_state == {"done": 1.0, "stopped": 0.5, "failed": 0.0}
    assert (cost.seconds, cost.num_epochs, cost.gpu_seconds, cost.idle) == (1.5, 3, None, None)


def test_gpu_seconds_follow_the_session_in_which_a_trial_began() -> None:
    sessions = [session("2026-01-01"), session("2026-01-03", groups={"workers": 1, "gpus_per_worker": 0.5})]
    records = [
        trial(0.1, number=0, device="NVIDIA H200", began="2026-01-02"),
        trial(0.1, number=1, device="NVIDIA H200", began="2026-01-04"),
        trial(0.1, number=2, device="cpu, 1 threads", began="2026-01-04"),
    ]

    assert measure_cost(make_search_file(sessions=sessions), records).gpu_seconds == pytest.approx(0.5 * 2 + 0.5 * 0.5)


def test_idle_time_is_weighted_by_the_groups_of_a_session() -> None:
    sessions = [
        session("1", utilization=0.5, groups={"num_groups": 1}),
        session("2", utilization=0.9, groups={"num_groups": 3}),
    ]

    assert measure_cost(make_search_file(sessions=sessions), []).idle == pytest.approx((0.5 + 3 * 0.1) / 4)


@pytest.mark.parametrize("value", ["many", None, -1, 1e9, [2]])
def test_an_allocation_that_is_nonsense_counts_as_one_group(value: Any) -> None:
    sessions = [session("1", utilization=0.5, groups={"num_groups": value})]

    assert measure_cost(make_search_file(sessions=sessions), []).idle == 0.5
