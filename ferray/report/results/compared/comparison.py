"""What several searches, or one before and after it grew, come to side by side. Begin at `compare_searches`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ferray.recipe import MetricName
from ferray.report.results.compared.budgets import Budget, Milestones, find_budgets, find_milestones
from ferray.report.results.compared.coinciding import Coinciding, find_coinciding
from ferray.report.results.compared.differences import Differences, Property, find_differences
from ferray.report.results.compared.searches import ComparedSearch, share_validation
from ferray.report.results.compared.winners import Contrast, Standing, compare_winners, standing_of
from ferray.report.wording import in_words


@dataclass(frozen=True, kw_only=True)
class SearchComparison:
    """All parts of a comparison, in the order in which they are shown."""

    searches: Sequence[ComparedSearch]
    warnings: tuple[str, ...]
    """What a reader must know first."""
    differences: Differences
    standings: tuple[Standing | None, ...]
    """By search; None where no trial has a score."""
    contrasts: tuple[Contrast, ...]
    """The best winner against each other."""
    budgets: tuple[Budget, ...]
    milestones: tuple[Milestones, ...]
    """By search; none where a search has no score, and for stages."""
    coinciding: tuple[Coinciding, ...]

    @property
    def metric(self) -> MetricName:
        """By which all are ranked, that of the first."""
        return self.searches[0].results.metric

    @property
    def maximize(self) -> bool:
        """Whether a larger value of it is better."""
        return self.searches[0].results.maximize

    @property
    def are_stages(self) -> bool:
        """Whether they are one search before and after it grew."""
        return self.searches[0].is_stage

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "metric": self.metric,
            "maximize": self.maximize,
            "warnings": list(self.warnings),
            "searches": [_search_to_json(one) for one in self.searches],
            "differing": _properties_to_json(self.differences.differing, self.searches),
            "equal": {one.name: one.values[0] for one in self.differences.equal},
            "winners": [None if one is None else asdict(one) for one in self.standings],
            "contrasts": [asdict(one) | {"approximate": one.is_approximate} for one in self.contrasts],
            "best_so_far": {one.letter: [asdict(step) for step in one.steps] for one in self.searches},
            "equal_budgets": [asdict(one) | {"equal": one.equal} for one in self.budgets],
            "milestones": [asdict(one) for one in self.milestones],
            "coinciding": [asdict(one) | {"mean": one.mean, "interval": one.interval} for one in self.coinciding],
        }


def compare_searches(searches: Sequence[ComparedSearch]) -> SearchComparison:
    """Compare searches, or the stages of one, from `read_compared`."""
    return SearchComparison(
        searches=searches,
        warnings=tuple(_warnings(searches)),
        differences=find_differences(searches),
        standings=tuple(map(standing_of, searches)),
        contrasts=tuple(compare_winners(searches)),
        budgets=tuple(find_budgets(searches)),
        milestones=tuple(find_milestones(searches)),
        coinciding=tuple(find_coinciding(searches)),
    )


def _warnings(searches: Sequence[ComparedSearch]) -> list[str]:
    first, found = searches[0], []
    apart = [one.title for one in searches[1:] if not share_validation(first.results, one.results)]
    if apart:
        found.append(
            f"Scores of {', '.join(apart)} do not compare with those of {first.title}: they are of different validation"
            " pictures."
        )
    other_metrics = [one for one in searches if one.own_metric != first.own_metric]
    found += [
        f"{one.title} was made for {in_words(one.own_metric)}; here its trials are ranked by"
        f" {in_words(first.own_metric)}, as those of {first.title}."
        for one in other_metrics
    ]
    found += [
        f"{one.title} has not ended; what leads in it may not win."
        for one in searches
        if not one.results.is_finished and (not one.is_stage or one is searches[-1])
    ]
    found += [f"{one.title}: {text}" for one in searches[-1:] if one.is_stage for text in one.results.unread]
    found += [f"{one.title}: {text}" for one in searches if not one.is_stage for text in one.results.unread]
    if any(one.results.search.data.dataset == "demo" for one in searches):
        found.append("These are demo faces, drawn by code: a score on them means nothing for real ones.")
    return found


def _search_to_json(search: ComparedSearch) -> dict[str, Any]:
    results = search.results
    return {
        "letter": search.letter,
        "name": search.name,
        "folder": str(results.run.folder),
        "metric": search.own_metric,
        "trials": len(results.records),
        "points": len(results.points),
        "finished": results.is_finished,
    }


def _properties_to_json(found: Sequence[Property], searches: Sequence[ComparedSearch]) -> dict[str, dict[str, str]]:
    letters = [one.letter for one in searches]
    return {one.name: dict(zip(letters, one.values, strict=True)) for one in found}
