"""Every reader of files that somebody else may have written, by name, and its share of a million cases."""

from collections.abc import Callable
from pathlib import Path

from hostile import data, public_sets, runs
from hostile.cases import Parser

_MAKERS: dict[str, tuple[Callable[[Path], Parser], int]] = {
    "photograph": (data.photograph, 220_000),
    "label_list": (data.label_list, 8_000),
    "folder_names": (data.folder_names, 10_000),
    "picture_table": (data.picture_table, 10_000),
    "class_file": (data.class_file, 20_000),
    "fer2013_csv": (data.fer2013_csv, 30_000),
    "ferplus_csv": (public_sets.ferplus_csv, 10_000),
    "rafdb_list": (public_sets.rafdb_list, 20_000),
    "affectnet_list": (public_sets.affectnet_list, 20_000),
    "affectnet_npy": (public_sets.affectnet_npy, 20_000),
    "ckplus_label": (public_sets.ckplus_label, 20_000),
    "set_names": (public_sets.set_names, 5_000),
    "votes_npy": (public_sets.votes_npy, 20_000),
    "merged_table": (public_sets.merged_table, 2_000),
    "answers": (data.answers, 60_000),
    "confusion": (data.confusion, 70_000),
    "manifest": (data.manifest, 60_000),
    "faces_npy": (data.faces_npy, 40_000),
    "labels_npy": (data.labels_npy, 40_000),
    "table": (data.table, 3_000),
    "space": (data.space, 8_000),
    "settings": (data.settings, 20_000),
    "recipe": (data.recipe, 160_000),
    "record": (runs.record, 25_000),
    "search": (runs.search, 20_000),
    "journal": (runs.journal, 20_000),
    "last_checkpoint": (runs.last_checkpoint, 20_000),
    "best_checkpoint": (runs.best_checkpoint, 20_000),
    "model": (runs.model, 20_000),
    "best_recipe": (runs.best_recipe, 1_000),
    "best_classes": (runs.best_classes, 1_000),
    "best_preprocessing": (runs.best_preprocessing, 1_000),
    "metrics": (runs.metrics, 20_000),
    "wandb_files": (runs.wandb_files, 60_000),
    "sent_log": (runs.sent_log, 60_000),
    "view": (runs.view, 110_000),
    "view_features": (runs.view_features, 40_000),
}
"""Dear ones get fewer cases."""

CASES = {name: count for name, (_, count) in _MAKERS.items()}


def make_parser(name: str, folder: Path) -> Parser:
    """A parser whose cases write into a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return _MAKERS[name][0](folder.resolve())
