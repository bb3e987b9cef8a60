"""A comparison of searches as text of at most 80 columns. Begin at `format_comparison`."""

import textwrap
from collections.abc import Iterable, Sequence

from ferray.metrics.intervals import bracket_text
from ferray.report.results.compared.comparison import SearchComparison
from ferray.report.results.compared.sentences import (
    BEST_OF_MANY,
    ONE_SEED,
    coinciding_sentence,
    luck_sentences,
    verdict_sentences,
)
from ferray.report.results.compared.winners import Standing
from ferray.report.results.series import Step
from ferray.report.wording import in_words
from ferray.wording import count_of

_MAX_COLUMNS = 80
_MAX_NAME = 24
"""Characters of the name of a property."""


def format_comparison(comparison: SearchComparison) -> str:
    """The verdict, what differs, the winners, the scores at equal budget, and the points that coincide."""
    lines = [
        *_searches(comparison),
        *(line for text in comparison.warnings for line in _wrap(f"note: {text}", indent="  ")),
        "",
        *(line for text in verdict_sentences(comparison) for line in _wrap(text)),
        "",
        *_differences(comparison),
        "",
        *_winners(comparison),
        "",
        *_budgets(comparison),
    ]
    sentences = [coinciding_sentence(one, comparison.metric) for one in comparison.coinciding]
    if not comparison.are_stages:
        lines += ["", "points that coincide, after equally many epochs:"]
        lines += _listed(sentences or ["none: no point of one search has the settings of one of another"])
    return "\n".join(lines)


def _searches(comparison: SearchComparison) -> list[str]:
    lines = []
    for one in comparison.searches:
        size = f"{count_of(len(one.results.records), 'trial')} of {count_of(len(one.results.points), 'point')}"
        where = "" if one.is_stage else f" ({one.folder})"
        lines += _wrap(f"{one.letter}  {one.name}{where}: {size}", indent="   ")
    return lines


def _differences(comparison: SearchComparison) -> list[str]:
    found = comparison.differences
    if not found.differing:
        return _wrap("nothing that is on record differs")
    lines = ["what differs:"]
    letters = [one.letter for one in comparison.searches]
    width = min(_MAX_NAME, max(len(one.name) for one in found.differing))
    for one in found.differing:
        name = one.name if len(one.name) <= width else f"{one.name[: width - 1]}…"
        for place, (letter, value) in enumerate(zip(letters, one.values, strict=True)):
            head = f"  {name if place == 0 else '':<{width}}  {letter}  "
            lines += _wrap(f"{head}{value}", indent=" " * len(head))
    return [*lines, *_wrap(f"equal: {', '.join(one.name for one in found.equal)}", indent="  ")]


def _winners(comparison: SearchComparison) -> list[str]:
    score = in_words(comparison.metric)
    lines = [f"the winners, by {score}:"]
    head = ("", "trial", "score", "95 % interval", "corrected", "test accuracy")
    rows = [_standing(letter, one) for letter, one in zip(_letters(comparison), comparison.standings, strict=True)]
    lines += _table([head, *rows])
    lines += [
        line
        for letter, one in zip(_letters(comparison), comparison.standings, strict=True)
        if one is not None and one.settings
        for line in _wrap(f"  {letter}  {one.settings}", indent="     ")
    ]
    if any(one is not None and one.is_rough for one in comparison.standings):
        lines += _wrap("  ~ a binomial interval, from the number of pictures alone", indent="  ")
    lines += [line for text in luck_sentences(comparison) for line in _wrap(text)]
    if any(one.interval is not None for one in comparison.contrasts):
        lines += [*_wrap(ONE_SEED), *_wrap(BEST_OF_MANY)]
    return lines


def _letters(comparison: SearchComparison) -> list[str]:
    return [one.letter for one in comparison.searches]


def _standing(letter: str, one: Standing | None) -> tuple[str, ...]:
    if one is None:
        return (letter, "", "none", "", "", "")
    interval = "not known" if one.interval is None else bracket_text(one.interval, 3)
    tested = one.test_accuracy
    test = "" if tested is None or one.test_interval is None else f"{tested:.3f} {bracket_text(one.test_interval, 3)}"
    corrected = "" if one.corrected is None else f"{one.corrected.corrected:.4f}"
    return (letter, str(one.number), f"{one.score:.4f}", ("~" if one.is_rough else "") + interval, corrected, test)


def _budgets(comparison: SearchComparison) -> list[str]:
    if not comparison.budgets:
        return ["no score yet in one of the searches, so none at equal budget"]
    score, letters = in_words(comparison.metric), _letters(comparison)
    if comparison.are_stages:
        rows = [("", *letters), *((one.unit, *(f"{value:,.0f}" for value in one.spent)) for one in comparison.budgets)]
        best = [one.steps[-1].score for one in comparison.searches]
        return [
            "what each stage had spent:",
            *_table([*rows, ("best of one trial", *(f"{value:.4f}" for value in best))]),
        ]
    lines = _wrap(f"the best {score} of one trial at equal budget, and what each search spent in all:")
    budgets = comparison.budgets
    head = (
        "",
        *(count_of(round(one.equal), one.unit[:-1]) for one in budgets),
        "in all:",
        *(one.unit for one in budgets),
    )
    rows = [  # a line for each search: six of them would not fit side by side
        (
            letter,
            *(_reached(one.reached[place]) for one in budgets),
            "",
            *(f"{one.spent[place]:,.0f}" for one in budgets),
        )
        for place, letter in enumerate(letters)
    ]
    return [
        *lines,
        *_table([head, *rows]),
        "",
        "what each spent until its own best, and until the best that all reached:",
        *_milestones(comparison),
    ]


def _milestones(comparison: SearchComparison) -> list[str]:
    head = ("", "its best", "trials", "epochs", "seconds", "for all", "trials", "epochs", "seconds")
    rows = [
        (one.letter, *(text for step in (one.best, one.common) for text in _spent(step)))
        for one in comparison.milestones
    ]
    return _table([head, *rows])


def _spent(step: Step) -> tuple[str, ...]:
    return (f"{step.score:.4f}", f"{step.trials:,}", f"{step.epochs:,}", f"{step.seconds:,.0f}")


def _reached(step: Step | None) -> str:
    return "-" if step is None else f"{step.score:.4f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns to the right, the first to the left, indented."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            f"{text:<{width}}" if place == 0 else f"{text:>{width}}"
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _listed(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in _wrap(f"  {text}", indent="  ")]


def _wrap(text: str, *, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _MAX_COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]
