"""What the page says, part by part, as values for its template. Begin at `make_content`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.data.store.reader import Store
from ferray.data.subject import EXPRESSIONS, Subject
from ferray.errors import FerrayError
from ferray.report.page.chart import Chart, TextTable
from ferray.report.page.charts.epochs import curve_charts, progress_charts
from ferray.report.page.charts.model import gap_chart, reliability_chart
from ferray.report.page.charts.parallel import parallel_chart
from ferray.report.page.charts.settings import importance_chart, noise_note
from ferray.report.page.data import DataNotes, describe_data
from ferray.report.page.heat import (
    ConfusionTable,
    HeatTable,
    confusion_table,
    frequent_confusions,
    heat_tables,
)
from ferray.report.page.notes import (
    Command,
    calibration_note,
    commands_of,
    cost_figures,
    cost_note,
    cost_table,
    edge_commands,
    importance_note,
    importance_warning,
    slices_note,
    slices_table,
    stopped_note,
)
from ferray.report.page.pictures import PictureGroup, picture_groups
from ferray.report.page.trials import folder_link, trials_table
from ferray.report.page.winner import Figure, comparisons_of, figures_of, why_untested, winner_settings
from ferray.report.results.cost import measure_cost
from ferray.report.results.early import cut_in_words
from ferray.report.results.importance import measure_importance
from ferray.report.results.noise import find_noise, indifferent_settings
from ferray.report.results.pairs import make_pairs
from ferray.report.results.read import SearchResults
from ferray.report.results.recalls import recall_sentences
from ferray.report.results.scales import make_scales
from ferray.report.results.sentences import three_sentences
from ferray.report.wording import in_words, setting_text
from ferray.wording import count_of, utc_now

MAX_OPEN = 8
"""Tables of pairs of settings that are shown at once, those of the most important settings."""

COMMON = ("backbone", "freeze", "optimizer", "seed", "image_size")
"""Settings that the head of the page names where all trials have the same."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """The parts of the page, in their order."""

    name: str
    subtitle: str
    written: str
    warnings: Sequence[str]
    winner_title: str
    figures: Sequence[Figure]
    comparisons: Sequence[str]
    winner_settings: Sequence[tuple[str, str, bool]]
    """Setting, value, and whether it was searched."""
    best_link: str
    sentences: Sequence[str]
    edge_commands: Sequence[Command]
    heats: Sequence[HeatTable]
    more_heats: Sequence[HeatTable]
    heat_note: str
    cut: str
    """Why points have fewer epochs than others; empty where none has."""
    charts: dict[str, Chart]
    importance_note: str
    importance_warning: str
    confusion: ConfusionTable | None
    confusions: Sequence[tuple[str, str, int, float]]
    recalls: Sequence[str]
    """Which classes the best model knows, in sentences."""
    test_missing: str
    calibration_note: str
    slices: TextTable | None
    slices_note: str
    pictures: Sequence[PictureGroup]
    data: DataNotes
    cost: Sequence[tuple[str, str]]
    cost_table: TextTable
    cost_note: str
    trials: dict[str, Any]
    commands: Sequence[Command]
    versions: Sequence[tuple[str, str]]


def make_content(results: SearchResults, *, out: Path, pictures: bool) -> Content:
    """All parts of the page.

    Args:
        results: The search.
        out: The page, for links from it.
        pictures: Whether it has pictures of the data.
    """
    warnings = list(results.unread)
    store = _open_store(results, warnings)
    shown_pictures = _pictures(results, store, warnings) if pictures else []
    noise = find_noise(results)
    scales = make_scales(results.points, results.searched)
    indifferent = [] if noise is None else indifferent_settings(results.points, scales, noise)
    importance = measure_importance(results.points, results.searched)
    shares = {} if importance is None else importance.shares
    by_importance = sorted(scales, key=lambda scale: -shares.get(scale.name, 0.0))
    cut = cut_in_words(results.points)
    heats = heat_tables(make_pairs(results.points, by_importance, noise), maximize=results.maximize, cut=cut)
    cost = measure_cost(results.search, results.records)
    score = results.test_score
    charts = [
        parallel_chart(results, scales, noise),
        None if importance is None else importance_chart(importance),
        *progress_charts(results),
        *curve_charts(results),
        gap_chart(results),
        None
        if results.calibration is None or not results.calibration.before.bins
        else reliability_chart(results.calibration),
    ]
    return Content(
        name=results.run.name,
        subtitle=_subtitle(results),
        written=utc_now().replace("T", " ").removesuffix("+00:00") + " UTC",
        warnings=[*_state_warnings(results), *warnings],
        winner_title="The winner" if results.is_finished or not results.points else "The best so far",
        figures=figures_of(results, noise),
        comparisons=comparisons_of(results),
        winner_settings=winner_settings(results),
        best_link=folder_link(results.run.best_dir, out=out) if score is not None or results.is_finished else "",
        sentences=three_sentences(results, noise, indifferent) if results.points else [],
        edge_commands=edge_commands(results, indifferent),
        heats=heats[:MAX_OPEN],
        more_heats=heats[MAX_OPEN:],
        heat_note=" ".join(filter(None, (stopped_note(results), noise_note(noise)))),
        cut=cut,
        charts={chart.key: chart for chart in charts if chart is not None},
        importance_note=importance_note(importance, results),
        importance_warning=importance_warning(importance),
        confusion=None if score is None else confusion_table(score.scores),
        confusions=[] if score is None else frequent_confusions(score.scores),
        recalls=[] if score is None else recall_sentences(score.scores, _subject(results)),
        test_missing=why_untested(results),
        calibration_note=calibration_note(results),
        slices=slices_table(results),
        slices_note=slices_note(results),
        pictures=shown_pictures,
        data=describe_data(results.search.data.folder, results.manifest, store),
        cost=cost_figures(cost),
        cost_table=cost_table(cost),
        cost_note=cost_note(cost),
        trials=trials_table(results, out=out),
        commands=commands_of(results),
        versions=list((results.search.versions or {}).items()),
    )


def _subject(results: SearchResults) -> Subject:
    return EXPRESSIONS if results.manifest is None else results.manifest.shown


def _open_store(results: SearchResults, warnings: list[str]) -> Store | None:
    try:
        return results.open_store()
    except FerrayError as error:
        warnings.append(f"The store cannot be opened: {error.args[1]}.")
        return None


def _pictures(results: SearchResults, store: Store | None, warnings: list[str]) -> list[PictureGroup]:
    if store is None:
        warnings.append("There are no pictures, since the store cannot be read.")
        return []
    try:
        return picture_groups(results.run.best_dir, store, has_test_score=results.test_score is not None)
    except FerrayError as error:
        warnings.append(f"There are no pictures: {error.args[1]}.")
        return []


def _subtitle(results: SearchResults) -> str:
    search, space = results.search, results.space
    method = {"grid": "Grid search", "random": "Random search", "bayes": "Bayesian search (TPE)"}[space.method]
    halving = " with successive halving" if space.early_terminate is not None else ""
    size = f"{count_of(len(results.records), 'trial')} of {count_of(len(results.points), 'point')}"
    trained = _trained_in_words(results)
    return f"{method}{halving} on {search.data.title}: {size}, by {in_words(results.metric)}{trained}"


def _trained_in_words(results: SearchResults) -> str:
    """What all trials have in common of what people ask for first."""
    values = {name: {getattr(record.recipe, name) for record in results.records} for name in COMMON}
    shared = {name: found.pop() for name, found in values.items() if len(found) == 1}
    size = f"{shared.pop('image_size')} pixels" if "image_size" in shared else ""
    words = [f"{in_words(name)} {setting_text(name, value)}" for name, value in shared.items()]
    return "".join(f"; {word}" for word in [", ".join([*words, *filter(None, [size])])] if word)


def _state_warnings(results: SearchResults) -> list[str]:
    warnings = []
    if not results.is_finished:
        states: dict[str, int] = {}
        for record in results.records:
            states[record.state] = states.get(record.state, 0) + 1
        counts = ", ".join(f"{num:,} {state}" for state, num in states.items()) or "no trial yet"
        warnings.append(
            f"This search has not ended ({counts}); what leads now may not win. Go on: {results.run.resume_command}"
        )
    failed = sum(record.state == "failed" for record in results.records)
    if failed:
        text = f"{failed:,} of {count_of(len(results.records), 'trial')} failed; the table of trials has the reasons."
        warnings.append(f"{text} Run them again: {results.run.resume_command} --retry")
    if results.search.data.dataset == "demo":
        warnings.append("These are demo faces, drawn by code: a score on them means nothing for real ones.")
    return warnings
