"""Which views a recipe reads. A view is the output of the frozen layers for the pictures of one training epoch.

Training names the views in the cache by these keys, and `--dry-run` counts the passes of the trunk by them; so this
module loads neither torch nor numpy.

Begin at `keys_of_run`.
"""

from typing import NamedTuple

from ferray.recipe import NO_WEIGHTS, Freeze, Policy, Recipe


class ViewKey(NamedTuple):  # a tuple: a search of 100,000 points makes a million of them
    """All settings that decide the features of a view; the store, its rows and the device complete the view."""

    weights: str
    """Fingerprint of the pretrained weights, or the seed of random ones."""
    backbone: str
    freeze: Freeze
    image_size: int | None
    """None before the recipe is settled, as `precision` may be `auto` then."""
    precision: str
    policy: Policy
    strength: float
    seed: int | None
    """Seed of the alterations; None, as the epoch, where the pictures are not altered."""
    epoch: int | None
    random_erasing: float


def reads_views(recipe: Recipe) -> bool:
    """Whether the frozen layers' output is kept in views, or computed again in every epoch.

    It is kept where the whole trunk is frozen, or where a part of it is frozen and the pictures are not altered. The
    output of a part is large, after block 4 four times the trunk's (16 KiB for a face of 64 pixels); with altered
    pictures each epoch has its own, which is not worth the room on the disk for one or two trials.
    """
    return recipe.freeze == "trunk" or (recipe.freeze != "none" and not recipe.alters_pictures)


def keys_of_run(recipe: Recipe, *, weights: str) -> set[ViewKey]:
    """The keys of all views that a run reads: the unaltered one for validation, and those of its training epochs.

    Args:
        recipe: Need not be settled.
        weights: As `view_key`.
    """
    if not reads_views(recipe):
        return set()
    num_views = min(recipe.epochs, recipe.augmentation_views or recipe.epochs) if recipe.alters_pictures else 0
    return {view_key(recipe, epoch, weights=weights) for epoch in (None, *range(1, num_views + 1))}


def view_key(recipe: Recipe, epoch: int | None, *, weights: str) -> ViewKey:
    """The key of the view that an epoch reads.

    Args:
        recipe: Need not be settled.
        epoch: The training epoch, counted from 1; None for validation, whose pictures are never altered.
        weights: Fingerprint of the pretrained weights, or another text that is the same for all keys to be compared;
            `NO_WEIGHTS` where there are none.
    """
    has_weights = recipe.weights == "pretrained" and weights != NO_WEIGHTS
    view_epoch = recipe.view_epoch(epoch) if epoch is not None and recipe.alters_pictures else None
    is_altered = view_epoch is not None
    return ViewKey(
        weights=weights if has_weights else f"{NO_WEIGHTS}, seed {recipe.seed}",
        backbone=recipe.backbone,
        freeze=recipe.freeze,
        image_size=recipe.image_size,
        precision=recipe.precision,
        policy=recipe.augmentation if is_altered else "none",
        strength=recipe.augmentation_strength if is_altered else 0.0,
        seed=recipe.seed if is_altered else None,
        epoch=view_epoch,
        random_erasing=recipe.random_erasing if is_altered else 0.0,
    )
