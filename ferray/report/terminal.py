"""Scores, audits and slices as text of at most 100 columns. Begin at `format_scores`."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ferray.audit.finding import Finding
from ferray.audit.score.audit import Audit
from ferray.audit.score.claims import Claim, Published
from ferray.metrics.names import NAMES
from ferray.report.axes import in_words
from ferray.report.slices import Slice, worst_in_words, worst_slice

WIDTH = 100

_GUESSES = (("majority", "training majority"), ("constant_guess", "best constant"), ("chance", "equal chances"))


def format_scores(metrics: Mapping[str, Any], title: str) -> str:
    """Every score under its name with its interval, what guesses get under the same name, and the classes' recalls.

    Args:
        metrics: From `Scores.to_json`, or a `metrics.json`.
        title: What was scored.
    """
    guesses = [(key, words) for key, words in _GUESSES if metrics["guesses"][key] is not None]
    lines = [title, f"{metrics['n']:,} faces of {metrics['groups']:,} photographs"]
    if "test_readings" in metrics:
        lines.append(f"read at {metrics['read']}; readings of this test split so far: {metrics['test_readings']}")
    lines += ["", f"{'':<20} {'score':>6}  {'95 % interval':<16}" + "".join(f" {words:>17}" for _, words in guesses)]
    for name in NAMES:
        if metrics[name.key] is None:
            lines.append(f"{name.title:<20} {'-':>6}  needs probabilities")
            continue
        low, high = metrics["intervals"][name.key]
        cells = "".join(f" {metrics['guesses'][key][name.key]:>17.4f}" for key, _ in guesses)
        lines.append(f"{name.title:<20} {metrics[name.key]:.4f}  {low:.4f} to {high:.4f}{cells}")
    lines += ["", "one-vs-rest and binary accuracy count every class of every face: they are not top-1 accuracy"]
    width = max(12, *map(len, metrics["class_names"]))
    lines += ["", f"{'class':<{width}} {'faces':>7}  recall  95 % interval"]
    for place, name in enumerate(metrics["class_names"]):
        recall, interval = metrics["recalls"][place], metrics["recall_intervals"][place]
        shown = "-" if recall is None else f"{recall:.3f}   {interval[0]:.3f} to {interval[1]:.3f}"
        lines.append(f"{name:<{width}} {sum(metrics['confusion'][place]):>7,}  {shown}")
    if metrics.get("temperature") is not None:
        before, after = (metrics["calibration"][when]["ece"] for when in ("before", "after"))
        words = f"expected calibration error {before:.3f} before, {after:.3f} after"
        lines += ["", f"temperature {metrics['temperature']:.3f}: {words}"]
    return "\n".join(lines)


def format_audit(found: Audit, title: str) -> str:
    """Scores, claims and findings.

    Args:
        found: The audit.
        title: What was audited.
    """
    parts = []
    if found.scores is not None:
        of = "" if found.split == "all" else f", {found.split} rows"
        parts.append(format_scores(found.scores.to_json(), f"{title}{of}"))
    if found.claims:
        parts.append(_claims(found.claims, found.published))
    parts += [_finding(finding) for finding in found.findings]
    counts = [(kind, sum(one.severity == kind for one in found.findings)) for kind in ("fault", "warning", "note")]
    told = ", ".join(f"{num} {kind}{'s' * (num != 1)}" for kind, num in counts if num)
    return "\n\n".join([*parts, told or "nothing to doubt was found"])


def format_slices(slices: Sequence[Slice], title: str) -> str:
    """The slices by column, and the worst in words.

    Args:
        slices: Of one split.
        title: What was cut.
    """
    lines = [f"{title}; slices overlap, and those below 30 faces are not shown"]
    column = ""
    for one in slices:
        if one.column != column:
            column = one.column
            head = f"{in_words(column):<28} {'faces':>6}  top-1  95 % interval   at equal labels"
            lines += ["", f"{head:<84} {'gap':>6} labels"]
        low, high = one.standardized_interval
        lines.append(
            f"{one.value[:28]:<28} {one.n:>6,}  {one.accuracy:.3f}  {one.interval[0]:.3f} to {one.interval[1]:.3f}"
            f"  {one.standardized:.3f} [{low:.3f}, {high:.3f}]   {one.gap:+.3f} {one.covered:>6.0%}"
        )
    worst = worst_in_words(worst_slice(slices)).replace("**", "")
    legend = (
        "At equal labels: each class's recall weighs as the class does in the whole split. Classes without faces in the"
        " slice are left out on both sides of the gap; `labels` is the share of the whole split's labels that is left."
    )
    return "\n".join([*lines, "", textwrap.fill(worst, WIDTH), "", textwrap.fill(legend, WIDTH)])


def _claims(claims: Sequence[Claim], published: Sequence[Published]) -> str:
    """What each claimed number could have been."""
    lines = [f"{'claimed':<9} {'as top-1, at n':<20} {'if one-vs-rest:':<17} if binary accuracy:"]
    lines.append(f"{'':<9} {'95 % interval':<20} {'top-1 of':<17} {'top-1 of':<21} as top-1, its one-vs-rest is")
    for claim in claims:
        interval = "n not known" if claim.interval is None else f"{claim.interval[0]:.4f} to {claim.interval[1]:.4f}"
        other = "impossible" if claim.if_one_vs_rest is None else f"{claim.if_one_vs_rest:.3f}"
        binary = "impossible" if claim.if_binary is None else f"{claim.if_binary[0]:.2f} to {claim.if_binary[1]:.2f}"
        lines.append(f"{claim.text:<9} {interval:<20} {other:<17} {binary:<21} {claim.one_vs_rest:.4f}")
    if published:
        lines += ["", "published top-1 accuracies:"]
        lines += [f"  {one.name:<10} {one.low:.3f} to {one.high:.3f}  {one.source}" for one in published]
    return "\n".join(lines)


def _finding(finding: Finding) -> str:
    """A finding in three paragraphs."""
    lines = [f"{finding.severity}: {finding.id}"]
    for text in (finding.seen, finding.matters, f"-> {finding.advice}"):
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
    if finding.examples:
        lines += textwrap.wrap(f"for example {', '.join(finding.examples)}", WIDTH, initial_indent="  ")
    return "\n".join(lines)
