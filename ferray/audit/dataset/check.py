"""Is a data set fit to be scored on? What it holds, its copies, its leaks, its noise, and every fault that was found.

    report = check(Path("fer2013"))
    print(format_report(report))

Begin at `check`; the faults are in `ferray.audit.dataset.faults`, one function each.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferray.audit.dataset.faults import find_all
from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.dataset.faults.leaks import Relatives, find_relatives
from ferray.audit.dataset.faults.reading import read_evidence
from ferray.audit.dataset.noise_ceiling import Ceiling, measure_ceiling
from ferray.audit.finding import Finding, share
from ferray.data.copies.find import Copies

WIDTH = 92
"""Columns of the text."""

FORMS = {
    "store": "a store of ferray's",
    "folders": "photographs in folders by class",
    "expw": "ExpW's layout, photographs and a list of faces",
    "csv": "FER2013's layout, one row of a CSV file a face",
}
KINDS = {
    "bytes": "the same file",
    "pixels": "the same pixels in another file",
    "photograph": "the same photograph, altered",
    "series": "much the same: mostly the next frame of one shoot",
    "crop": "the same face, altered",
}
MADE_COPIES = {
    "classes-balanced-by-copies",
    "augmented-copies-across-splits",
    "validation-from-copies-of-training",
    "siblings-overwritten",
    "labels-shifted-by-one-row",
}
"""With one of these, the labels of copies are no second opinion, and tell nothing of the noise."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Faces of a split that have a relative in an earlier one."""

    earlier: str
    later: str
    num: int
    """Of the later split's faces, those with a relative."""
    num_later: int
    """All of them."""


@dataclass(frozen=True, kw_only=True)
class CopyCounts:
    """How many copies there are."""

    num_groups: int
    """Groups of two pictures or more."""
    num_pictures: int
    """In those groups."""
    pairs: dict[str, int]
    """Pairs by kind; of n equal files n - 1."""
    mirrored: int
    """Pairs of which one is the other's mirror image."""
    borderline: int
    """Pairs that were nearly found to be copies, and are not counted."""
    capped: int
    """Pictures with so many likenesses that only the closest were compared."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a check found."""

    place: str
    form: str
    num_faces: int
    num_photographs: int
    counts: dict[str, dict[str, int]]
    """Split (`whole` where there is none) to class to faces."""
    copies: CopyCounts | None
    """Among faces; None for drawn faces, which are alike without being copies."""
    photograph_copies: CopyCounts | None
    """Among whole photographs, where these hold several faces."""
    leaks: tuple[Leak, ...]
    ceiling: Ceiling | None
    """None without copies, or where copies were made with their labels."""
    findings: tuple[Finding, ...]
    """The gravest first."""

    @property
    def has_fault(self) -> bool:
        """Whether scores on this data would be wrong."""
        return any(finding.severity == "fault" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The same content in plain values."""
        return asdict(self)


def check(
    path: Path | None, *, images: Path | None = None, labels: Path | None = None, progress: bool = True
) -> Report:
    """Look at a data set: a store, a tree of folders, ExpW's layout or FER2013's CSV file.

    100,000 faces take minutes; memory holds 3 kB a face.

    Args:
        path: Where it lies.
        images: ExpW's photographs, where they are not in `PATH/origin`.
        labels: ExpW's list, where it is not `PATH/label.lst`.
        progress: Show progress on stderr.

    Raises:
        DataError: It cannot be read.
    """
    return judge(read_evidence(path, images=images, labels=labels, progress=progress))


def judge(evidence: Evidence) -> Report:
    """The report on evidence that has been read."""
    findings = find_all(evidence)
    made = MADE_COPIES & {finding.id for finding in findings}
    relatives = find_relatives(evidence)
    seen = ~evidence.is_flat
    return Report(
        place=evidence.place,
        form=evidence.form,
        num_faces=evidence.num,
        num_photographs=len(set(evidence.names)),
        counts={
            split: dict(zip(evidence.class_names, evidence.counts(rows).tolist(), strict=True))
            for split, rows in evidence.parts.items()
        },
        copies=_count(evidence.copies),
        photograph_copies=_count(evidence.photograph_copies),
        leaks=tuple(_leak(each) for each in relatives),
        ceiling=None
        if made or evidence.copies is None
        else measure_ceiling(evidence.groups[seen], evidence.labels[seen]),
        findings=tuple(findings),
    )


def format_report(report: Report) -> str:
    """The report as text of at most `WIDTH` columns."""
    parts = [_format_head(report), _format_copies(report), _format_leaks(report), _format_ceiling(report)]
    findings = "\n\n".join(_format_finding(finding) for finding in report.findings)
    return "\n\n".join([*filter(None, parts), *([findings] if findings else []), _format_verdict(report)])


def _leak(relatives: Relatives) -> Leak:
    return Leak(
        earlier=relatives.earlier, later=relatives.later, num=len(relatives.rows), num_later=relatives.num_later
    )


def _count(copies: Copies | None) -> CopyCounts | None:
    if copies is None:
        return None
    _, sizes = np.unique(copies.groups, return_counts=True)
    return CopyCounts(
        num_groups=int((sizes > 1).sum()),
        num_pictures=int(sizes[sizes > 1].sum()),
        pairs=dict(Counter[str](pair.kind for pair in copies.pairs)),
        mirrored=sum(pair.mirrored for pair in copies.pairs),
        borderline=len(copies.borderline),
        capped=len(copies.capped),
    )


def _format_head(report: Report) -> str:
    splits = list(report.counts)
    faces = f"{report.num_faces:,} faces"
    if report.num_photographs != report.num_faces:
        faces += f" in {report.num_photographs:,} photographs"
    lines = [f"{report.place}: {FORMS[report.form]}", faces, ""]
    columns = splits if splits == ["whole"] else [*splits, "all"]
    lines.append("".join([f"{'class':12}", *(f"{column:>16}" for column in columns)]))
    totals = {split: sum(counts.values()) for split, counts in report.counts.items()}
    for name in report.counts[splits[0]]:
        numbers = {split: report.counts[split][name] for split in splits}
        row = [(numbers[split], totals[split]) for split in splits]
        row += [(sum(numbers.values()), report.num_faces)] * (len(columns) > len(splits))
        lines.append("".join([f"{name:12}", *(f"{n:>8,}  {100 * n / max(total, 1):4.1f} %" for n, total in row)]))
    sums = [*totals.values(), *([report.num_faces] if len(columns) > len(splits) else [])]
    lines.append("".join([f"{'all':12}", *(f"{n:>8,}        " for n in sums)]).rstrip())
    return "\n".join(lines)


def _format_copies(report: Report) -> str:
    if report.copies is None:
        return "copies: not looked for, since faces drawn of few parts are alike without being copies"
    lines = _copy_lines("faces", report.copies, report.num_faces)
    if report.photograph_copies is not None:
        lines += _copy_lines("photographs", report.photograph_copies, report.num_photographs)
    return "\n".join(lines)


def _copy_lines(what: str, copies: CopyCounts, total: int) -> list[str]:
    if not copies.num_groups:
        lines = [f"copies of {what}: none among {total:,}"]
    else:
        some = share(copies.num_pictures, total)
        lines = [f"copies of {what}: {some}, in {copies.num_groups:,} groups; {copies.mirrored:,} pairs mirrored"]
    lines += [f"  {copies.pairs[kind]:>8,} pairs  {words}" for kind, words in KINDS.items() if kind in copies.pairs]
    if copies.borderline:
        lines.append(f"  {copies.borderline:>8,} pairs  nearly alike enough, not counted")
    if copies.capped:
        lines.append(f"  {copies.capped:>8,} {what} resemble so many others that only the closest were compared")
    return lines


def _format_leaks(report: Report) -> str:
    if not report.leaks:
        return ""
    lines = ["relatives across splits (copies, frames of one series, the same photograph)"]
    lines += [
        f"  {leak.later} faces with a relative in {leak.earlier}: {share(leak.num, leak.num_later)}"
        for leak in report.leaks
    ]
    return "\n".join(lines)


def _format_ceiling(report: Report) -> str:
    if report.ceiling is None:
        none = report.copies is None or not report.copies.num_groups
        why = "there are no copies" if none else "copies here were made with their labels"
        return f"noise ceiling: cannot be told, {why}"
    indent = " " * 37  # below the figures of a table whose lines are longer than the text may be
    lines = f"noise ceiling: {report.ceiling}".splitlines()
    return "\n".join(part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent=indent))


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
        WIDTH,
        initial_indent=f"  {head}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _format_verdict(report: Report) -> str:
    counts = Counter(finding.severity for finding in report.findings)
    if not counts:
        return "Nothing was found that speaks against this data."
    shown = ", ".join(f"{counts[each]} {each}{'s' * (counts[each] > 1)}" for each in counts)
    return f"{shown}. {'A score on this data would be wrong.' if counts['fault'] else 'No fault.'}"
