"""What a search came to in three sentences: what won, whether it lies on an edge, and what makes no difference.

Begin at `three_sentences`.
"""

from collections.abc import Sequence
from contextlib import suppress

from ferray.audit.finding import listed
from ferray.errors import FerrayError
from ferray.metrics.intervals import range_text
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.report.results.noise import Noise, find_noise, indifferent_settings
from ferray.report.results.read import SearchResults, read_results
from ferray.report.results.scales import Scale, make_scales
from ferray.report.wording import in_words, setting_text


def three_sentences(results: SearchResults, noise: Noise | None, indifferent: Sequence[Scale]) -> list[str]:
    """The outcome of a search that has at least one point with a score.

    Args:
        results: The search.
        noise: Of the winner.
        indifferent: Settings that make no difference beyond it.
    """
    return [_winner(results), edges_in_words(results, indifferent), _indifference(results, noise, indifferent)]


def on_indifference(results: SearchResults) -> tuple[str, list[str]]:
    """The third of the sentences alone, and the names of the settings that make no difference beyond noise."""
    noise = find_noise(results)
    scales = make_scales(results.points, results.searched)
    indifferent = [] if noise is None else indifferent_settings(results.points, scales, noise)
    return _indifference(results, noise, indifferent), [scale.name for scale in indifferent]


def recorded_indifference(run: Run, records: Sequence[TrialRecord]) -> tuple[str, list[str]]:
    """The same of a search that is on record; nothing where no setting was searched, or the records cannot be read.

    Args:
        run: Its folder.
        records: All trials.
    """
    with suppress(FerrayError):
        results = read_results(run, records=records)
        if results.searched:
            return on_indifference(results)
    return "", []


def settings_in_words(results: SearchResults) -> str:
    """The searched settings of the best point: `learning rate 1e-3, dropout 0.5`."""
    recipe = results.points[0].recipe
    return ", ".join(f"{in_words(name)} {setting_text(name, getattr(recipe, name))}" for name in results.searched)


def _winner(results: SearchResults) -> str:
    point, score = results.points[0], in_words(results.metric)
    best = point.best_trial().best()
    assert best is not None, "points have a score"
    num = len(point.records)
    who = f"Trial {point.number}" if num == 1 else f"The point of trial {point.number}"
    reached = f"{score} {point.mean:.4f} in epoch {best.epoch}"
    if num > 1:
        reached = f"mean {score} {point.mean:.4f} over {num} trials"
    among = f", the best of {len(results.points):,} points" if len(results.points) > 1 else ""
    settings = settings_in_words(results)
    return f"{who} {'won' if results.is_finished else 'leads so far'}: {reached}{among}" + (
        f", with {settings}." if settings else "."
    )


def edges_in_words(results: SearchResults, indifferent: Sequence[Scale]) -> str:
    """The second of the sentences: the edges on which the winner lies, of the settings that make a difference."""
    if not results.searched:
        return "Nothing was searched, so no setting lies on an edge."
    if not results.edges:
        return "The winner lies on no edge of the values that were tried."
    names = {scale.name for scale in indifferent}
    places = [edge.place() for edge in results.edges if edge.name not in names]
    if not places:
        return "The winner lies on an edge only of settings that make no difference that this search could see."
    return f"The winner lies on an edge of what was tried; better values may lie beyond: {listed(places)}."


def _indifference(results: SearchResults, noise: Noise | None, indifferent: Sequence[Scale]) -> str:
    if len(results.points) < 2:
        return "There is one point only, so nothing can be said of single settings."
    if noise is None:
        return "How far chance moves a score is not known here, so no setting can be said to make no difference."
    words = f"the 95 % interval of the winner, {range_text(noise.interval, 3)}"
    if not indifferent:
        return f"No setting can be called indifferent: each has a value of which no point lies within {words}."
    names = listed([scale.title for scale in indifferent])
    verb = "makes" if len(indifferent) == 1 else "make"
    return (
        f"{names[0].upper()}{names[1:]} {verb} no difference beyond noise that this search could see: with each value,"
        f" some point lies within {words}."
    )
