"""What a search is going to do, decided before anything heavy is loaded. Begin at `make_plan`."""

import datetime
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ferray import space as spaces
from ferray.errors import RecordError, SearchError, StorageError
from ferray.files.location import is_address
from ferray.recipe import Recipe
from ferray.records.bucket.run import find_run
from ferray.records.events import ExtendEvent
from ferray.records.run import Run
from ferray.search.history.identities import check_identities
from ferray.search.history.points import Additions, read_source
from ferray.search.history.recorded import History
from ferray.search.history.resume import (
    RecordedSpaces,
    find_spaces,
    make_extension,
    recall,
    settings_with_weights,
)
from ferray.search.options import Keep, SearchOptions, WandbMode
from ferray.space import Space
from ferray.space.nodes import read_yaml
from ferray.space.settings import flatten
from ferray.tracking.mlflow import check_tracking_uri
from ferray.wording import option_text

DEMO_COMMAND = "python -m ferray.search --space grid --data DIR"

MAX_FAILURES = 2
"""Default of `--max-failures`."""

MAX_NAME_BYTES = 255
"""Longest name of a folder on the usual file systems (NAME_MAX in `limits.h`)."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search with all its options settled; only the precision is left to its workers, which measure it."""

    space: Space
    settings: tuple[str, ...]
    run: Run
    data: str | None
    """The store, as it is recorded: an absolute path, or its address in a bucket; None for the demo faces."""
    data_dir: Path | None
    """Its folder here; None for the demo faces, and for a store in a bucket until `bring_inputs`."""
    has_faces: bool = True
    """Whether `data_dir` has more than the manifest: a dry run fetches no faces."""
    weights: str
    """`imagenet`, `none`, or a file or a folder with a file for each backbone: an absolute path, or an address."""
    weights_path: str
    """The same as a path of this machine; still the address until `bring_inputs`, and in a dry run."""
    replaces_weights: bool = False
    """Whether `weights` is `none` in place of pretrained ones that a setting or the space's file asks for."""
    seed: int
    max_trials: int | None
    workers_per_trial: int
    gpus_per_worker: float | None
    concurrent_trials: int | None
    max_failures: int
    """Deaths of worker groups that one trial may have a part in before it counts as failed."""
    replicates: int
    """Seeds of each finalist, its first one included; 1 for no finals."""
    finalists: int
    """Points that go to the finals."""
    keep: Keep
    """With folds: what becomes the best model."""
    retry: bool
    """Whether failed trials are run again."""
    again: bool
    """Whether the test split may be read once more, where another model is kept than the one it was read for."""
    wandb: WandbMode | None
    tensorboard: bool
    mlflow: str | None
    """MLflow's tracking URI; None to send nothing there."""
    address: str | None
    command: str
    price: float | None = None
    """Of an hour of all machines that the search has, in any currency."""
    began: float = field(default_factory=time.time)
    """When the plan was made, in seconds since 1970."""
    deadline: float | None = None
    """When, by `time.monotonic`, the search begins no further point; None for no limit."""
    extension: ExtendEvent | None = None
    """The event that extends a resumed search by another space."""
    additions: Additions | None = None
    """What is new in a search that is resumed and may be extended."""

    @property
    def resume_command(self) -> str:
        """The command that goes on with it, from the folder where the user is; further options can be added."""
        return self.run.resume_command

    @property
    def num_points(self) -> int | None:
        """Points in all; None where there is no limit."""
        counts = [count for count in (spaces.num_points(self.space), self.max_trials) if count is not None]
        return min(counts, default=None)

    @property
    def num_trials(self) -> int | None:
        """Trials of those points, one a fold; without finals and refit."""
        return None if self.num_points is None else self.num_points * self.space.folds

    @property
    def num_trials_in_all(self) -> int | None:
        """Trials of the points and of the finals, at most, those that are trained to their end counted once more."""
        return None if self.num_trials is None else self.num_trials + self.num_final_trials + self.num_completions

    @property
    def columns(self) -> tuple[str, ...]:
        """Settings that tell one trial from another."""
        repeated = (("fold", self.space.folds), ("seed", self.replicates))
        extra = [name for name, count in repeated if count > 1 and name not in self.space.searched]
        return (*self.space.searched, *extra)

    def values(self, name: str) -> list[str]:
        """Every value that the space may ask for of a parameter of words."""
        return next((list(p.values) for p in self.space.parameters if p.name == name), [getattr(Recipe(), name)])

    @property
    def num_final_trials(self) -> int:
        """Trials after the search proper, at most: more seeds of the finalists, and the refit."""
        points = self.finalists if self.num_points is None else min(self.finalists, self.num_points)
        return points * (self.replicates - 1) * self.space.folds + self.refits

    @property
    def num_completions(self) -> int:
        """Finalists, at most, whose first trial was stopped early and is trained to its end."""
        points = self.finalists if self.num_points is None else min(self.finalists, self.num_points)
        return points if self.replicates > 1 and self.space.early_terminate is not None else 0

    @property
    def refits(self) -> bool:
        """Whether the winner is trained once more, on the whole training split."""
        return self.space.folds > 1 and self.keep == "refit"


def make_plan(options: SearchOptions, history: History | None = None) -> Plan:
    """Check the options against each other and against what is on the disk.

    Args:
        options: Of the command.
        history: The records of the search that is resumed; None for a new one.

    Raises:
        FerrayError: A space, folder, file or combination that cannot be, or a search of a version with other numbers.
    """
    if history is None:
        if options.retry:
            way_out = "Name the search: --resume NAME --retry"
            raise SearchError("--retry", "runs failed trials of a search again", way_out)
        if options.again:
            way_out = "Name the search: --resume NAME --again"
            raise SearchError("--again", "reads the test split once more for a search that is resumed", way_out)
        return _settle(options, None, None)
    recorded = find_spaces(history)
    check_identities(history, recorded)
    may_extend = options.dry_run or recorded.lost is not None
    may_extend |= options.space_text is not None
    may_extend |= bool(options.space is not None or options.settings or options.max_trials is not None)
    plan = _settle(recall(options, history, recorded), recorded, history.run)
    if not may_extend:
        return plan
    settings = settings_with_weights(plan.settings, plan.weights)
    extension, additions = make_extension(history, recorded, plan.space, settings, num_points=plan.num_points)
    return replace(plan, extension=extension, additions=additions)


def name_is_taken(run: Run) -> RecordError:
    """A new search whose name is another's."""
    way_out = f"Go on with it: {option_text('--resume', run.name)}; or choose another --name"
    return RecordError(run.place, "a search of this name is there", way_out)


def _settle(options: SearchOptions, recorded: RecordedSpaces | None, run: Run | None) -> Plan:
    """A plan of options of which none is missing any more; the folder of a new search gets its name."""
    weights = _default(options.weights, "none" if options.data is None else "imagenet")
    space = _read_space(options, recorded, settings_with_weights(options.settings, weights))
    if run is None:
        run = _new_run(options, space)
        if options.weights is None and _asks_for_no_weights(space):
            weights = "none"
    _check_files(options.data, weights, is_resumed=recorded is not None)
    data = None if options.data is None else _resolved(options.data)
    weights = weights if weights in ("imagenet", "none") else _resolved(weights)
    if options.mlflow is not None:
        check_tracking_uri(options.mlflow)
    return Plan(
        space=space,
        settings=tuple(one for one in options.settings if one != "weights=none" or weights != "none"),
        run=run,
        data=data,
        data_dir=None if data is None or is_address(data) else Path(data),
        weights=weights,
        weights_path=weights,
        replaces_weights=weights == "none" and _pretrained_is_asked_for(space, options.settings),
        seed=_default(options.seed, 0),
        max_trials=options.max_trials,
        workers_per_trial=_default(options.workers_per_trial, 1),
        gpus_per_worker=options.gpus_per_worker,
        concurrent_trials=options.concurrent_trials,
        max_failures=_default(options.max_failures, MAX_FAILURES),
        replicates=_default(options.replicates, space.replicates),
        finalists=_default(options.finalists, space.finalists),
        keep=_default(options.keep, "refit"),
        retry=options.retry,
        again=options.again,
        wandb=options.wandb,
        tensorboard=bool(options.tensorboard),
        mlflow=options.mlflow,
        address=options.address,
        price=options.price,
        command=options.command,
        deadline=None if options.minutes is None else time.monotonic() + 60 * options.minutes,
    )


def _asks_for_no_weights(space: Space) -> bool:
    """Whether no trial begins with pretrained weights, so that none need be fetched."""
    return any(one.name == "weights" and one.values == ("none",) for one in space.parameters)


def _pretrained_is_asked_for(space: Space, settings: tuple[str, ...]) -> bool:
    """Whether `--set`, or else the file, has pretrained weights for some points."""
    nodes = flatten(read_yaml(space.text, file=space.file).mapping()["parameters"])
    in_file = nodes["weights"].plain() if "weights" in nodes else None
    asked = spaces.parse_settings(settings).get("weights", in_file)
    if isinstance(asked, dict):
        asked = asked.get("values", asked.get("value"))
    return "pretrained" in (asked if isinstance(asked, list) else [asked])


def _resolved(location: str) -> str:
    """What records have: an absolute path, or the address."""
    return location if is_address(location) else str(Path(location).resolve())


def _default(given: Value | None, default: Value) -> Value:
    return default if given is None else given


def _new_run(options: SearchOptions, space: Space) -> Run:
    """The folder of a search that begins.

    Raises:
        SearchError: Its name leads out of the parent folder, or cannot be a folder's.
        RecordError: Its name is another search's.
    """
    name = options.name or f"{space.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    check_name(name)
    run = find_run(options.out, name)
    if run.exists():
        raise name_is_taken(run)
    run.check_unused()
    return run


def check_name(name: str) -> None:
    """Refuse a name of a search that cannot be a folder's, or cannot be typed.

    Raises:
        SearchError: It leads out of the parent folder, is too long, or is taken for an option.
    """
    if Path(name).name != name or name in (".", "..") or not name.isprintable():
        way_out = "Leave out slashes, tabs and what else is not printed; --out names the parent folder"
        raise SearchError(f"--name {name}", "not a plain folder name", way_out)
    if name.startswith("-"):
        raise SearchError(f"--name {name}", "begins with a dash, as options do", "Choose another one")
    if (num_bytes := len(os.fsencode(name))) > MAX_NAME_BYTES:
        what = f"has {num_bytes} bytes; the name of a folder has at most {MAX_NAME_BYTES}"
        raise SearchError(f"--name {name}", what, "Choose a shorter one")


def _check_files(data: str | None, weights: str, *, is_resumed: bool) -> None:
    """That data and weights are there, as far as they are files of this machine; those of a search may have moved."""
    if data is not None and not is_address(data) and not os.path.isfile(os.path.join(data, "manifest.json")):
        way_out = "Make one: python -m ferray.data prepare --help"
        if is_resumed:
            way_out = "Say where the store of the search is now: --data DIR"
        raise StorageError(f"--data {data}", "not a store", way_out)
    if weights in ("imagenet", "none") or is_address(weights):
        return
    if not os.path.isfile(weights) and not os.path.isdir(weights):
        way_out = "Give a file, a folder with a file for each backbone, or 'imagenet', or 'none'"
        if is_resumed:
            way_out = "Say where the weights of the search are now: --weights FILE"
        raise StorageError(f"--weights {weights}", "no such file", way_out)


def _read_space(options: SearchOptions, recorded: RecordedSpaces | None, settings: tuple[str, ...]) -> Space:
    """The space that is named, else the one that the search has, else the first that is shipped."""
    values = spaces.parse_settings(settings)
    if options.space_text is not None:
        return spaces.read_space(Path("space.yaml"), values, text=options.space_text)
    if recorded is not None and options.space is None:
        return read_source(recorded.wanted.changed(settings=settings), recorded.file)
    return spaces.read_space(spaces.find_space(_default(options.space, "grid")), values)
