"""A search is opened: a new folder begun, or the records of an old one checked, repaired and, if asked for, extended.

Begin at `open_search`; the caller holds the folder's lock.
"""

import dataclasses
import importlib.metadata
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ferray.data.store.reader import Store
from ferray.errors import SearchError
from ferray.files import storage
from ferray.model.weights import Weights
from ferray.recipe import Recipe
from ferray.records.events import EventLog, ExtendEvent
from ferray.records.search_file import RecordedData, RecordedOptions, SearchFile
from ferray.search.history import repair
from ferray.search.history.points import recipe_of_point
from ferray.search.history.recorded import History
from ferray.search.history.resume import CHANGEABLE
from ferray.search.plan import Plan, name_is_taken
from ferray.train.folds import groups_fingerprint
from ferray.train.settle import settle
from ferray.train.spec import identify

PACKAGES = (
    "ferray",
    "ray",
    "torch",
    "torchvision",
    "optuna",
    "albumentations",
    "opencv-python-headless",
    "wandb",
    "numpy",
)


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search that is open: what was asked for, what is on record, and what it is made on."""

    plan: Plan
    history: History
    store: Store
    weights: Mapping[str, Weights]
    """By backbone."""

    def recipe(self, point: dict[str, Any]) -> Recipe:
        """The recipe of a point with nothing left open; the precision must be on record."""
        precision = self.history.search.precision
        assert precision is not None
        recipe = recipe_of_point(self.plan.space, point, seed=self.plan.seed)
        return settle(recipe, self.store, precision=precision)

    def trial_id(self, point: dict[str, Any]) -> str:
        """The trial id of a point, as `recipe`."""
        recipe = self.recipe(point)
        weights = self.weights[recipe.backbone].fingerprint
        return identify(recipe, self.store, weights_fingerprint=weights)


def open_search(
    plan: Plan,
    history: History | None,
    store: Store,
    weights: Mapping[str, Weights],
    *,
    say: Callable[[str], None],
) -> Search:
    """Begin a search, or make the records of one ready to be gone on with.

    Args:
        plan: What was asked for.
        history: The records of the search that is resumed; None for a new one.
        store: What is trained on; that of the search.
        weights: By backbone; those of the search.
        say: Tells the user what was found.

    Raises:
        SearchError: Data or weights are not those of the search.
        RecordError: A search of this name has been begun since the plan was made.
    """
    storage.remove_partial(plan.run.folder)
    for pattern in (".best-*", ".ray-*"):  # of a driver that was killed
        for left in plan.run.folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
    fingerprints = {name: value.fingerprint for name, value in weights.items()}
    if history is None:
        if plan.run.exists():
            raise name_is_taken(plan.run)
        plan.run.clear()
        decisions, finals = EventLog(plan.run.journal()), EventLog(plan.run.finals_journal())
        history = History(plan.run, _begin(plan, store, fingerprints), decisions, finals)
        changes: dict[str, Any] = {}
    else:
        changes = _resume(plan, history, store, fingerprints, say)
    storage.write_bytes(plan.run.space_file, plan.space.text.encode())
    plan.run.send_files()  # without it nobody could go on with the search elsewhere
    history.update(**changes)
    return Search(plan=plan, history=history, store=store, weights=weights)


def _begin(plan: Plan, store: Store, fingerprints: dict[str, str]) -> SearchFile:
    """What a new search says of itself."""
    return SearchFile(
        id=secrets.token_hex(4),
        name=plan.run.name,
        command=plan.command,
        options=_options(plan),
        metric=dataclasses.asdict(plan.space.metric),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        data=RecordedData(
            folder=plan.data or str(store.folder),
            dataset=store.manifest.dataset,
            fingerprint=store.fingerprint,
            size_px=store.manifest.size_px,
            **_groups_of(plan, store),
        ),
        weights=fingerprints,
        openings=1,
        sessions=(),
        test_readings=(),
    )


def _resume(
    plan: Plan, history: History, store: Store, fingerprints: dict[str, str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Repair and extend the records; what this session changes in `search.json`."""
    search = history.search
    groups = _groups_of(plan, store)
    for what, recorded, now in (
        ("data", search.data.fingerprint, store.fingerprint),
        (
            "groups of photographs, which folds are made of,",
            search.data.groups or groups.get("groups"),
            groups.get("groups"),
        ),
        ("weights", {**fingerprints, **search.weights}, fingerprints),
    ):
        if recorded != now:
            where, problem = f"--resume {plan.run.name}", f"the {what} are not those of the search"
            raise SearchError(where, problem, "Start a search of another name")
    history.repair_journals()
    repair.set_aside_unusable(history)
    if plan.retry:
        for line in repair.retry_failed(history):
            say(line)
    elif failed := repair.failed_trials(history):
        say(f"failed: trials {', '.join(failed)}; --retry runs them again")
    changes: dict[str, Any] = {
        "options": search.options.changed(**{**vars(_options(plan)), "space": search.options.space}),
        "weights": fingerprints,
        # It may have been moved.
        "data": search.data.changed(folder=plan.data or str(store.folder), size_px=store.manifest.size_px, **groups),
        "openings": (search.openings or len(search.sessions)) + 1,
    }
    if plan.extension is not None:
        before = (search.extensions or ())[: len(history.decisions.of_kind(ExtendEvent))]
        changes["extensions"] = (*before, plan.extension)
        changes["options"] = changes["options"].changed(space=plan.extension.space.name)
        history.decisions.append(plan.extension)  # from here on it has the new space, whatever fails afterwards
    return changes


def _groups_of(plan: Plan, store: Store) -> dict[str, str]:
    """`RecordedData.groups` by its name; nothing without folds."""
    return {} if plan.space.folds == 1 else {"groups": groups_fingerprint(store)}


def _options(plan: Plan) -> RecordedOptions:
    """The options that a later session needs."""
    return RecordedOptions(
        space=plan.space.name,
        set=plan.settings,
        data=plan.data,
        weights=plan.weights,
        seed=plan.seed,
        **{name: getattr(plan, name) for name in CHANGEABLE},
    )
