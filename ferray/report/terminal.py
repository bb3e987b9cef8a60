"""Scores, audits and slices as text of at most 80 columns. Begin at `format_scores`."""

import textwrap
from collections.abc import Sequence

from ferray.audit.finding import SEVERITIES, Finding
from ferray.audit.score.audit import Audit
from ferray.audit.score.claims import Claim, Published
from ferray.data.subject import EXPRESSIONS, Subject
from ferray.metrics.intervals import bracket_text, range_text
from ferray.metrics.names import SCORE_TITLES
from ferray.metrics.scores import Scores
from ferray.report.many_classes import lowest_recalls
from ferray.report.slices import MIN_FACES, Slice, worst_in_words, worst_slice
from ferray.report.test_split.recorded import RecordedScore
from ferray.report.wording import in_words
from ferray.wording import columns_of, count_of, pad_text, short_names

_MAX_COLUMNS = 80
_MAX_ROWS = 30
"""Classes that are listed."""
_MAX_NAME = 40
"""Columns of a class name."""

_BASELINES = (("majority", "majority"), ("constant_guess", "constant"), ("chance", "chance"))

_LEGEND = (
    "majority: always the most frequent training class; constant: the best constant prediction; chance: equal"
    " probabilities; one-vs-rest and binary accuracy count every class of every face: they are not top-1 accuracy"
)


def format_scores(
    scores: Scores, title: str, *, recorded: RecordedScore | None = None, shown: Subject = EXPRESSIONS
) -> str:
    """Every score under its name with its interval, the baselines' scores under the same name, and the recalls.

    Args:
        scores: The scores.
        title: What was scored.
        recorded: The record that the scores are from; None for new scores.
        shown: What the pictures show.
    """
    size = f"{count_of(scores.num_faces, shown.noun)} of {count_of(scores.num_groups, 'photograph')}"
    lines = [*_wrap(title), size]
    if recorded is not None:
        lines += _wrap(f"read at {recorded.read_at}; readings of this test split so far: {recorded.num_readings}")
    baselines = [(name, values) for key, name in _BASELINES if (values := scores.baselines[key]) is not None]
    lines += ["", f"{'':<20} {'score':>6}  {'95 % interval':<16}" + "".join(f" {name:>10}" for name, _ in baselines)]
    for key, score_title in SCORE_TITLES.items():
        value = scores.values[key]
        if value is None:
            lines.append(f"{score_title:<20} {'-':>6}  needs probabilities")
            continue
        cells = "".join(f" {values[key]:>10.4f}" for _, values in baselines)
        lines.append(f"{score_title:<20} {value:.4f}  {range_text(scores.intervals[key])}{cells}")
    lines += ["", *textwrap.wrap(shown.reword(_LEGEND), _MAX_COLUMNS)]
    lines += ["", *_recalls(scores, shown)]
    if recorded is not None and recorded.calibration is not None:
        calibration = recorded.calibration
        errors = f"{calibration.before.ece:.3f} before, {calibration.after.ece:.3f} after"
        lines += ["", f"temperature {calibration.temperature:.3f}: expected calibration error {errors}"]
    return "\n".join(lines)


def _recalls(scores: Scores, shown: Subject) -> list[str]:
    """The recall of each class; of many classes, those with the lowest."""
    places = lowest_recalls(scores, _MAX_ROWS)
    short = short_names(scores.class_names, _MAX_NAME)
    names = [short[place] for place in places]
    width = max(12, *map(columns_of, names))
    wide = max(7, len(shown.nouns))
    lines = [f"{'class':<{width}} {shown.nouns:>{wide}}  recall  95 % interval"]
    for name, place in zip(names, places, strict=True):
        recall, interval = scores.recalls[place], scores.recall_intervals[place]
        cells = "-" if recall is None or interval is None else f"{recall:.3f}   {range_text(interval, 3)}"
        lines.append(f"{pad_text(name, width)} {scores.class_counts[place]:>{wide},}  {cells}")
    if len(places) < len(scores.class_names):
        num = f"{len(places)} of {len(scores.class_names):,}"
        lines += _wrap(f"the {num} classes with the lowest recall; --json and metrics.json have all")
    return lines


def format_audit(audit: Audit, title: str) -> str:
    """Scores, claims and findings.

    Args:
        audit: The audit.
        title: What was audited.
    """
    parts = []
    if audit.scores is not None:
        rows = "" if audit.split == "all" else f", {audit.split} rows"
        parts.append(format_scores(audit.scores, f"{title}{rows}"))
    if audit.claims:
        parts.append(_claims(audit.claims, audit.published))
    parts += [_finding(finding) for finding in audit.findings]
    counts = [(kind, sum(finding.severity == kind for finding in audit.findings)) for kind in SEVERITIES]
    summary = ", ".join(f"{num} {kind}{'s' * (num != 1)}" for kind, num in counts if num)
    return "\n\n".join([*parts, summary or "no reason to distrust the score was found"])


def format_slices(slices: Sequence[Slice], title: str, shown: Subject = EXPRESSIONS) -> str:
    """The slices by column, and the worst one in words.

    Args:
        slices: Slices of one split.
        title: The model and the split.
        shown: What the pictures show.
    """
    lines = _wrap(f"{title}; slices overlap, and those below {MIN_FACES} {shown.nouns} are not shown")
    column, short = "", dict[str, str]()
    for one in slices:
        if one.column != column:
            values = [other.value for other in slices if other.column == one.column]
            short = dict(zip(values, short_names(values, 18), strict=True))
            column, wide = one.column, max(6, len(shown.nouns))
            title = in_words(column)[: 24 - wide]
            head = f"{title:<{24 - wide}} {shown.nouns:>{wide}} top-1 95 % interval  at equal labels"
            lines += ["", f"{head:<67} {'gap':>6} part"]
        standardized = f"{one.standardized:.3f} {bracket_text(one.standardized_interval, 3)}"
        lines.append(
            f"{pad_text(short[one.value], 18)} {one.n:>6,} {one.accuracy:.3f} {range_text(one.interval, 3)}"
            f" {standardized} {one.gap:+z.3f} {one.covered:>4.0%}"
        )
    worst = worst_in_words(worst_slice(slices), shown).replace("**", "")
    legend = (
        "At equal labels, each class's recall has the weight of the class in the whole split. Classes without faces in"
        " the slice are left out on both sides of the gap; `part` is the share of the whole split's labels that is"
        " left."
    )
    return "\n".join(
        [*lines, "", textwrap.fill(worst, _MAX_COLUMNS), "", textwrap.fill(shown.reword(legend), _MAX_COLUMNS)]
    )


def _claims(claims: Sequence[Claim], published: Sequence[Published]) -> str:
    """Which scores each claimed number could be."""
    lines = [f"{'claimed':<9} {'as top-1, at n':<20} {'if one-vs-rest:':<17} {'if binary:':<14} as top-1, its"]
    lines.append(f"{'':<9} {'95 % interval':<20} {'top-1 of':<17} {'top-1 of':<14} one-vs-rest is")
    for claim in claims:
        interval = "n not known" if claim.interval is None else range_text(claim.interval)
        other = "impossible" if claim.if_one_vs_rest is None else f"{claim.if_one_vs_rest:.3f}"
        binary = "impossible" if claim.if_binary is None else range_text(claim.if_binary, 2)
        lines.append(f"{claim.text:<9} {interval:<20} {other:<17} {binary:<14} {claim.one_vs_rest:.4f}")
    if published:
        lines += ["", "published top-1 accuracies:"]
        for one in published:
            lines += _wrap(f"  {one.name:<10} {range_text((one.low, one.high), 3)}  {one.source}", indent=" " * 29)
    return "\n".join(lines)


def _wrap(text: str, *, indent: str = "  ") -> list[str]:
    """Lines of at most `_MAX_COLUMNS`; the first keeps its own indent and its runs of spaces."""
    return textwrap.wrap(text, _MAX_COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _finding(finding: Finding) -> str:
    """A finding: what was seen, why it matters, what to do, examples."""
    lines = [f"{finding.severity}: {finding.id}"]
    for text in (finding.seen, finding.matters, f"-> {finding.advice}"):
        lines += textwrap.wrap(text, _MAX_COLUMNS, initial_indent="  ", subsequent_indent="  ")
    if finding.examples:
        lines += textwrap.wrap(f"for example {', '.join(finding.examples)}", _MAX_COLUMNS, initial_indent="  ")
    return "\n".join(lines)
