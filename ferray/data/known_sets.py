"""Sizes of public sets of facial expressions, with which a data set that claims to be one of them is compared.

Begin at `KNOWN_SETS`; `find_order_slip` finds the right numbers on the wrong classes.

Sources: for ExpW and RAF-DB, the counts that public loaders print of the sets' own label lists; for FER2013, the column
`Usage` of its CSV file; for AffectNet, its annotation lists; for CK+, its 327 label files. Each line adds up to the
published size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ferray.data.subject import CLASS_NAMES

ClassCounts = tuple[int, ...]
"""Faces per class, in the order of a set's `class_names`."""

WITH_CONTEMPT = (*CLASS_NAMES, "contempt")
"""The classes of FER+, and of AffectNet where contempt is not left out."""
WITHOUT_NEUTRAL = (*CLASS_NAMES[:-1], "contempt")
"""The classes of CK+'s labels."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """The size of a public data set."""

    name: str
    """Its name, as its authors write it."""
    aliases: tuple[str, ...]
    """Usual names of its folder, lowercase, without `-`, `_` and spaces."""
    class_names: tuple[str, ...] = CLASS_NAMES
    """The classes that are counted."""
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
        """What has a number of rows, by that number; a balanced part has a round number, which says nothing."""
        parts = {sum(counts): name for name, counts in self.counts().items() if len(set(counts)) > 1}
        return parts | {total: name for name, total in self.other_totals.items()}

    def in_order(self, class_names: Sequence[str]) -> "KnownSet":
        """The same set with its classes in another order."""
        places = [self.class_names.index(name) for name in class_names]
        parts = {name: tuple(counts[place] for place in places) for name, counts in self.parts.items()}
        return replace(self, class_names=tuple(class_names), parts=parts)


_AFFECTNET = (24_882, 3_803, 6_378, 134_415, 25_459, 14_090, 74_874)
_AFFECTNET_CONTEMPT = 3_750
_CK_SEQUENCES = (45, 59, 25, 69, 28, 83, 18)

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
        parts={"train of seven classes": _AFFECTNET, "validation of seven classes": (500,) * 7},
        other_totals={"train of eight classes": sum(_AFFECTNET) + _AFFECTNET_CONTEMPT},
    ),
    KnownSet(
        name="AffectNet",
        aliases=("affectnet",),
        class_names=WITH_CONTEMPT,
        parts={
            "train of eight classes": (*_AFFECTNET, _AFFECTNET_CONTEMPT),
            "validation of eight classes": (500,) * 8,
        },
        other_totals={},
    ),
    KnownSet(
        name="CK+",
        aliases=("ckplus", "ck+"),
        class_names=WITHOUT_NEUTRAL,
        parts={"three frames of 327 sequences": tuple(3 * num for num in _CK_SEQUENCES)},
        other_totals={},
    ),
)
"""ExpW and CK+ have no split of their own; FER2013's are Training, PublicTest and PrivateTest."""


@dataclass(frozen=True, kw_only=True)
class OrderSlip:
    """Class counts that are a public set's, but on other classes."""

    known: KnownSet
    """With its classes in the order of the counts."""
    part: str
    """The part of the set that has these counts."""
    moved: tuple[str, ...]
    """`disgust 416 instead of 55`, for each class that has another's number."""


def sets_of_classes(class_names: Sequence[str]) -> Iterator[KnownSet]:
    """The known sets that have these classes and no others, their counts in this order."""
    for known in KNOWN_SETS:
        if len(class_names) == len(known.class_names) and set(class_names) == set(known.class_names):
            yield known.in_order(class_names)


def find_order_slip(class_names: Sequence[str], counts: Sequence[int]) -> OrderSlip | None:
    """Whether class counts are those of a public set, or of a part of it, assigned to the wrong classes."""
    found = tuple(counts)
    for known in sets_of_classes(class_names):
        for part, own in known.counts().items():
            if sorted(own) == sorted(found) and own != found:
                moved = tuple(
                    f"{name} {num:,} instead of {expected:,}"
                    for name, num, expected in zip(class_names, found, own, strict=True)
                    if num != expected
                )
                return OrderSlip(known=known, part=part, moved=moved)
    return None
