"""Whether a recipe can be trained on a store, found out before anything heavy is loaded and before anything starts.

Training finds the same faults by itself, but late: in a worker, once a trial. So a plan and `ferray.train` ask here
first; this module loads neither torch nor Ray. Begin at `check_recipe`; `find_risks` names what can be trained but is
probably not meant.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ferray.data.store.manifest import SPLITS, Manifest
from ferray.data.store.reader import Store
from ferray.errors import DataError, RecipeError
from ferray.model.backbones import find_backbone
from ferray.recipe import Recipe, check_value
from ferray.train.folds import split_rows

SMALLEST_PX, LARGEST_PX = 32, 512
"""Sides of a picture that a recipe allows: five blocks halve it, and one pixel must remain."""

MAX_NAMED = 8
"""Classes that are named one by one."""

VOTES_WAY_OUT = (
    "Train on labels: --set targets=labels; or prepare a store with votes: python -m ferray.data prepare fer2013 "
    "--csv fer2013.csv --ferplus fer2013new.csv --out NEW"
)


def check_recipe(recipe: Recipe, store: Store, *, use_folds: str) -> None:
    """Refuse a recipe that cannot be trained on a store.

    Args:
        recipe: Need not be settled.
        store: What it is to be trained on.
        use_folds: The options that validate with a part of the training faces, for the message.

    Raises:
        DataError: No faces to train on or to validate with, fewer photographs than folds, a class without training
            faces where the class balance needs its share, or no votes where they are the targets.
        RecipeError: The store's pictures have a size that recipes do not allow, or the backbone does not take, or the
            backbone cannot be cut where it is to be frozen.
    """
    _check_splits(recipe, store, use_folds)
    check_picture_size(recipe, store.size_px, whose=str(store.folder), nouns=store.manifest.shown.nouns)
    if recipe.targets == "votes":
        require_votes(store)
    if recipe.class_balance == "logit_adjustment":
        for name, count in _count(store, split_rows(recipe, store).train.rows).items():
            if not count:
                where = "class_balance logit_adjustment"
                noun = store.manifest.shown.noun
                what = f"no training {noun} of {store.folder} is {name!r}, and it needs the share of each class"
                raise DataError(where, what, f"Choose another class_balance, or prepare a store with such {noun}s")


def require_votes(store: Store) -> NDArray[np.uint16]:
    """The votes of a store's faces, shape (faces, classes).

    Raises:
        DataError: It has none.
    """
    if store.votes is None:
        raise DataError("targets votes", f"{store.folder} has labels alone, and no votes", VOTES_WAY_OUT)
    return store.votes


def find_risks(recipe: Recipe, store: Store) -> Iterator[str]:
    """What can be trained, but makes a score mean less than it seems to, in words.

    Args:
        recipe: One that `check_recipe` accepts.
        store: What it is to be trained on.
    """
    split, test = split_rows(recipe, store), store.manifest.counts["test"]
    part = "" if recipe.folds is None else "in a fold, "
    num_train, noun, nouns = len(split.train.rows), store.manifest.shown.noun, store.manifest.shown.nouns
    if recipe.batch_size > num_train:
        faces = f"the {num_train:,} training {nouns}" if recipe.folds is None else f"the training {nouns} of a fold"
        yield f"batch_size {recipe.batch_size}: more than {faces}, so an epoch is one step"
    train, validation = _count(store, split.train.rows), _count(store, split.validation.rows)
    untrained = [name for name in store.class_names if not train[name]]
    for name in untrained[:MAX_NAMED]:
        held_out = f"its {validation[name]:,} validation and {test[name]:,} test {nouns}"
        yield f"{part}no training {noun} is {name!r}: no model learns the class, and {held_out} count as errors"
    if len(untrained) > MAX_NAMED:
        yield f"{part}no training {noun} is of {len(untrained) - MAX_NAMED:,} more classes, which no model learns"
    for which in _shorten([name for name in store.class_names if train[name] and not validation[name]]):
        yield f"{part}no validation {noun} is {which}: epochs and trials are compared without the class"
    if not any(test.values()):
        yield f"there are no test {nouns}: the best model will have no test score"
        return
    untested = _shorten([name for name in store.class_names if train[name] and not test[name]])
    yield from (f"no test {noun} is {which}: the test score is one without the class" for which in untested)


def _shorten(names: Sequence[str]) -> list[str]:
    """Each name in quotes; many of them in one text that gives the first ones."""
    if len(names) <= MAX_NAMED:
        return [repr(name) for name in names]
    return [f"any of {len(names):,} classes ({', '.join(map(repr, names[:MAX_NAMED]))}, ...)"]


def _check_splits(recipe: Recipe, store: Store, use_folds: str) -> None:
    """That there are faces to train on and to validate with."""
    sizes = store.manifest.split_sizes
    if recipe.folds is None and sizes["train"] and not sizes["validation"]:
        nouns = store.manifest.shown.nouns
        what = f"has no validation {nouns}, by which epochs and trials are compared"
        folds = f"Validate with folds of its training {nouns}: {use_folds}"
        raise DataError(str(store.folder), what, f"{folds}; or {_how_to_cut_validation(store.manifest)}")
    if not sizes["train"] and (recipe.folds is None or not sizes["validation"]):
        present = ", ".join(f"{sizes[split]:,} {split}" for split in SPLITS if sizes[split])
        what = f"has no training {store.manifest.shown.nouns}, only {present}"
        raise DataError(str(store.folder), what, "Prepare it again with another --split, such as 70/10/20")
    split_rows(recipe, store)  # folds of at least one photograph each


def _how_to_cut_validation(manifest: Manifest) -> str:
    """The command that makes the store again, with a tenth of its faces taken out of train by group of copies."""
    train, _, test = manifest.split or (1.0, 0.0, 0.0)
    cut = 10 if train > 0.2 else 50 * train
    first, last = round(100 * train - cut, 2), round(100 * test, 2)
    shares = f"{first:g}/{round(100 - first - last, 2):g}/{last:g}"  # they add up to 100, however they are rounded
    if len(manifest.datasets) > 1:
        return "merge stores of which one has some"
    sources = {
        "expw": "expw --images DIR --labels FILE",
        "csv": "csv --table FILE",
        "rafdb": "rafdb --images DIR",
        "affectnet": "affectnet --images DIR",
        "ckplus": "ckplus --images DIR",
        "fer2013": "fer2013 --csv FILE",
        "ferplus": "fer2013 --csv FILE --ferplus FILE",
    }
    source = sources.get(manifest.dataset.partition("-")[0], "folders --images DIR")
    return f"take some out of train, by photograph: python -m ferray.data prepare {source} --split {shares} --out NEW"


def check_picture_size(recipe: Recipe, size_px: int, *, whose: str, nouns: str) -> None:
    """That the backbone takes the pictures, and can be cut where it is to be frozen.

    Args:
        recipe: Need not be settled.
        size_px: Side of the store's own pictures, which count where the recipe does not name another size.
        whose: The store, for the message.
        nouns: What its pictures are called.

    Raises:
        RecipeError: It does not, or the store's own size is none that recipes allow.
    """
    if recipe.image_size is None:
        try:
            check_value("image_size", size_px, where=whose)
        except RecipeError as error:
            nearest = SMALLEST_PX if size_px < SMALLEST_PX else LARGEST_PX
            takes = f"{recipe.backbone} takes {SMALLEST_PX} to {LARGEST_PX}"
            what = f"its {nouns} have {size_px} pixels, but {takes}"
            raise RecipeError(whose, what, f"Resize them: --set image_size={nearest}") from error
    find_backbone(recipe.backbone).check(
        size_px=recipe.image_size or size_px, freeze=recipe.freeze, where=f"backbone {recipe.backbone}"
    )


def _count(store: Store, rows: "np.typing.NDArray[np.int64]") -> dict[str, int]:
    """Faces of each class among some rows."""
    counts = np.bincount(np.asarray(store.labels)[rows], minlength=len(store.class_names))
    return dict(zip(store.class_names, counts.tolist(), strict=True))
