"""What is known of the data of a search: counts, copies, the noise ceiling. Begin at `describe_data`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ferray.audit.dataset.noise_ceiling import MIN_GROUPS, measure_noise_ceiling
from ferray.data.store.manifest import Manifest
from ferray.data.store.reader import Store
from ferray.files.location import short_location
from ferray.report.many_classes import MAX_NAMES
from ferray.report.page.chart import TextTable
from ferray.report.page.notes import Command


@dataclass(frozen=True, kw_only=True)
class DataNotes:
    """What is known of the data."""

    counts: TextTable | None
    """Pictures by class and split; of many classes, by split alone."""
    notes: Sequence[str]
    ceiling: str
    copies: str
    check: Command
    """What finds faults: nothing of its answer is on record."""


def describe_data(folder: str, manifest: Manifest | None, store: Store | None) -> DataNotes:
    """What the store says of itself.

    Args:
        folder: Of the store, as `search.json` has it.
        manifest: None where it could not be read.
        store: None where it could not be read.
    """
    check = f"python -m ferray.data check {shlex.quote(short_location(folder))}"
    command = Command(text="Look for faults", command=check)
    if manifest is None:
        unknown = "Not known: the store of the search could not be read."
        return DataNotes(counts=None, notes=(), ceiling=unknown, copies=unknown, check=command)
    skipped = [f"left out: {count:,} {reason}" for reason, count in manifest.skipped.items()]
    return DataNotes(
        counts=_counts(manifest),
        notes=[*manifest.notes, *skipped],
        ceiling=_ceiling(manifest, store),
        copies=_copies(manifest),
        check=command,
    )


def _counts(manifest: Manifest) -> TextTable:
    splits = [split for split, size in manifest.split_sizes.items() if size]
    names = manifest.class_names if len(manifest.class_names) <= MAX_NAMES else ()
    rows = [(name, *(f"{manifest.counts[split][name]:,}" for split in splits)) for name in names]
    total = f"all {len(manifest.class_names):,} classes"
    rows.append((total, *(f"{manifest.split_sizes[split]:,}" for split in splits)))
    return TextTable(head=("class", *splits), rows=rows)


def _copies(manifest: Manifest) -> str:
    if manifest.copies == "skip":
        return "Not checked: copies were not looked for when the store was made."
    if manifest.split is not None:
        text = "Copies were looked for when the store was made, and are kept in one split each."
    elif "leaks" in manifest.dropped:
        text = "Copies were looked for when the store was made; those across the source's own splits were left out."
    else:
        text = (
            "Copies were looked for when the store was made. The split is the source's own, so copies may lie in"
            " several splits, which makes scores too good; how the store was made has their number."
        )
    more = " Where copies have different labels, all were left out." if "conflicts" in manifest.dropped else ""
    return text + more


def _ceiling(manifest: Manifest, store: Store | None) -> str:
    """The noise ceiling by the copies that the store has grouped."""
    if manifest.copies == "skip" or store is None or "same_face" not in store.table:
        return "Not checked: it is measured on copies, and no copies are on record."
    if "conflicts" in manifest.dropped:
        return "Not known: copies with different labels were left out, so the labels that are left do not show it."
    groups = store.table["same_face"].to_numpy(dtype="int64")
    ceiling = measure_noise_ceiling(groups, store.labels)
    if ceiling is None:
        return f"Not known: no {manifest.shown.noun} has a copy."
    rough = f" Only {ceiling.num_groups} groups: these numbers are rough." if ceiling.num_groups < MIN_GROUPS else ""
    return (
        f"By {ceiling.num_groups:,} groups of copies, no classifier is expected to be more accurate than"
        f" {ceiling.upper_bound}: two copies have the same label with probability {ceiling.agreement}. This holds if"
        f" copies were labeled independently.{rough}"
    )
