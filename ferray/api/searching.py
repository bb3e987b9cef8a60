"""`ferray.search` and `ferray.plan`: what `python -m ferray.search` does, as functions.

Every parameter of `search` but `space`, `overrides` and `on_epoch` is a field of
`ferray.search.options.SearchOptions` with its default, which a test compares. Begin at `search`.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, cast

from ferray.api.arguments import AnyPath, describe_argument, make_options, to_path, to_settings, to_sweep_text
from ferray.api.epochs import EpochCallback, OnEpoch
from ferray.api.results import SearchResult
from ferray.errors import SearchError
from ferray.files.location import is_address, to_address
from ferray.files.storage import give_home
from ferray.search.options import Keep, SearchOptions, WandbMode
from ferray.search.session import announce_stop, open_plan, run_session
from ferray.signals import catch_signals
from ferray.wording import DEFAULT_OUT

Parameters = ParamSpec("Parameters")

MAX_COMMAND = 500
"""Characters of an argument in the recorded command; a longer space is in `space.yaml`."""


def search(
    space: AnyPath | Mapping[str, Any] | None = None,
    *,
    data: AnyPath | None = None,
    weights: AnyPath | None = None,
    overrides: Mapping[str, Any] | None = None,
    out: AnyPath = DEFAULT_OUT,
    name: str | None = None,
    resume: AnyPath | None = None,
    retry: bool = False,
    again: bool = False,
    max_trials: int | None = None,
    minutes: float | None = None,
    seed: int | None = None,
    replicates: int | None = None,
    finalists: int | None = None,
    keep: Keep | None = None,
    workers_per_trial: int | None = None,
    gpus_per_worker: float | None = None,
    concurrent_trials: int | None = None,
    max_failures: int | None = None,
    wandb: WandbMode | None = None,
    tensorboard: bool | None = None,
    mlflow: str | None = None,
    address: str | None = None,
    price: float | None = None,
    on_epoch: OnEpoch | None = None,
) -> SearchResult:
    """Search the settings of a space, as `python -m ferray.search` does, and return the finished search.

    What the search does is shown on stderr; in a notebook, as a table in the cell's output. Ctrl-C, or interrupting the
    cell, ends it as in a terminal: every finished epoch is kept, KeyboardInterrupt is raised, and `resume` goes on. Ray
    is started for the search and ended with it, so a process can search again and again, but not while it runs a Ray of
    its own. In a thread besides the main one no signal can be caught; `on_epoch` can end the search there.

    Args:
        space: Name of a shipped space, a sweep file, or its content as a dict; None for `grid`.
        data: Store that `ferray.prepare` made, or `s3://BUCKET/KEY`; None for demo faces drawn by code.
        weights: `imagenet`, the default, or `none`, the default with demo faces, or a file.
        overrides: Settings in place of the space's, by name: a value, or a list of values to be searched. `folds` and
            `shuffle_labels` are settings, too.
        out: Parent folder of all searches, or `s3://BUCKET/RUNS`.
        name: Of the search and its folder; None for space and time.
        resume: Name, folder or address of a search to go on with; with `space` or `overrides` only what is new is run.
        retry: With `resume`: run failed trials again, once.
        again: Read the test split once more if a resumed search keeps another model.
        max_trials: Points at most.
        minutes: Begin no point after so many minutes, train to its end what has begun, and name the best so far.
        seed: Of the trials, and of the points drawn; None for 0.
        replicates: Train the best points with so many seeds; the best mean wins.
        finalists: How many points those are; None for 3.
        keep: With folds, what becomes the best model: `refit`, the default, trains once more.
        workers_per_trial: Workers that train one trial together; None for 1.
        gpus_per_worker: GPUs of a worker, also 0.5; None for 1 if there are any.
        concurrent_trials: Trials at a time; None for what fits.
        max_failures: Worker deaths that a trial may have a part in; None for 2.
        wandb: None for online with a key and a network, else offline.
        tensorboard: Write event files to `runs/NAME/tensorboard`; None for as before, or else not.
        mlflow: MLflow's tracking URI; None to send nothing there.
        address: Of a running Ray cluster, `auto` or `HOST:PORT`; None to start Ray here.
        price: Of an hour of the machine, or of the whole cluster, in any currency: then it says what it costs.
        on_epoch: Called in this process after each epoch, with the trial so far and the epoch. The epochs of one trial
            come in order; those of trials side by side as they end. An error of it ends the search as Ctrl-C does, and
            is then raised; KeyboardInterrupt can be raised on purpose.

    Raises:
        FerrayError: Place, fault and way out; a wrong argument is named. Options are named as the command has them.
        KeyboardInterrupt: The search was interrupted.
    """
    options = _to_options(dict(locals()))
    give_home()
    with catch_signals(on_first=announce_stop) as stop:
        callback = None if on_epoch is None else EpochCallback(on_epoch, stop)
        plan, is_complete = run_session(options, stop, show="nothing", observers=[callback] if callback else [])
    if callback is not None and callback.error is not None:
        raise callback.error
    if not is_complete:
        raise KeyboardInterrupt(f"every finished epoch is kept; go on: ferray.search(resume={plan.run.place!r})")
    return SearchResult(plan.run.folder)


def _with_parameters_of(
    function: Callable[Parameters, object],
) -> Callable[[Callable[..., dict[str, Any]]], Callable[Parameters, dict[str, Any]]]:
    """A decorator for a function that takes what another takes; a help page and an editor show the parameters."""

    def decorate(decorated: Callable[..., dict[str, Any]]) -> Callable[Parameters, dict[str, Any]]:
        signature = inspect.signature(function).replace(return_annotation=dict[str, Any])
        decorated.__signature__ = signature  # type: ignore[attr-defined]
        return cast("Callable[Parameters, dict[str, Any]]", decorated)

    return decorate


@_with_parameters_of(search)
def plan(*given: Any, **options: Any) -> dict[str, Any]:
    """What a search would do, as `python -m ferray.search --dry-run --json` says it; nothing is trained.

    It takes the parameters of `search`. The dict has the new points, the passes of the frozen trunk, the worker groups,
    and the time, as far as earlier searches on this machine have measured it.

    Raises:
        FerrayError: As `search`.
    """
    from ferray.search.dry_run import plan_to_json

    bound = inspect.signature(search).bind(*given, **options)
    bound.apply_defaults()
    with open_plan(_to_options(dict(bound.arguments), dry_run=True)) as (planned, history):
        return plan_to_json(planned, history)


def _to_options(given: dict[str, Any], *, dry_run: bool = False) -> SearchOptions:
    """The options of the command that the arguments of `search` stand for."""
    if not (given["on_epoch"] is None or callable(given["on_epoch"])):
        way_out = "Give a function of a trial and its epoch"
        raise SearchError(describe_argument("on_epoch", given["on_epoch"]), "cannot be called", way_out)
    command = _describe_call(given)
    del given["on_epoch"]
    space, overrides, resume = given.pop("space"), given.pop("overrides"), given.pop("resume")
    for name in ("data", "weights", "out"):
        if given[name] is not None:
            given[name] = to_path(name, given[name], SearchError)
    if isinstance(space, Mapping):
        given["space_text"] = to_sweep_text(space, SearchError)
    elif space is not None:
        given["space"] = to_path("space", space, SearchError)
    if overrides is not None:
        given["settings"] = to_settings(overrides, SearchError)
    if resume is not None:
        parent, given["resume"] = _parent_and_name(to_path("resume", resume, SearchError))
        given["out"] = parent or given["out"]
    return make_options(SearchOptions, {**given, "command": command, "dry_run": dry_run}, SearchError)


def _parent_and_name(place: str) -> tuple[str, str]:
    """Of a search: the parent's folder or address, empty for a name alone, and its name."""
    if is_address(place):
        address = to_address(place, option="resume")
        return str(address.parent), address.name
    folder = Path(place)
    return ("" if folder.parent == Path() else str(folder.parent)), folder.name


def _describe_call(given: Mapping[str, Any]) -> str:
    """The call for the records, without what was left out."""
    defaults = {name: one.default for name, one in inspect.signature(search).parameters.items()}
    shown = {
        name: str(value) if isinstance(value, Path) else getattr(value, "__name__", value)
        for name, value in given.items()
        if value is not defaults[name]
    }
    words = [f"{name}={text if len(text := repr(value)) <= MAX_COMMAND else '...'}" for name, value in shown.items()]
    return f"ferray.search({', '.join(words)})"
