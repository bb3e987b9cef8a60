"""What `--dry-run` prints of a plan: where, what, how much work. Begin at `describe_plan`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from ferray.records.points import rank_trials
from ferray.report.results.edges import Edge, edge_to_json
from ferray.report.wording import setting_text
from ferray.search.forecast import make_forecast
from ferray.search.history.points import MAX_LISTED, describe_additions
from ferray.search.history.recorded import History
from ferray.search.history.resume import MORE
from ferray.search.outcome.finals import rank_search
from ferray.search.plan import Plan
from ferray.search.work import Work, count_work, max_epochs, new_points, num_new_points, num_new_trials
from ferray.space import num_existing_points
from ferray.wording import count_of, duration_text

MAX_RANKED = 2000
"""Trials on record whose best point is looked for; to read the records of so many takes a second."""

_KEPT = {"refit": "the winner is trained once more on the training split", "best-fold": "its best fold is kept"}


def describe_plan(plan: Plan, history: History | None = None) -> Iterator[str]:
    """The lines of `--dry-run`: where, what, every new point that is known in advance, and how much work that is.

    Args:
        plan: What was asked for.
        history: The records of the search that is resumed; None for a new one.
    """
    yield from _describe_inputs(plan)
    yield from _describe_method(plan)
    for edge in _find_edges(plan, history):
        yield f"edge      {edge.sentence()}"
        yield f"          {edge.way_out(plan)}"
    total = plan.num_points
    if plan.additions is not None:
        first, *others = describe_additions(plan.additions, plan.space, max_listed=MAX_LISTED)
        yield f"new       {first}"
        yield from (f"          {line}" for line in others)
        total = plan.additions.num_new
    if total == 0:
        yield f"nothing   {MORE}"
        return
    work, num_trials = count_work(plan, total), num_new_trials(plan)
    if num_trials is not None:
        num_epochs = num_trials * max_epochs(plan)
        yield f"work      at most {num_epochs:,} epochs over the training split; {_describe_passes(work)}"
    forecast = make_forecast(plan, work, num_trials=num_trials)
    yield f"workers   {forecast.workers}"
    yield f"cache     {forecast.cache}"
    yield f"time      {forecast.time}"
    if forecast.cost is not None:
        yield f"cost      about {forecast.cost:.2f}, at {plan.price:g} an hour"
    yield from _list_points(plan, total)


def plan_to_json(plan: Plan, history: History | None = None) -> dict[str, Any]:
    """The same as one JSON object, arguments as for `describe_plan`; `points` are the first new ones."""
    total = num_new_points(plan)
    work, num_trials = count_work(plan, total), num_new_trials(plan)
    points = (
        []
        if plan.space.is_adaptive
        else islice(new_points(plan), MAX_LISTED if total is None else min(total, MAX_LISTED))
    )
    return {
        "state": "planned",
        "name": plan.run.name,
        "folder": str(plan.run.folder),
        "metric": plan.space.metric.name,
        "goal": plan.space.metric.goal,
        "method": plan.space.method,
        "new_points": total,
        "new_trials": num_trials,
        "max_epochs": max_epochs(plan),
        "views": None if work is None else len(work.views),
        "free_epochs": None if work is None else work.free_epochs,
        "points": [{name: point[name] for name in plan.space.searched} for point in points],
        "edges": [edge_to_json(plan, edge) for edge in _find_edges(plan, history)],
        **asdict(make_forecast(plan, work, num_trials=num_trials)),
    }


def _describe_inputs(plan: Plan) -> Iterator[str]:
    space = plan.space
    yield f"search    {plan.run.name}: {space.method}, best {space.metric.name} ({space.metric.goal})"
    yield f"folder    {plan.run.folder}"
    yield f"data      {plan.data or 'demo faces, drawn by code: their accuracy means nothing for real ones'}"
    yield f"weights   {plan.weights}"
    if plan.settings:
        note = "" if plan.additions is None else " (those of the search stay, --set replaces)"
        yield f"settings  {', '.join(plan.settings)}{note}"


def _find_edges(plan: Plan, history: History | None) -> Sequence[Edge]:
    """Where the best point so far lies on an edge of what was tried and of what is still to be tried."""
    if history is None or len(history.decisions.ended()) > MAX_RANKED or not rank_trials(history.records):
        return ()
    return rank_search(plan, history.records).edges


def _describe_method(plan: Plan) -> Iterator[str]:
    space, total = plan.space, plan.num_points
    count = f"{total}" if total is not None else "without end (neither run_cap nor --max-trials ends them)"
    existing = num_existing_points(space)
    asked = {"run_cap": space.run_cap, "--max-trials": plan.max_trials}
    above = [f"{name} {limit}" for name, limit in asked.items() if existing is not None and (limit or 0) > existing]
    if above and total == existing:
        count = f"{total} (of {' and '.join(above)}: the space has no more points)"
    yield f"trials    {count}, at most {max_epochs(plan)} epochs each"
    if space.folds > 1:
        yield f"folds     {space.folds} trials a point, ranked by their mean; then {_KEPT[plan.keep]}"
    if plan.replicates > 1:
        ends = " to the last epoch" if plan.num_completions else ""
        yield f"finals    the best {plan.finalists} points with {plan.replicates} seeds each{ends}; the best mean wins"
    if plan.deadline is not None:
        yield f"limit     no point is begun after {duration_text(plan.deadline - time.monotonic())}; the others end"
    if space.early_terminate is not None:
        halving = space.early_terminate
        rungs = ", ".join(map(str, halving.rungs_below(max_epochs(plan))))
        where = f"after epochs {rungs}, by {halving.eta:g}" if rungs else "at no epoch: its first comes too late"
        yield f"stopping  successive halving {where}"


def _list_points(plan: Plan, total: int | None) -> Iterator[str]:
    """The first points; a searcher that learns does not know them yet."""
    if plan.space.is_adaptive:
        yield "points    suggested one after the other, by what the earlier ones came to"
        return
    additions = plan.additions
    before = 0 if additions is None else additions.num_known + len(additions.left_out)
    listed = islice(new_points(plan), min(10 if total is None else total, MAX_LISTED))
    for number, point in enumerate(listed, start=before):
        yield f"{number:5}  " + "  ".join(f"{name}={setting_text(name, point[name])}" for name in plan.space.searched)
    if total is None or total > MAX_LISTED:
        yield f"  ...  {'without end' if total is None else f'{total - MAX_LISTED} more'}"


def _describe_passes(work: Work | None) -> str:
    """The trunk's part of the work: passes over all faces, shared by all trials, and free epochs."""
    if work is None:
        return "a frozen trunk runs once a view, not once a trial"
    words = [f"{count_of(len(work.views), 'pass', 'passes')} of the frozen trunk"] if work.views else []
    return " and ".join(
        [*words, f"{count_of(work.free_epochs, 'epoch')} with free layers"] if work.free_epochs else words
    )
