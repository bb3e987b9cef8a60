"""A data set's report as text. Begin at `format_report`."""

import textwrap
from collections.abc import Sequence

from ferray.audit.dataset.check import CopyCounts, DatasetReport
from ferray.audit.finding import Finding, count_severities, share
from ferray.data.store.summary import shorten_classes
from ferray.data.subject import SUBJECTS
from ferray.wording import columns_of, count_of, pad_text, short_names

REPORT_WIDTH = 80
"""Columns of the text."""

FORMS = {
    "store": "a store of ferray's",
    "folders": "photographs in folders by class",
    "expw": "ExpW's layout, photographs and a list of faces",
    "table": "a table of photographs with their labels",
    "csv": "FER2013's layout, a CSV file with one face per row",
}
COPY_KINDS = {
    "bytes": "the same file",
    "pixels": "the same pixels in another file",
    "photograph": "the same photograph, altered",
    "series": "nearly the same: mostly the next frame of one shoot",
    "crop": "the same face, altered",
}


def format_report(report: DatasetReport) -> str:
    """The report as text, the verdict first; at most `REPORT_WIDTH` columns, apart from long names of files."""
    reword = SUBJECTS[report.subject].reword
    parts = [_format_verdict(report), _format_counts(report), reword(_format_copies(report)), _format_leaks(report)]
    parts += [reword(_format_ceiling(report)), *(_format_finding(finding) for finding in report.findings)]
    return "\n\n".join(filter(None, parts))


def _format_verdict(report: DatasetReport) -> str:
    """The verdict, and what was checked."""
    if not report.findings:
        verdict = "No fault, no warning, no note."
    elif report.has_fault:
        verdict = f"A score on this data would be wrong: {count_severities(report.findings)}, listed below."
    else:
        verdict = f"No fault; {count_severities(report.findings)}, listed below."
    return f"{verdict}\n\n{report.place}\n  {FORMS[report.form]}"


def _format_counts(report: DatasetReport) -> str:
    """A table of the number of faces by class and split."""
    faces = count_of(report.num_faces, SUBJECTS[report.subject].noun)
    if report.num_photographs != report.num_faces:
        faces += f" in {count_of(report.num_photographs, 'photograph')}"
    columns = dict(report.counts)
    if list(columns) != ["whole"]:
        classes = next(iter(columns.values()))
        columns["all"] = {name: sum(counts[name] for counts in report.counts.values()) for name in classes}
    totals = {column: sum(counts.values()) for column, counts in columns.items()}
    lines = [faces, ""]
    names, note = shorten_classes(columns.get("all", next(iter(columns.values()))))
    width = max(12, *(min(columns_of(name), REPORT_WIDTH - 16 * len(columns)) for name in names))
    of_all = list(next(iter(columns.values())))
    short = dict(zip(of_all, short_names(of_all, width), strict=True))
    lines.append("".join([f"{'class':{width}}", *(f"{column:>16}" for column in columns)]))
    for name in names:
        cells = [(counts[name], max(totals[column], 1)) for column, counts in columns.items()]
        lines.append(
            "".join(
                [
                    pad_text(short[name], width),
                    *(f"{num:>8,}  {100 * num / total:4.1f} %" for num, total in cells),
                ]
            )
        )
    lines.append("".join([f"{'all':{width}}", *(f"{total:>8,}        " for total in totals.values())]).rstrip())
    return "\n".join([*lines, *note])


def _format_copies(report: DatasetReport) -> str:
    if report.copies is None:
        return "copies: not looked for; faces drawn by code resemble each other without being any"
    lines = _copy_lines(SUBJECTS[report.subject].nouns, report.copies, report.num_faces)
    if report.photograph_copies is not None:
        lines += _copy_lines("photographs", report.photograph_copies, report.num_photographs)
    return "\n".join(lines)


def _copy_lines(what: str, copies: CopyCounts, total: int) -> list[str]:
    if not copies.num_groups:
        lines = [f"copies of {what}: none among {total:,}"]
    else:
        some = share(copies.num_pictures, total)
        groups, mirrored = count_of(copies.num_groups, "group"), count_of(copies.mirrored, "pair")
        lines = [f"copies of {what}: {some}, in {groups}; {mirrored} mirrored"]
    pairs = {words: copies.pairs[kind] for kind, words in COPY_KINDS.items() if kind in copies.pairs}
    pairs |= {"nearly similar enough, not counted": copies.borderline} if copies.borderline else {}
    lines += [f"  {num:>8,} {'pair ' if num == 1 else 'pairs'}  {words}" for words, num in pairs.items()]
    if copies.capped:
        lines.append(f"  {copies.capped:>8,} {what} resemble many others; only the most similar were compared")
    if copies.chained:
        lines.append(f"  {copies.chained:>8,} {what} resemble others in chains, too many to be copies; not counted")
    return lines


def _format_leaks(report: DatasetReport) -> str:
    if not report.leaks:
        return ""
    nouns = SUBJECTS[report.subject].nouns
    lines = ["matches across splits (copies, frames of one series, the same photograph)"]
    lines += [
        f"  {leak.later} {nouns} with a match in {leak.earlier}: {share(leak.num, leak.num_later)}"
        for leak in report.leaks
    ]
    return "\n".join(lines)


def _format_ceiling(report: DatasetReport) -> str:
    if report.ceiling is None:
        has_copies = report.copies is not None and report.copies.num_groups
        why = "the labels of these copies are not independent" if has_copies else "there are no copies"
        return f"noise ceiling: cannot be measured, {why}"
    indent = " " * 37  # below the figures of the table
    lines = f"noise ceiling: {report.ceiling}".splitlines()
    return "\n".join(part for line in lines for part in textwrap.wrap(line, REPORT_WIDTH, subsequent_indent=indent))


def _format_finding(finding: Finding) -> str:
    lines = [f"{finding.severity.upper():8}{finding.id}"]
    for words, text in (("seen", finding.seen), ("why", finding.matters), ("do", finding.advice)):
        lines += _wrap(f"{words:6}", text)
    for place, example in enumerate(finding.examples):
        lines += _wrap("e.g.  " if place == 0 else " " * 6, example)
    return "\n".join(lines)


def _wrap(head: str, text: str) -> Sequence[str]:
    indent = " " * (2 + len(head))
    return textwrap.wrap(
        text,
        REPORT_WIDTH,
        initial_indent=f"  {head}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
