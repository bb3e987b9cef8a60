"""Rates of earlier searches on this machine, so that a plan can say how long it will take.

    CACHE/rates.json       by backbone, frozen layers, size of the picture, batch sizes, halving: faces a second
    CACHE/overhead.json    seconds that the last searches took besides their trials

The cache folder belongs to one machine, and losing it costs nothing but an estimate. Begin at `read_rates`.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from ferray.data.store.manifest import Manifest
from ferray.errors import StorageError
from ferray.files import storage

if TYPE_CHECKING:
    from ferray.search.open import Search
    from ferray.search.pace import Pace

log = logging.getLogger(__name__)

_Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Kind:
    """What a rate depends on most beside the machine; head and worker groups may change it, too."""

    backbone: str
    freeze: str
    image_size: int
    batch_sizes: tuple[int, ...]
    """Of all trials, in ascending order: a small batch takes nearly as long as a large one."""
    halving: bool
    """Whether a scheduler answers to every epoch, for which a worker group waits."""

    @property
    def trunk(self) -> tuple[str, str, int]:
        """What the rate of views depends on."""
        return self.backbone, self.freeze, self.image_size


def kinds_of(settings: Iterable[tuple[str, str, int, int]], *, halving: bool) -> set[Kind]:
    """The kinds of some trials.

    Args:
        settings: Backbone, frozen layers, size of the picture and batch size of each trial.
        halving: Whether the search may stop them early.
    """
    batch_sizes: dict[tuple[str, str, int], set[int]] = {}
    for backbone, freeze, image_size, batch_size in settings:
        batch_sizes.setdefault((backbone, freeze, image_size), set()).add(batch_size)
    return {Kind(*trunk, tuple(sorted(sizes)), halving) for trunk, sizes in batch_sizes.items()}


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="ignore", allow_inf_nan=False))
class Rate:
    """What one search measured, all its worker groups together."""

    backbone: str
    freeze: str
    image_size: int
    batch_sizes: tuple[int, ...] = ()
    """Empty in files of earlier versions, which mixed them: such a rate is that of no plan."""
    halving: bool = False
    search: str
    """The search's name."""
    groups: str
    """Its worker groups, in words."""
    epoch_faces_per_s: _Positive
    """Training faces, in epochs whose features were ready; with all that comes between epochs and trials."""
    view_faces_per_s: _Positive | None = None
    """Faces through the frozen layers; None where none was computed."""

    @property
    def kind(self) -> Kind:
        """What it is the rate of."""
        return Kind(self.backbone, self.freeze, self.image_size, self.batch_sizes, self.halving)


def faces_of_epoch(manifest: Manifest, folds: int) -> float:
    """Faces that an epoch trains on, of all folds the mean.

    Args:
        manifest: Of the store.
        folds: Of the search; 1 for none.
    """
    sizes = manifest.split_sizes
    return sizes["train"] if folds == 1 else (sizes["train"] + sizes["validation"]) * (folds - 1) / folds


def faces_of_view(manifest: Manifest) -> int:
    """Faces that go through the frozen layers for a view of both splits."""
    return manifest.split_sizes["train"] + manifest.split_sizes["validation"]


@checked_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="ignore", allow_inf_nan=False))
class Overhead:
    """What searches on this machine take besides their trials; the last one counts for half, since load differs."""

    start_s: Annotated[float, Field(ge=0)]
    """Seconds from the command to its first trial: imports, Ray, worker groups."""
    end_s: Annotated[float, Field(ge=0)]
    """Seconds from its last trial to its end: the comparison, the best model, its score, tables and the page."""


_RATES = TypeAdapter(list[Rate])
_OVERHEAD = TypeAdapter(Overhead)


def read_overhead(cache: Path) -> Overhead | None:
    """What is on record in a cache folder; None where nothing is, or the file is damaged."""
    file = cache / "overhead.json"
    try:
        return _OVERHEAD.validate_python(storage.read_json(file)) if file.exists() else None
    except (StorageError, ValidationError, RecursionError) as error:
        log.warning("%s is damaged and not used: %s", file, error)
        return None


def note_overhead(cache: Path, overhead: Overhead) -> None:
    """Put on record what a search took besides its trials."""
    if (before := read_overhead(cache)) is not None:
        start_s, end_s = (before.start_s + overhead.start_s) / 2, (before.end_s + overhead.end_s) / 2
        overhead = Overhead(start_s=start_s, end_s=end_s)
    with suppress(StorageError):  # it is only for estimates
        storage.write_json(cache / "overhead.json", _OVERHEAD.dump_python(overhead))


def read_rates(cache: Path) -> dict[Kind, Rate]:
    """The rates on record in a cache folder; none where there is no file, or a damaged one."""
    file = cache / "rates.json"
    if not file.exists():
        return {}
    try:
        return {rate.kind: rate for rate in _RATES.validate_python(storage.read_json(file))}
    except (StorageError, ValidationError, RecursionError) as error:
        log.warning("%s is damaged and not used: %s", file, error)
        return {}


def find_rate(rates: Mapping[Kind, Rate], kind: Kind) -> Rate | None:
    """The rate of a kind, or else of what differs in halving alone; None where neither is on record."""
    return rates.get(kind) or rates.get(dataclasses.replace(kind, halving=not kind.halving))


def view_rate(rates: Mapping[Kind, Rate], kind: Kind) -> float | None:
    """Faces a second through the frozen layers, as the last search measured it that computed any; None for none."""
    newest_first = list(reversed(list(rates.values())))
    of_trunk = ([rates[kind]] if kind in rates else []) + [one for one in newest_first if one.kind.trunk == kind.trunk]
    return next((one.view_faces_per_s for one in of_trunk if one.view_faces_per_s is not None), None)


def note_rate(cache: Path, rate: Rate) -> None:
    """Put a rate on record."""
    rates = read_rates(cache)
    if rate.view_faces_per_s is None and rate.kind in rates:
        rate = dataclasses.replace(rate, view_faces_per_s=rates[rate.kind].view_faces_per_s)
    rates.pop(rate.kind, None)  # the last one is the newest
    rates[rate.kind] = rate
    storage.write_json(cache / "rates.json", _RATES.dump_python(list(rates.values())))


def note_rate_of(search: "Search", pace: "Pace", groups: str) -> None:
    """Put on record how fast this machine was in a search whose trials were all of one kind.

    Args:
        search: The search.
        pace: What it has measured.
        groups: Its worker groups, in words.
    """
    epoch_s, view_s = pace.rates()
    settings = ((one.backbone, one.freeze, one.image_size or 0, one.batch_size) for one in pace.recipes)
    kinds = kinds_of(settings, halving=search.plan.space.early_terminate is not None)
    if epoch_s is None or len(kinds) != 1:
        return
    (kind,) = kinds
    manifest = search.store.manifest
    rate = Rate(
        **dataclasses.asdict(kind),
        search=search.plan.run.name,
        groups=groups,
        epoch_faces_per_s=faces_of_epoch(manifest, search.plan.space.folds) / epoch_s,
        view_faces_per_s=None if view_s is None else faces_of_view(manifest) / view_s,
    )
    with suppress(StorageError):  # it is only for estimates
        note_rate(storage.cache_dir(), rate)
