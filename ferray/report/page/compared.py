"""What the page of a comparison says, part by part, as values for its template. Begin at `make_compared_content`."""

from collections.abc import Sequence
from dataclasses import dataclass

from ferray.metrics.intervals import bracket_text
from ferray.report.page.chart import Chart, TextTable
from ferray.report.page.charts.compared import compared_charts
from ferray.report.page.winner import Figure
from ferray.report.results.compared.budgets import Budget
from ferray.report.results.compared.comparison import SearchComparison
from ferray.report.results.compared.searches import ComparedSearch
from ferray.report.results.compared.sentences import (
    BEST_OF_MANY,
    ONE_SEED,
    coinciding_sentence,
    luck_sentences,
    verdict_sentences,
)
from ferray.report.results.compared.winners import Standing
from ferray.report.wording import in_words
from ferray.wording import count_of, utc_now

MAX_SHARED = 100
"""Points that the table of shared points lists."""


@dataclass(frozen=True, kw_only=True)
class SearchFigure(Figure):
    """The large number of one search."""

    letter: str


@dataclass(frozen=True, kw_only=True)
class ComparedContent:
    """The parts of the page, in their order."""

    name: str
    subtitle: str
    written: str
    warnings: Sequence[str]
    figures: Sequence[SearchFigure]
    verdict: Sequence[str]
    """What it comes to, at its head."""
    sentence_notes: Sequence[str]
    differing: TextTable
    equal: Sequence[tuple[str, str]]
    winners: TextTable
    winners_note: str
    winner_settings: Sequence[tuple[str, str]]
    progress_title: str
    milestones: TextTable | None
    """What each search spent until it was as good as itself, and as all; None for stages."""
    budgets: TextTable
    budgets_note: str
    charts: dict[str, Chart]
    shared_title: str
    """Empty for the stages of one search."""
    shared_sentences: Sequence[str]
    shared: TextTable | None


def make_compared_content(comparison: SearchComparison) -> ComparedContent:
    """All parts of the page."""
    searches, found = comparison.searches, comparison.differences
    letters = [one.letter for one in searches]
    score = in_words(comparison.metric)
    has_interval = any(one.interval is not None for one in comparison.contrasts)
    pairs = list(zip(searches, comparison.standings, strict=True))
    return ComparedContent(
        name=_name(comparison),
        subtitle=f"By {score}; the test split was not read for this page",
        written=utc_now().replace("T", " ").removesuffix("+00:00") + " UTC",
        warnings=comparison.warnings,
        figures=[_figure(search, standing) for search, standing in pairs],
        verdict=list(map(_typeset, verdict_sentences(comparison))),
        sentence_notes=[*luck_sentences(comparison), *([ONE_SEED, BEST_OF_MANY] if has_interval else [])],
        differing=TextTable(
            head=("", *(one.title for one in searches)), rows=[(one.name, *one.values) for one in found.differing]
        ),
        equal=[(one.name, one.values[0]) for one in found.equal],
        winners=TextTable(
            head=("search", "trial", score, "95 % interval", "corrected", "test accuracy on record"),
            rows=[_winner_row(search, standing) for search, standing in pairs],
            caption="The winners",
        ),
        winners_note=_winners_note(comparison.standings),
        winner_settings=[
            (f"Settings of {search.letter}", standing.settings)
            for search, standing in pairs
            if standing is not None and standing.settings
        ],
        progress_title="What each stage had spent" if comparison.are_stages else "The best so far, at equal budget",
        milestones=_milestones(comparison) if comparison.milestones else None,
        budgets=TextTable(
            head=("", *([] if comparison.are_stages else ["equal budget"]), *_budget_head(comparison, letters)),
            rows=[_budget_row(one, comparison) for one in comparison.budgets],
            caption="Best scores and budgets",
        ),
        budgets_note=f"Best {score} of one trial. Seconds are of training, with the features of"
        " frozen layers where a search had to compute them: one that found them in the cache was spared that. Trials"
        " that ran side by side count each.",
        charts={chart.key: chart for chart in compared_charts(comparison)},
        shared_title="" if comparison.are_stages else "Points that coincide",
        shared_sentences=[coinciding_sentence(one, comparison.metric) for one in comparison.coinciding]
        or ["None: no point of one search has the settings of one of another."],
        shared=_shared_table(comparison),
    )


def _typeset(text: str) -> str:
    return text.replace(" +- ", " \u00b1 ")


def _name(comparison: SearchComparison) -> str:
    if comparison.are_stages:
        return f"{comparison.searches[0].results.run.name}, before and after it grew"
    return " and ".join(one.name for one in comparison.searches)


def _figure(search: ComparedSearch, standing: Standing | None) -> SearchFigure:
    size = f"{count_of(len(search.results.records), 'trial')} of {count_of(len(search.results.points), 'point')}"
    interval = "" if standing is None or standing.interval is None else bracket_text(standing.interval, 3)
    return SearchFigure(
        letter=search.letter,
        label=f"{search.letter} · {search.name}",
        value="none" if standing is None else f"{standing.score:.3f}",
        interval=interval,
        note=f"best {in_words(search.results.metric)}, {size}",
    )


def _winner_row(search: ComparedSearch, one: Standing | None) -> tuple[str, ...]:
    if one is None:
        return (search.title, "", "none", "", "", "")
    interval = "not known" if one.interval is None else bracket_text(one.interval, 3) + (" *" if one.is_rough else "")
    corrected = (
        "" if one.corrected is None else f"{one.corrected.corrected:.4f} {bracket_text(one.corrected.interval, 3)}"
    )
    tested = one.test_accuracy
    test = "" if tested is None or one.test_interval is None else f"{tested:.3f} {bracket_text(one.test_interval, 3)}"
    return (search.title, str(one.number), f"{one.score:.4f}", interval, corrected, test)


def _winners_note(standings: Sequence[Standing | None]) -> str:
    rough = any(one is not None and one.is_rough for one in standings)
    note = "Corrected: without the luck of having been chosen as the best of many."
    return note + (" * A binomial interval, from the number of pictures alone." if rough else "")


def _milestones(comparison: SearchComparison) -> TextTable:
    titles = {one.letter: one.title for one in comparison.searches}
    return TextTable(
        head=("search", "its best", "trials", "epochs", "seconds", "what all reached", "trials", "epochs", "seconds"),
        rows=[
            (
                titles[one.letter],
                *(
                    text
                    for step in (one.best, one.common)
                    for text in (f"{step.score:.4f}", f"{step.trials:,}", f"{step.epochs:,}", f"{step.seconds:,.0f}")
                ),
            )
            for one in comparison.milestones
        ],
        caption="What each search spent until then",
    )


def _budget_head(comparison: SearchComparison, letters: Sequence[str]) -> list[str]:
    spent = [f"{letter} in all" for letter in letters]
    return spent if comparison.are_stages else [*letters, *spent]


def _budget_row(one: Budget, comparison: SearchComparison) -> tuple[str, ...]:
    spent = [
        f"{search.steps[-1].score:.4f} with {value:,.0f}"
        for search, value in zip(comparison.searches, one.spent, strict=True)
    ]
    if comparison.are_stages:
        return (one.unit, *spent)
    reached = ["none yet" if step is None else f"{step.score:.4f}" for step in one.reached]
    return (one.unit, f"{one.equal:,.0f}", *reached, *spent)


def _shared_table(comparison: SearchComparison) -> TextTable | None:
    rows = [
        (
            f"{one.first} {point.one}, {one.letter} {point.other}",
            one.repetition,
            f"{point.epochs}",
            f"{point.difference:+z.4f}",
        )
        for one in comparison.coinciding
        for point in one.points
    ]
    if not rows:
        return None
    head = ("trials", "which are", "epochs", f"difference of {in_words(comparison.metric)}")
    left_out = len(rows) - MAX_SHARED
    caption = f"The points; {left_out:,} more are in --json" if left_out > 0 else "The points"
    return TextTable(head=head, rows=rows[:MAX_SHARED], caption=caption)
