"""A comparison of searches in sentences, for the terminal and the page. Begin at `contrast_sentences`."""

from collections.abc import Mapping

from ferray.audit.finding import listed
from ferray.metrics.intervals import range_text
from ferray.recipe import MetricName, is_maximized
from ferray.report.results.compared.coinciding import Coinciding
from ferray.report.results.compared.comparison import SearchComparison
from ferray.report.results.compared.winners import Contrast
from ferray.report.wording import in_words
from ferray.wording import count_of, duration_text

ONE_SEED = "An interval covers the choice of pictures; how much another seed moves a score is not in it."
BEST_OF_MANY = (
    "Each winner was chosen for its score on these pictures, so every score is too high on average, most where most"
    " points were tried; the corrected scores are not."
)


def contrast_sentences(comparison: SearchComparison) -> list[str]:
    """Which winner is better than which, one sentence or two each."""
    titles = {one.letter: one.title for one in comparison.searches}
    if not comparison.contrasts:
        return ["Fewer than two searches have a score, so there is nothing to compare yet."]
    return [_contrast(one, titles) for one in comparison.contrasts]


def verdict_sentences(comparison: SearchComparison) -> list[str]:
    """What a comparison comes to: which winner is better, and what each search spent to be equally good."""
    milestones = comparison.milestones
    if not milestones or any(one.outcome == "not comparable" for one in comparison.contrasts):
        return contrast_sentences(comparison)
    common = max((one.common.score for one in milestones), key=comparison.searches[0].cost)
    spent = [
        f"{one.letter} {count_of(one.common.epochs, 'epoch')} and {duration_text(one.common.seconds)}"
        for one in milestones
    ]
    reached = f"To reach {in_words(comparison.metric)} {common:.4f}, as all did, it took {listed(spent)} of training."
    if any(record.recipe.freeze != "none" for one in comparison.searches for record in one.records):
        reached += " That counts computing the features of frozen layers only where the cache did not have them yet."
    return [*contrast_sentences(comparison), reached]


def luck_sentences(comparison: SearchComparison) -> list[str]:
    """Why searches with the same winner have different corrected scores."""
    sentences = []
    standings = {one.letter: one for one in comparison.standings if one is not None}
    for one in comparison.contrasts:
        lucks = [standings[letter].corrected for letter in sorted((one.better, one.other))]
        if one.outcome != "the same trials" or None in lucks or lucks[0] == lucks[1]:
            continue
        sizes = {search.letter: len(search.results.points) for search in comparison.searches}
        first, second = sorted((one.better, one.other))
        sentences.append(
            f"{first} and {second} have the same winner but different corrected scores: how much of it is luck is"
            f" estimated from all scores of a search, of {count_of(sizes[first], 'point')} in {first} and"
            f" {sizes[second]:,} in {second}, those that were stopped early as they stood."
        )
    return sentences


def coinciding_sentence(found: Coinciding, metric: MetricName) -> str:
    """What the points that two searches share say."""
    points = count_of(len(found.points), "point")
    better = "better" if is_maximized(metric) == (found.mean > 0) else "worse"
    amount = f"{found.letter} is {better} than {found.first} by {amount_text(abs(found.mean), metric)} on average"
    if found.repetition == "the same trials":
        if found.largest == 0:
            return f"{points} of {found.letter} and {found.first} are the same trials, with equal scores."
        return (
            f"{points} of {found.letter} and {found.first} are the same trials, trained twice; their scores differ by"
            f" {amount_text(found.largest, metric)} at most."
        )
    head = f"{points} have the same settings in {found.letter} and {found.first}, trained as other runs"
    if found.interval is None:
        return f"{head}: {amount}; one point has no interval."
    low, high = found.interval
    sure = "within noise" if low <= 0 <= high else "beyond noise"
    return f"{head}: {amount}, {_interval_of(found.interval, metric)}: {sure}."


def amount_text(value: float, metric: MetricName) -> str:
    """A difference: `1.8 points` of a share, `0.0180` of a loss."""
    return f"{100 * value:.1f} points" if is_maximized(metric) else f"{value:.4f}"


def _contrast(one: Contrast, titles: Mapping[str, str]) -> str:
    better, other, measure = titles[one.better], titles[one.other], in_words(one.measure)
    if one.outcome == "not comparable":
        return f"{better} and {other} are not comparable: {one.note}."
    if one.outcome == "the same trials":
        return f"{better} and {other} have the same winner, trained by the same trials."
    ahead = f"{amount_text(one.difference, one.measure)} of {measure}"
    if one.interval is None:
        return f"{better} is ahead of {other} by {ahead}; whether that is more than chance is not known: {one.note}."
    how = (
        f"picture by picture over {count_of(one.groups, 'photograph')}, {count_of(one.seeds, 'seed')} each"
        if one.basis == "paired"
        else "approximately"
    )
    if one.outcome == "better":
        low, high = one.interval
        scale, digits = (100, 1) if is_maximized(one.measure) else (1, 4)
        unit = "points of " if scale == 100 else ""
        reach = f"{scale * one.difference:.{digits}f} +- {scale * (high - low) / 2:.{digits}f} {unit}{measure}"
        text = f"{better} is better than {other} by {reach} ({how})."
    else:
        first = f"{better} is ahead by {ahead}" if one.difference else f"both have the same {measure}"
        interval = _interval_of(one.interval, one.measure).replace("interval", "interval of the difference")
        text = f"{better} and {other} are not distinguishable: {first}, {interval} ({how})."
    if one.is_approximate:
        text += (
            f" Only approximate, by the separate intervals of both, which is too cautious for two models on the same"
            f" pictures: {one.note}."
        )
    return text


def _interval_of(interval: tuple[float, float], metric: MetricName) -> str:
    low, high = interval
    if is_maximized(metric):
        return f"95 % interval {range_text((100 * low, 100 * high), 1, sign='+')} points"
    return f"95 % interval {range_text(interval, 4, sign='+')}"
