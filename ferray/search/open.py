"""The folder of a search is opened: a new one made, an old one checked, mended and, where asked for, extended.

Begin at `open_search`; the caller holds the folder's lock.
"""

import dataclasses
import importlib.metadata
import secrets
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from ferray.data.store.reader import Store
from ferray.errors import SearchError
from ferray.files import storage
from ferray.model.weights import Weights
from ferray.search.history import repair
from ferray.search.history.resume import CHANGEABLE
from ferray.search.plan import Plan, taken

PACKAGES = ("ferray", "ray", "torch", "torchvision", "optuna", "albumentations", "wandb", "numpy")


def open_search(
    plan: Plan, store: Store, weights: Mapping[str, Weights], *, say: Callable[[str], None]
) -> dict[str, Any]:
    """`search.json` of a new search, or of the one that is resumed, ready to be gone on with.

    Args:
        plan: What was asked for.
        store: What is trained on; the same as before.
        weights: By backbone; the same as before.
        say: Tells the user what was found.

    Raises:
        SearchError: Data or weights are not those of the search.
        RecordError: A search of this name has been begun since the plan was made.
    """
    storage.remove_partial(plan.run.folder)
    for pattern in (".best-*", ".ray-*"):  # of a driver that was killed
        for left in plan.run.folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
    prints = {name: value.fingerprint for name, value in weights.items()}
    if not plan.resume and plan.run.exists():
        raise taken(plan.run)
    search = _resume(plan, store, prints, say) if plan.resume else _begin(plan, store, prints)
    storage.write_bytes(plan.run.folder / "space.yaml", plan.space.text.encode())
    plan.run.write_search(search)
    return search


def _begin(plan: Plan, store: Store, prints: dict[str, str]) -> dict[str, Any]:
    """What a new search says of itself."""
    return {
        "id": secrets.token_hex(4),
        "name": plan.run.name,
        "command": plan.command,
        "options": {
            "space": plan.space.name,
            "set": list(plan.settings),
            "data": None if plan.data_dir is None else str(plan.data_dir),
            "weights": plan.weights,
            "seed": plan.seed,
            **{name: getattr(plan, name) for name in CHANGEABLE},
        },
        "metric": dataclasses.asdict(plan.space.metric),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "data": {
            "folder": str(store.folder),
            "dataset": store.manifest.dataset,
            "fingerprint": store.fingerprint,
            "size_px": store.manifest.size_px,
        },
        "weights": prints,
        "openings": 1,
        "sessions": [],
        "test_readings": [],
    }


def _resume(plan: Plan, store: Store, prints: dict[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """What is on record, with this session's changes; the journals are repaired, and extended first of all."""
    search = plan.run.read_search()
    for what, recorded, now in (
        ("data", search["data"]["fingerprint"], store.fingerprint),
        ("weights", {**prints, **search["weights"]}, prints),
    ):
        if recorded != now:
            where, problem = f"--resume {plan.run.name}", f"the {what} are not those of the search"
            raise SearchError(where, problem, "Start a search of another name")
    for journal in (plan.run.journal(), plan.run.finals_journal()):
        journal.repair()
    repair.set_aside(plan.run)
    if plan.retry:
        for line in repair.retry(plan.run):
            say(line)
    elif failed := repair.failures(plan.run):
        say(f"failed: trials {', '.join(failed)}; --retry runs them again")
    if plan.extension is not None:
        before = sum(event["event"] == "extend" for event in plan.run.journal().read())
        search["extensions"] = [*(search.get("extensions") or [])[:before], plan.extension]
        plan.run.journal().append(plan.extension)  # from here on it has the new space, whatever happens to the rest
        search["options"]["space"] = plan.extension["space"]["name"]
    search["weights"] = prints
    search["data"] |= {"folder": str(store.folder), "size_px": store.manifest.size_px}  # it may have been moved
    search["options"]["data"] = None if plan.data_dir is None else str(plan.data_dir)
    search["options"]["weights"] = plan.weights
    search["options"] |= {"set": list(plan.settings), **{name: getattr(plan, name) for name in CHANGEABLE}}
    search["openings"] = (search.get("openings") or len(search["sessions"])) + 1
    return search
