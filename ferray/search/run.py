"""The story of a search, top-down: data, cluster, worker groups, Tune, the finals, the best trial, what happened.

Begin at `run`; every step is a call of a module beside this one.
"""

import dataclasses
import datetime
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ferray import recipe as recipes
from ferray.data.demo.photographs import demo_store
from ferray.data.store.reader import Store, open_store
from ferray.data.store.verify import verify_store
from ferray.files import storage
from ferray.model.weights import Weights, load_weights
from ferray.recipe import Recipe
from ferray.records.run import Run
from ferray.records.trial import FINISHED, State, TrialRecord
from ferray.search.fleet import cluster as clusters
from ferray.search.fleet.cluster import Cluster
from ferray.search.fleet.dispatcher import Job
from ferray.search.fleet.launch import GRACE_S, Team, assemble
from ferray.search.history import repair
from ferray.search.history.points import Suggestion, ended_trials, said, to_recipe
from ferray.search.history.resume import MORE
from ferray.search.history.shared_epochs import Prefixes
from ferray.search.live import LiveView
from ferray.search.open import open_search
from ferray.search.outcome import finals
from ferray.search.outcome.export import select_best, short_path, write_tables
from ferray.search.outcome.significance import Verdict, judge
from ferray.search.outcome.summary import summary
from ferray.search.plan import DEMO_COMMAND, Plan
from ferray.search.tune.decisions import Decisions
from ferray.search.tune.loop import Decider, tune_until_done
from ferray.tracking.wandb import Tracker, choose_mode
from ferray.train.checkpoints.checked_safetensors import DamagedError
from ferray.train.settle import settle

log = logging.getLogger(__name__)


def run(plan: Plan, cluster: Cluster | None) -> int:
    """Carry out a search and leave its folder complete.

    Args:
        plan: What was asked for.
        cluster: Where; None to connect only if there is anything to train.

    Returns:
        0, or 130 if it was interrupted.
    """
    store = open_store(plan.data_dir or demo_store(storage.cache_dir()))
    _say_first(plan, store)
    weights = {name: load_weights(plan.weights, name) for name in _backbones(plan)}
    with ExitStack() as stack:
        stack.enter_context(storage.lock(plan.run.folder / ".lock", wait_s=0))
        search = open_search(plan, store, weights, say=_say)
        stop = stack.enter_context(_interruptible())
        mode, sentence = choose_mode(plan.wandb, folder=short_path(plan.run.folder))
        tracker = stack.enter_context(Tracker(plan.run, mode=mode, search_id=search["id"], config=search["options"]))
        done = _train_what_is_missing(plan, search, store, weights, tracker, stop, cluster)
        records = _settle_states(plan.run)
        files = write_tables(plan.run, records, plan.space)
        if not done:
            _say(f"interrupted; every finished epoch is kept. Go on: python -m ferray.search --resume {plan.run.name}")
            return 130
        standing = finals.standing(plan, records)
        try:
            verdict = _judge(plan, standing, store, weights)
            search["verdict"] = None if verdict is None else verdict.to_json()
            best = select_best(plan.run, records, standing, store, weights, search, verdict=verdict, again=plan.again)
        except DamagedError as error:
            raise repair.lose(plan.run, error) from error
        test = {f"test_{name}": value for name, value in (best.metrics or {}).items() if isinstance(value, float)}
        tracker.search_ended(best=best.record, files=[*files, plan.run.best_dir], summary=test)
        print(summary(plan, store, records, standing, best, verdict, sentence))
        return 0


def _train_what_is_missing(
    plan: Plan,
    search: dict[str, Any],
    store: Store,
    weights: dict[str, Weights],
    tracker: Tracker,
    stop: threading.Event,
    cluster: Cluster | None,
) -> bool:
    """Everything that needs a cluster; False if it was interrupted."""
    identify = _identify(plan, search, store, weights)
    wounds = repair.wounds(plan.run, plan.space, seed=plan.seed)
    is_known = "precision" in search and not wounds
    if is_known and not _decisions(plan, identify).more() and not finals.lacking(plan, identify):
        _say(f"every point is on record; nothing to train. {MORE}")
        return True
    verify_store(store)
    decides = plan.space.early_terminate is not None or any(wound.state == "stopped" for wound in wounds)
    with (
        clusters.connect(plan.address) if cluster is None else nullcontext(cluster) as there,
        _scratch(plan, there) as scratch,
        _team(plan, search, store, there, scratch, stop, decides=decides) as team,
    ):
        if not team.hellos:
            return False
        decisions = _decisions(plan, identify)
        prefixes = Prefixes(plan.run, decides=decides)
        numbers = {record.number for record in plan.run.read_trials()}
        view = LiveView(
            plan.space,
            columns=plan.columns,
            total=None if plan.num_trials is None else plan.num_trials + plan.num_final_trials + decisions.num_outside,
            ended=decisions.num_ended - len(wounds),
            notes=team.notes,
        )
        with view as live:

            def tune(decider: Decider, name: str) -> None:
                tune_until_done(
                    decider,
                    make_job=lambda suggestion: _make_job(plan, search, store, suggestion, prefixes, numbers),
                    dispatcher_name=team.dispatcher_name,
                    # One more waits for the next free group, unless that costs a searcher knowledge.
                    concurrent=team.share.num_groups + (plan.space.method != "bayes"),
                    stop=stop,
                    observers=[live, tracker, prefixes, repair.Reasons(plan.run)],
                    scratch=scratch / name,
                )

            if wounds:
                tune(repair.Mending(wounds), "mending")
            tune(decisions, "search")
            while not stop.is_set() and (wanted := finals.lacking(plan, identify)):
                number = 1 + max(record.number for record in plan.run.read_trials())
                tune(finals.Finals(wanted, plan.run, identify=identify, first_number=number), f"finals-{number}")
            if stop.is_set():
                _say(f"stopping; trials at hand keep what they have, {GRACE_S:.0f} s at most")
    return not stop.is_set()


@contextmanager
def _scratch(plan: Plan, there: Cluster) -> Iterator[Path]:
    """Folder for Ray's own files, which nobody reads; where every node sees it."""
    parent = plan.run.folder if there.joined else None
    with tempfile.TemporaryDirectory(prefix=".ray-" if parent else "ferray-", dir=parent) as name:
        yield Path(name)


@contextmanager
def _team(
    plan: Plan,
    search: dict[str, Any],
    store: Store,
    there: Cluster,
    scratch: Path,
    stop: threading.Event,
    *,
    decides: bool,
) -> Iterator[Team]:
    """Worker groups while the block runs; what they are, and how busy they were, goes on record."""
    heads = _values(plan, "freeze") == ["trunk"]
    with assemble(
        plan, search, store.folder, there, decides=decides, heads_only=heads, scratch=scratch, stop=stop
    ) as team:
        if team.hellos:
            _record_hellos(plan, search, team)
        yield team
    if team.hellos:
        search["sessions"][-1]["utilization"] = team.utilization
        plan.run.write_search(search)


def _identify(
    plan: Plan, search: dict[str, Any], store: Store, weights: dict[str, Weights]
) -> Callable[[dict[str, Any]], str]:
    """The trial id of a point; the precision must be settled when it is called."""

    def identify(point: dict[str, Any]) -> str:
        recipe = _settled(plan, search, store, point)
        return recipes.trial_id(
            recipe, data_fingerprint=store.fingerprint, weights_fingerprint=weights[recipe.backbone].fingerprint
        )

    return identify


def _judge(plan: Plan, standing: finals.Standing, store: Store, weights: dict[str, Weights]) -> Verdict | None:
    """How sure the winner is; None where the trunk is free and no finals asked for it: it costs passes of the trunk."""
    if standing.winner.recipe.freeze != "trunk" and plan.replicates == 1 and plan.space.folds == 1:
        return None
    metric = plan.space.metric.name
    return judge(plan.run, standing, store, weights, metric=metric, cache=storage.cache_dir())


def _decisions(plan: Plan, identify: Callable[[dict[str, Any]], str]) -> Decisions:
    """Searcher, scheduler and journal, knowing all that is on record."""
    space, journal = plan.space, plan.run.journal()
    return Decisions(space, journal, identify=identify, seed=plan.seed, max_trials=plan.num_points, folds=space.folds)


def _make_job(
    plan: Plan, search: dict[str, Any], store: Store, suggestion: Suggestion, prefixes: Prefixes, numbers: set[int]
) -> Job:
    """A suggestion with what is on record of it; one that is new gets a number that no trial of the finals has."""
    record = plan.run.read_trial(suggestion.trial_id)
    new = suggestion.number if suggestion.number not in numbers else max(numbers) + 1
    number = new if record is None else record.number
    numbers.add(number)
    recipe = _settled(plan, search, store, suggestion.point)
    return Job(
        trial_id=suggestion.trial_id,
        number=number,
        recipe=recipe,
        shorter=prefixes.shorter(recipe),
        epochs=() if record is None else record.epochs,
        state="queued" if record is None else record.state,
        reason="" if record is None else record.reason,
    )


def _settled(plan: Plan, search: dict[str, Any], store: Store, point: dict[str, Any]) -> Recipe:
    """The recipe of a point with nothing left open."""
    return settle(to_recipe(plan.space, point, seed=plan.seed), store, precision=search["precision"])


def _record_hellos(plan: Plan, search: dict[str, Any], team: Team) -> None:
    """What the groups said of themselves goes on record; the precision of a search is settled by its first groups."""
    precisions = {hello.precision for hello in team.hellos}
    search.setdefault("precision", "float32" if len(precisions) > 1 else precisions.pop())
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    devices = sorted({hello.device for hello in team.hellos})
    search["sessions"].append({"began": began, "groups": dataclasses.asdict(team.share), "devices": devices})
    plan.run.write_search(search)


def _settle_states(run: Run) -> list[TrialRecord]:
    """All records, now that nobody writes them: the journal's word on a trial's end holds, the rest was interrupted."""
    events = [*run.journal().read(), *run.finals_journal().read()]
    ended = {event["trial_id"]: event for event in ended_trials(events)}
    records = []
    for record in run.read_trials():
        event = ended.get(record.trial_id)
        state: State = "interrupted" if event is None else event["state"]
        if event is not None and len(record.epochs) < event["epoch"]:  # its record was lost, and not made good
            event, state = None, "failed" if record.state == "failed" else "interrupted"
        if record.state not in FINISHED and record.state != state:
            record = dataclasses.replace(record, state=state, reason=record.reason if event else "")
            run.write_trial(record)
        records.append(record)
    return records


def _backbones(plan: Plan) -> list[str]:
    """Those that the space may ask for, and those that the search has asked for before it grew."""
    before = plan.run.read_search()["weights"] if plan.resume else {}
    return list(dict.fromkeys([*_values(plan, "backbone"), *before]))


def _values(plan: Plan, name: str) -> list[str]:
    """Every value that the space may ask for of a parameter of words."""
    return next((list(p.values) for p in plan.space.parameters if p.name == name), [getattr(Recipe(), name)])


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second Ctrl-C interrupts for good."""
    stop = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_first(plan: Plan, store: Store) -> None:
    total = plan.num_points
    manifest = store.manifest
    faces = {split: sum(classes.values()) for split, classes in manifest.counts.items()}
    if store.is_demo:
        _say(f"demo faces, drawn by code: accuracy on them means nothing for real ones. Real data: {DEMO_COMMAND}")
    settings = f", with {', '.join(plan.settings)}" if plan.settings else ""
    _say(f"search {plan.run.name}: {total if total is not None else 'unlimited'} points of {plan.space.file}{settings}")
    if plan.news is not None:
        for line in said(plan.news, plan.space):
            _say(line)
    _say(f"{faces['train']:,} training, {faces['validation']:,} validation, {faces['test']:,} sealed test faces")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
