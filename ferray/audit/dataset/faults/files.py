"""Faults of the files: bad pictures, boxes read wrongly, faces that overwrote each other.

Begin at any `find_`; each is one fault.
"""

from collections import Counter

import numpy as np

from ferray.audit.dataset.faults.evidence import Evidence
from ferray.audit.finding import NUM_EXAMPLES, Finding, listed, share

GRAVE = 0.01
"""Share of pictures that are constant or cannot be read from which it is a fault: below, scores move by less than their
intervals."""
LEAST_SQUARE = 0.9
MOST_OVERRUNS = 0.3
"""In ExpW 0.8 % of the boxes overrun their photograph; where three in ten do, the pictures are not the photographs."""


def find_constant_pictures(evidence: Evidence) -> list[Finding]:
    """Pictures of one color."""
    rows = np.flatnonzero(evidence.is_flat)
    if not len(rows):
        return []
    return [
        Finding(
            id="constant-pictures",
            severity="fault" if len(rows) >= GRAVE * evidence.num else "warning",
            seen=f"{share(len(rows), evidence.num)} pictures show nothing: all of their pixels are nearly equal.",
            matters="They have a label but nothing that it could be learned from; in test, each is a guess.",
            advice="Leave them out, and find out why they are empty (a failed download, a crop outside the "
            "photograph).",
            num=len(rows),
            examples=tuple(evidence.describe(int(row)) for row in rows[:NUM_EXAMPLES]),
        )
    ]


def find_unreadable(evidence: Evidence) -> list[Finding]:
    """Rows that cannot be used: photographs missing, cut off or unreadable, labels unknown."""
    if not evidence.faults:
        return []
    num, total = len(evidence.faults), len(evidence.faults) + evidence.num
    reasons = Counter(fault.reason for fault in evidence.faults)
    shown = listed([f"{count:,} {reason}" for reason, count in reasons.most_common()])
    return [
        Finding(
            id="unusable-rows",
            severity="fault" if num >= GRAVE * total else "warning",
            seen=f"{share(num, total)} rows cannot be used: {shown}.",
            matters="Programs that decode such files silently fill the missing part with gray, or skip them and so "
            "change the test split; scores on different rests cannot be compared.",
            advice="Fetch the files again or leave the rows out for everybody; ferray.data prepare lists them.",
            num=num,
            examples=tuple(f"{fault.place}: {fault.what}" for fault in evidence.faults[:NUM_EXAMPLES]),
        )
    ]


def find_box_order(evidence: Evidence) -> list[Finding]:
    """Box columns in another order than the set's own."""
    if evidence.box_order is None:
        return []
    order = ", ".join(evidence.box_order)
    return [
        Finding(
            id="box-columns-in-wrong-order",
            severity="fault",
            seen="Read as top, left, right, bottom, the boxes are no squares, and in ExpW every box is one. "
            f"Read as {order}, they are squares inside their photographs.",
            matters="A program that expects ExpW's own order cuts out strips of shoulder and wall; a model trained on "
            "them learns little, and nothing says why.",
            advice="Write the columns as name, face id, top, left, right, bottom, confidence, label. This check has "
            "read them in the order that fits.",
        )
    ]


def find_overwritten_siblings(evidence: Evidence) -> list[Finding]:
    """Faces of one photograph that were saved under the photograph's name, so that the last one is left."""
    photographs, counts = np.unique(evidence.photographs, return_counts=True)
    siblings = np.flatnonzero(np.isin(evidence.photographs, photographs[counts > 1]))
    if not len(siblings):
        return []
    distinct: dict[int, set[bytes]] = {}
    labels: dict[int, set[int]] = {}
    for row in siblings.tolist():
        distinct.setdefault(int(evidence.photographs[row]), set()).add(evidence.digests[row])
        labels.setdefault(int(evidence.photographs[row]), set()).add(int(evidence.labels[row]))
    equal = [photograph for photograph, digests in distinct.items() if len(digests) == 1]
    crops = (
        evidence.overruns is not None
        and evidence.square is not None
        and evidence.overruns.mean() >= MOST_OVERRUNS
        and evidence.square.mean() >= LEAST_SQUARE
    )
    if 2 * len(equal) < len(distinct) and not crops:
        return []
    lost = int((counts - 1).sum())
    how = (
        "the pictures are square crops that their boxes do not fit"
        if crops
        else f"{share(len(equal), len(distinct))} of the photographs with several faces have the same pixels for all"
    )
    clashing = sum(len(labels[photograph]) > 1 for photograph in (distinct if crops else equal))
    example = next(iter(distinct if crops else equal))
    rows = np.flatnonzero(evidence.photographs == example)
    return [
        Finding(
            id="siblings-overwritten",
            severity="fault",
            seen=f"{evidence.num:,} rows, but {len(photographs):,} pictures, one a name: {how}. Faces of one "
            f"photograph were saved under one name, and {lost:,} were overwritten by the last.",
            matters=f"The labels of the lost faces now stand beside another face; in {clashing:,} photographs the "
            "labels of one picture contradict each other.",
            advice="Cut the faces again from the photographs and name each by photograph and face id.",
            num=lost,
            examples=(" and ".join(evidence.describe(int(row)) for row in rows[:NUM_EXAMPLES]),),
        )
    ]
