"""The first part of the page: the winner, its scores, and what they are compared with. Begin at `figures_of`."""

from dataclasses import dataclass

from ferray.metrics.intervals import bracket_text
from ferray.metrics.names import SCORE_TITLES
from ferray.recipe import to_values
from ferray.report.results.noise import Noise
from ferray.report.results.read import SearchResults
from ferray.report.wording import in_words, setting_text


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One of the large numbers at the top."""

    label: str
    value: str
    interval: str
    note: str


def figures_of(results: SearchResults, noise: Noise | None) -> list[Figure]:
    """The test score, the corrected validation score, and the score as measured.

    Args:
        results: The search.
        noise: Of the winner.
    """
    figures = []
    if results.test_score is not None:
        scores = results.test_score.scores
        nouns = "pictures" if results.manifest is None else results.manifest.shown.nouns
        figures.append(
            Figure(
                label="Test accuracy",
                value=f"{scores.accuracy:.3f}",
                interval=bracket_text(scores.intervals["accuracy"], 3),
                note=f"on {scores.num_faces:,} {nouns} not used to choose"
                if len(results.search.test_readings) <= 1
                else f"on {scores.num_faces:,} {nouns}, read {len(results.search.test_readings)} times",
            )
        )
    else:
        figures.append(Figure(label="Test accuracy", value="none", interval="", note=why_untested(results)))
    metric = in_words(results.metric)
    verdict = results.verdict
    if verdict is not None and verdict.luck is not None and verdict.was_chosen:
        figures.append(
            Figure(
                label=f"{metric.capitalize()}, corrected",
                value=f"{verdict.luck.corrected:.3f}",
                interval=bracket_text(verdict.luck.interval, 3),
                note=f"without the luck of having been chosen as the best of {verdict.num_points or 'many'}",
            )
        )
    if results.points:
        point = results.points[0]
        note = "one seed: how much another one moves it is not known"
        if point.spread is not None:
            note = f"mean of {len(point.records)} trials (seeds, folds), ± {point.spread:.3f} between them"
        if noise is None:
            note += "; its interval is not known"
        elif noise.is_rough:
            note += "; a rough interval, from the number of pictures alone"
        figures.append(
            Figure(
                label=f"{metric.capitalize()}, as measured",
                value=f"{point.mean:.3f}",
                interval="" if noise is None else bracket_text(noise.interval, 3),
                note=note,
            )
        )
    return figures


def comparisons_of(results: SearchResults) -> list[str]:
    """What the winner is compared with: the next point, baselines, readings of the test split."""
    reword = str if results.manifest is None else results.manifest.shown.reword
    lines = (
        []
        if results.verdict is None
        else [_sentence(reword(line)) for line in results.verdict.lines(in_words(results.metric))]
    )
    score = results.test_score
    if score is not None:
        baselines = {
            "majority": "always the most frequent training class",
            "constant_guess": "the best constant answer",
            "chance": "chance",
        }
        values = [
            f"{text} {guess['accuracy']:.3f}"
            for key, text in baselines.items()
            if (guess := score.scores.baselines[key]) is not None
        ]
        others = [f"{SCORE_TITLES[key]} {value:.3f}" for key, value in score.scores.values.items() if value is not None]
        lines.append(f"Test accuracy without looking at the pictures: {', '.join(values)}.")
        lines.append(f"Other scores on the test split: {', '.join(others[1:])}. They are not top-1 accuracy.")
    readings = len(results.search.test_readings)
    if readings:
        more = " Whoever saw the earlier ones may have searched further because of them." if readings > 1 else ""
        lines.append(f"The search has read its test split {'once' if readings == 1 else f'{readings} times'}.{more}")
    if results.verdict is None and results.points:
        lines.append(
            "How sure the winner is was not computed, as where the trunk is trained with one seed."
            if results.is_finished
            else "How sure the best point is will be computed when the search ends."
        )
    return lines


def winner_settings(results: SearchResults) -> list[tuple[str, str, bool]]:
    """The kept trial's settings, the searched ones first."""
    if results.kept is None:
        return []
    values = {name: setting_text(name, value) for name, value in to_values(results.kept.recipe).items()}
    best = results.kept.best()
    epoch = "none" if best is None else f"{best.epoch} of {len(results.kept.epochs)}"
    number = str(results.kept.number)
    if results.points and results.kept not in results.points[0].records:
        number += " (on the whole split)"  # the refit after folds
    searched = [("trial", number, True), ("best epoch", epoch, True)]
    searched += [(in_words(name), values[name], True) for name in results.searched]
    rest = [(in_words(name), text, False) for name, text in values.items() if name not in results.searched]
    return [*searched, *rest]


def why_untested(results: SearchResults) -> str:
    """Why there is no test score; empty where there is one."""
    if results.test_score is not None:
        return ""
    if not results.is_finished:
        return "the search has not ended, and the test split is read once, at its end"
    if results.manifest is not None and not results.manifest.split_sizes["test"]:
        return "the store has no test split"
    return "the test split was not read for this model"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
