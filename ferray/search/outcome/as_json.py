"""What a search came to as one JSON object, for programs. Begin at `outcome_to_json`."""

from collections import Counter
from typing import Any

from ferray.records.points import Point
from ferray.report.results.edges import edge_to_json
from ferray.search.open import Search
from ferray.search.outcome.summary import Outcome
from ferray.search.plan import Plan

MAX_POINTS = 5
"""Points in the object; trials.parquet has all trials."""


def outcome_to_json(search: Search, outcome: Outcome, *, tracking: str) -> dict[str, Any]:
    """The best points, how sure the winner is, where it lies on an edge, its test score, and where everything is.

    Args:
        search: The search.
        outcome: What it came to.
        tracking: Where the W&B runs are, in a sentence.
    """
    plan, best, significance = search.plan, outcome.best, outcome.significance
    row = best.record.best()
    return {
        "state": "done",
        "name": plan.run.name,
        "id": search.history.search.id,
        "folder": str(plan.run.folder),
        "address": None if plan.run.address is None else str(plan.run.address),
        "metric": plan.space.metric.name,
        "goal": plan.space.metric.goal,
        "data": search.store.fingerprint,
        "is_demo": search.store.is_demo,
        "trials": dict(Counter(record.state for record in outcome.records)),
        "points": [_point_to_json(plan, point) for point in outcome.ranking.points[:MAX_POINTS]],
        "best": {
            "trial_id": best.record.trial_id,
            "number": best.record.number,
            "epoch": None if row is None else row.epoch,
            "score": best.record.score(),
            "folder": str(plan.run.best_dir),
        },
        "verdict": None if significance is None else significance.to_json(),
        "edges": [edge_to_json(plan, edge) for edge in outcome.ranking.edges],
        "test": None if best.metrics is None else best.metrics.to_json(),
        "wandb": tracking,
    }


def interruption_to_json(plan: Plan) -> dict[str, Any]:
    """A search that was interrupted, and the command that goes on with it."""
    return {
        "state": "interrupted",
        "name": plan.run.name,
        "folder": str(plan.run.folder),
        "address": None if plan.run.address is None else str(plan.run.address),
        "resume": plan.resume_command,
    }


def _point_to_json(plan: Plan, point: Point) -> dict[str, Any]:
    return {
        "number": point.number,
        "score": point.mean,
        "sd": point.spread,
        "trials": [record.trial_id for record in point.records],
        "settings": {name: getattr(point.recipe, name) for name in plan.space.searched},
    }
