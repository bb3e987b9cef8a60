"""What a search says before anything is started: what it searches, on what, how long it takes and what that costs."""

from collections.abc import Iterator

from ferray.data.store.reader import Store
from ferray.search.forecast import Forecast
from ferray.search.history.points import describe_additions
from ferray.search.plan import DEMO_COMMAND, Plan


def first_lines(plan: Plan, store: Store, forecast: Forecast) -> Iterator[str]:
    """The lines, for stderr.

    Args:
        plan: The search.
        store: What it is made on.
        forecast: How long it takes.
    """
    total, manifest = plan.num_points, store.manifest
    if store.is_demo:
        yield f"demo faces, drawn by code: accuracy on them means nothing for real ones. Real data: {DEMO_COMMAND}"
    settings = f", with {', '.join(plan.settings)}" if plan.settings else ""
    yield f"search {plan.run.name}: {total if total is not None else 'unlimited'} points of {plan.space.file}{settings}"
    if plan.additions is not None:
        yield from describe_additions(plan.additions, plan.space)
    faces = manifest.split_sizes
    held_out = f"{faces['test']:,} held-out test {manifest.shown.nouns}"
    yield f"{faces['train']:,} training, {faces['validation']:,} validation, {held_out}"
    yield f"cache: {forecast.cache}"
    yield f"time: {forecast.time}"
    if forecast.cost is not None and plan.price is not None:
        yield f"cost: about {forecast.cost:.2f}, at {plan.price:g} an hour"
