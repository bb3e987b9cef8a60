"""What a search says when it is over, on stdout: the best points, how sure the winner is, the one test score.

Begin at `summary`.
"""

from collections.abc import Sequence

from ferray.data.store.reader import Store
from ferray.records.trial import TrialRecord
from ferray.search.outcome.export import Best, short_path
from ferray.search.outcome.finals import Standing
from ferray.search.outcome.significance import Verdict
from ferray.search.plan import DEMO_COMMAND, Plan


def summary(
    plan: Plan,
    store: Store,
    records: Sequence[TrialRecord],
    standing: Standing,
    best: Best,
    verdict: Verdict | None,
    tracking: str,
) -> str:
    """The lines that end a search.

    Args:
        plan: The search.
        store: That it was made on.
        records: All trials.
        standing: The points, ranked.
        best: The trial that was kept, and its test score.
        verdict: How sure the winner is; None where that was not asked.
        tracking: Where the W&B runs are, in a sentence.
    """
    lines = ["", *_best_lines(plan, standing)]
    if verdict is not None:
        lines += [f"  {line}" for line in verdict.lines(plan.space.metric.name)]
    failed = sum(record.state == "failed" for record in records)
    if failed:
        lines.append(f"{failed} of {len(records)} trials failed; the column `reason` of trials.csv says why")
    lines += ["", *_test_lines(plan, store, best), ""]
    lines.append(f"{short_path(plan.run.folder)}/: trials.csv, heatmap.png, curves.png, best/ (model, card, metrics)")
    lines.append(tracking)
    folders = f"{short_path(plan.run.best_dir)} --data {short_path(store.folder)}"
    lines.append(f"score it again: python -m ferray.report evaluate {folders}")
    if store.is_demo:
        lines.append(f"these were demo faces: this accuracy means nothing for real ones. Real data: {DEMO_COMMAND}")
    return "\n".join(lines)


def _test_lines(plan: Plan, store: Store, best: Best) -> list[str]:
    """The one test score and what guessing would score, or why there is none."""
    metrics = best.metrics
    if metrics is None and not any(store.manifest.counts["test"].values()):
        return ["no test split, so no test score"]
    if metrics is None:
        return [
            f"trial {best.record.number} has no test score: the test split was read for another model of this search.",
            f"To read it once more, on record: python -m ferray.search --resume {plan.run.name} --again",
        ]
    low, high = metrics["interval"]
    baselines = metrics["baselines"]
    accuracy = f"{metrics['accuracy']:.4f} [{low:.4f}, {high:.4f}]"
    return [
        f"test accuracy of trial {best.record.number}: {accuracy} on {metrics['n']:,}"
        f" faces; balanced {metrics['balanced_accuracy']:.4f}, macro-F1 {metrics['macro_f1']:.4f}",
        f"  always the most frequent training class: {baselines['majority']:.4f};"
        f" best constant answer: {baselines['constant_guess']:.4f}; chance: {baselines['chance']:.4f}",
    ]


def _best_lines(plan: Plan, standing: Standing) -> list[str]:
    """A table of the five best points; of several trials each, their mean and its spread."""
    metric = plan.space.metric.name
    several = any(len(point.records) > 1 for point in standing.points)
    lines = [f"{'trial':>5}  {metric:>12}  {'+- sd   trials' if several else 'epoch'}  settings"]
    for point in standing.points[:5]:
        best = point.records[0].best()
        assert best is not None
        spread = f"{point.spread:.4f}" if point.spread is not None else ""
        column = f"{spread:>6} {len(point.records):>7}" if several else f"{best.epoch:>5}"
        names = [name for name in plan.space.searched if name != "seed" or not several]
        settings = ", ".join(f"{name} {getattr(point.recipe, name)}" for name in names)
        lines.append(f"{point.number:>5}  {point.mean:>12.4f}  {column}  {settings}")
    return lines
