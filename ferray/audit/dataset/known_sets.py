"""Sizes of public sets of facial expressions, with which a data set that claims to be one of them is compared.

Begin at `KNOWN_SETS`. The classes are ferray's seven; AffectNet's contempt is left out, as in its use with seven
classes.

Sources: for ExpW and RAF-DB, the counts that public loaders print of the sets' own label lists; for FER2013, the column
`Usage` of its CSV file; for AffectNet, its annotation lists. Each line adds up to the published size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ClassCounts = tuple[int, ...]
"""Faces per class, in the order of `CLASS_NAMES`: angry, disgust, fear, happy, sad, surprise, neutral."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """The size of a public data set."""

    name: str
    """Its name, as its authors write it."""
    aliases: tuple[str, ...]
    """Usual names of its folder, lowercase, without `-`, `_` and spaces."""
    parts: Mapping[str, ClassCounts]
    """Number of faces of its own splits, or of the whole set where it has none."""
    other_totals: Mapping[str, int]
    """What else is counted in this set, and the number."""

    def counts(self) -> dict[str, ClassCounts]:
        """Number of faces of each part, of each union of two parts, and of the whole, by name."""
        parts = dict(self.parts)
        names = list(parts)
        unions = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]] if len(names) > 2 else []
        for a, b in unions:
            parts[f"{a} and {b}"] = tuple(x + y for x, y in zip(self.parts[a], self.parts[b], strict=True))
        if len(names) > 1:
            parts["whole"] = self.whole
        return parts

    @property
    def whole(self) -> ClassCounts:
        """Number of faces of each class in the whole set."""
        return tuple(sum(column) for column in zip(*self.parts.values(), strict=True))

    def totals(self) -> dict[int, str]:
        """What has a number of rows, by that number."""
        return {sum(counts): name for name, counts in self.counts().items()} | {
            total: name for name, total in self.other_totals.items()
        }


KNOWN_SETS = (
    KnownSet(
        name="ExpW",
        aliases=("expw", "expressioninthewild"),
        parts={"whole": (3_671, 3_995, 1_088, 30_537, 10_559, 7_060, 34_883)},
        other_totals={"photographs, not faces": 68_096},
    ),
    KnownSet(
        name="FER2013",
        aliases=("fer2013", "fer"),
        parts={
            "Training": (3_995, 436, 4_097, 7_215, 4_830, 3_171, 4_965),
            "PublicTest": (467, 56, 496, 895, 653, 415, 607),
            "PrivateTest": (491, 55, 528, 879, 594, 416, 626),
        },
        other_totals={},
    ),
    KnownSet(
        name="RAF-DB",
        aliases=("rafdb", "raf"),
        parts={
            "train": (705, 717, 281, 4_772, 1_982, 1_290, 2_524),
            "test": (162, 160, 74, 1_185, 478, 329, 680),
        },
        other_totals={"pictures, compound ones too": 29_672},
    ),
    KnownSet(
        name="AffectNet",
        aliases=("affectnet",),
        parts={
            "train of seven classes": (24_882, 3_803, 6_378, 134_415, 25_459, 14_090, 74_874),
        },
        other_totals={"train of eight classes": 287_651},
    ),
)
"""ExpW has no split of its own; FER2013's are Training, PublicTest and PrivateTest."""
