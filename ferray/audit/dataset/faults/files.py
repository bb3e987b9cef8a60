"""Faults of the files: pictures that cannot be used, boxes read in the wrong order, faces that overwrote each other.

Begin at any `find_`; each finds one fault.
"""

import numpy as np

from ferray.audit.dataset.scan.dataset import ScannedDataset
from ferray.audit.finding import NUM_EXAMPLES, Finding, listed, share
from ferray.data.sources.rows import count_by_reason
from ferray.data.sources.ways_out import first_of, way_out_of

MIN_FAULT_SHARE = 0.01
"""Share of constant or unreadable pictures from which they are a fault. Below it, scores change by less than their
intervals."""
MIN_SQUARE_SHARE = 0.9
MIN_OVERRUN_SHARE = 0.3
"""In ExpW 0.8 % of the boxes overrun their photograph. If three in ten do, and nearly all pictures are square, the
pictures are crops and not the photographs that the boxes belong to."""


def find_constant_pictures(dataset: ScannedDataset) -> list[Finding]:
    """Pictures of nearly one color."""
    rows = np.flatnonzero(dataset.is_flat)
    if not len(rows):
        return []
    return [
        Finding(
            id="constant-pictures",
            severity="fault" if len(rows) >= MIN_FAULT_SHARE * dataset.num_faces else "warning",
            seen=f"{share(len(rows), dataset.num_faces)} pictures show nothing: all of their pixels are nearly equal.",
            matters="They have a label but nothing that it could be learned from; in test, each is a guess.",
            advice="Leave them out, and find out why they are empty (a failed download, a crop outside the "
            "photograph).",
            num=len(rows),
            examples=tuple(dataset.describe(int(row)) for row in rows[:NUM_EXAMPLES]),
        )
    ]


def find_unreadable(dataset: ScannedDataset) -> list[Finding]:
    """Rows that cannot be used: photographs missing, cut off or unreadable, labels unknown."""
    if not dataset.faults:
        return []
    num, total = len(dataset.faults), len(dataset.faults) + dataset.num_faces
    counts = count_by_reason(dataset.faults)
    shown = listed([f"{count:,} {reason}" for reason, count in counts.items()])
    firsts = [first_of(dataset.faults, reason) for reason in list(counts)[:NUM_EXAMPLES]]
    return [
        Finding(
            id="unusable-rows",
            severity="fault" if num >= MIN_FAULT_SHARE * total else "warning",
            seen=f"{share(num, total)} rows cannot be used: {shown}.",
            matters="Programs that decode such files silently fill the missing part with gray, or skip them and so "
            "change the test split; scores on different rests cannot be compared.",
            advice=f"{way_out_of(firsts[0])}; or leave the rows out for everybody: ferray.data prepare lists them.",
            num=num,
            examples=tuple(f"{fault.place}: {fault.what}" for fault in firsts),
        )
    ]


def find_wrong_box_order(dataset: ScannedDataset) -> list[Finding]:
    """Box columns in another order than ExpW's own."""
    if dataset.box_order is None:
        return []
    order = ", ".join(dataset.box_order)
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


def find_overwritten_siblings(dataset: ScannedDataset) -> list[Finding]:
    """Faces of one photograph that were saved under one name, so that only the last one is left."""
    rows_of: dict[int, list[int]] = {}
    for row, photograph in enumerate(dataset.photographs.tolist()):
        rows_of.setdefault(photograph, []).append(row)
    siblings = [rows for rows in rows_of.values() if len(rows) > 1]
    equal = [rows for rows in siblings if len({dataset.digests[row] for row in rows}) == 1]
    are_crops = _are_crops(dataset)
    if not siblings or (2 * len(equal) < len(siblings) and not are_crops):
        return []
    affected = siblings if are_crops else equal
    num_lost = sum(len(rows) - 1 for rows in siblings)
    num_conflicting = sum(len(np.unique(dataset.labels[rows])) > 1 for rows in affected)
    how = (
        "the pictures are square crops that their boxes do not fit"
        if are_crops
        else f"{share(len(equal), len(siblings))} of the photographs with several faces have the same pixels for all"
    )
    return [
        Finding(
            id="siblings-overwritten",
            severity="fault",
            seen=f"{dataset.num_faces:,} rows, but {len(rows_of):,} pictures, one a name: {how}. Faces of one "
            f"photograph were saved under one name, and {num_lost:,} were overwritten by the last.",
            matters=f"The labels of the lost faces now stand beside another face; in {num_conflicting:,} photographs "
            "the labels of one picture contradict each other.",
            advice="Cut the faces again from the photographs and name each by photograph and face id.",
            num=num_lost,
            examples=(" and ".join(dataset.describe(row) for row in affected[0][:NUM_EXAMPLES]),),
        )
    ]


def _are_crops(dataset: ScannedDataset) -> bool:
    """Whether the pictures are crops, and not the photographs that the boxes belong to."""
    return (
        dataset.overruns is not None
        and dataset.is_square is not None
        and bool(dataset.overruns.mean() >= MIN_OVERRUN_SHARE)
        and bool(dataset.is_square.mean() >= MIN_SQUARE_SHARE)
    )
