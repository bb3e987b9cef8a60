"""The story of a search, top-down: data, cluster, worker groups, Tune, the finals, the best trial, what happened.

Begin at `run`; every step is a call of a module of `ferray.search`.
"""

import dataclasses
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from ferray.data.demo.photographs import demo_store
from ferray.data.store.reader import Store, open_store
from ferray.data.store.verify import verify_store
from ferray.errors import FerrayError, StorageError
from ferray.files import storage
from ferray.model.weights import load_weights
from ferray.records.run import sent_at_the_end
from ferray.records.search_file import Session
from ferray.records.trial import TrialRecord
from ferray.report.results.verdict import Significance
from ferray.report.watch.tally import Tally
from ferray.report.watch.view import Phase
from ferray.search.first_lines import first_lines
from ferray.search.fleet import cluster as clusters
from ferray.search.fleet.cluster import Cluster
from ferray.search.fleet.judge import NoNodeError
from ferray.search.fleet.launch import GRACE_S, WorkerGroups, start_worker_groups
from ferray.search.forecast import forecast_plan, make_pace
from ferray.search.history import repair
from ferray.search.history.recorded import History
from ferray.search.history.resume import MORE
from ferray.search.inputs import backbones_of
from ferray.search.jobs import Jobs, launch_settings
from ferray.search.judging import Judging, answers_here
from ferray.search.live import LiveView
from ferray.search.open import Search, open_search
from ferray.search.options import Show
from ferray.search.outcome.answers import Answers
from ferray.search.outcome.as_json import interruption_to_json, outcome_to_json
from ferray.search.outcome.export import export_winner, write_report, write_tables
from ferray.search.outcome.finals import Finals, Ranking, missing_finals, rank_search
from ferray.search.outcome.significance import assess_winner
from ferray.search.outcome.summary import Outcome, summarize
from ferray.search.pace import Pace
from ferray.search.plan import Plan
from ferray.search.rates import note_overhead, note_rate_of
from ferray.search.status import Status
from ferray.search.trackers import other_trackers
from ferray.search.tune.decisions import Decisions
from ferray.search.tune.limit import UntilDeadline
from ferray.search.tune.loop import Decider, Observer, TuneSettings, tune_until_done
from ferray.signals import StopRequest
from ferray.tracking.wandb import choose_mode, origin_of, track_search
from ferray.train.checkpoints.checked_safetensors import DamagedError
from ferray.waiting import waiting
from ferray.wording import short_path, utc_now


def run(
    plan: Plan,
    history: History | None,
    cluster: Cluster | None,
    stop: StopRequest,
    *,
    show: Show = "text",
    observers: Sequence[Observer] = (),
) -> int:
    """Carry out a search and leave its folder complete.

    Args:
        plan: What was asked for.
        history: The records of the search that is resumed, whose folder is locked; None for a new one.
        cluster: Where; None to connect only if there is anything to train.
        stop: Ends it early. While trials are trained, they are ended first; all else is left at once, and a resumed
            search does it again.
        show: How what the search came to is printed on stdout.
        observers: Informed of its trials and epochs after the records.

    Returns:
        0, or 130 if it was interrupted.
    """
    try:
        outcome = _run(plan, history, cluster, stop, show=show, observers=observers)
        if outcome is not None:
            if show == "json":  # last of all: what can still fail would print an object of its own
                print(json.dumps(outcome, indent=2))
            return 0
    except KeyboardInterrupt:
        if not plan.run.exists():
            raise
    _say(f"interrupted; every finished epoch is kept. Go on: {plan.resume_command}")
    if show == "json":
        print(json.dumps(interruption_to_json(plan), indent=2))
    return 130


def _run(
    plan: Plan,
    history: History | None,
    cluster: Cluster | None,
    stop: StopRequest,
    *,
    show: Show,
    observers: Sequence[Observer],
) -> dict[str, Any] | None:
    """The search, and what it came to as JSON values; None if it was interrupted while trials were trained."""
    with ExitStack() as stack:
        with stop.raised():
            store = _open_store(plan)
            forecast = forecast_plan(plan, history)
            for line in first_lines(plan, store, forecast):
                _say(line)
            with waiting("reading the pretrained weights, or fetching them once"):
                weights = {name: load_weights(plan.weights_path, name) for name in backbones_of(plan, history)}
            if history is None:
                stack.enter_context(plan.run.lock())
            stack.enter_context(sent_at_the_end(plan.run))
            with waiting("reading and checking the records"):
                search = open_search(plan, history, store, weights, say=_say)
            mode, sentence = choose_mode(plan.wandb, folder=short_path(plan.run.folder))
        recorded = search.history.search
        tally = Tally(plan.run.name, plan.space, columns=plan.columns, known=search.history.records)
        session = recorded.openings or 1
        status = Status(
            plan.run.folder, session=session, price=plan.price, began=plan.began, forecast_s=forecast.seconds
        )
        status.show(partial(tally.view, total=plan.num_trials_in_all))
        stack.enter_context(status)
        tracker = track_search(plan.run, recorded, plan.space, mode=mode)
        stack.enter_context(tracker)
        others = stack.enter_context(
            other_trackers(plan, search_id=recorded.id, origin=origin_of(recorded, plan.space))
        )
        connect = cache(lambda: cluster or stack.enter_context(clusters.connect(plan.address)))
        judging = Judging(search, connect)
        done = _train_what_is_missing(search, [tracker, *others, *observers], stop, connect, status, judging)
        records, num_classes = search.history.write_final_states(), len(store.class_names)
        for one in others:
            one.search_ended(records)
        if not done:
            status.is_interrupted = True
            with _step(status, "writing the tables, the pictures and the page"):
                write_tables(plan.run, records, plan.space, num_classes=num_classes, replicates=plan.replicates)
                write_report(plan.run, records)
            return None
        try:
            outcome = _conclude(search, records, stop, status, judging)
        except (FerrayError, KeyboardInterrupt):
            with suppress(StorageError):  # as on a full disk, of which the first error says more
                # What was trained can be read although nothing has won.
                write_tables(plan.run, records, plan.space, num_classes=num_classes, replicates=plan.replicates)
                write_report(plan.run, records)
            raise
        interval = None if outcome.significance is None else outcome.significance.interval
        with _step(status, "writing the tables, the pictures and the page"):
            files = write_tables(
                plan.run, records, plan.space, num_classes=num_classes, replicates=plan.replicates, best=outcome.best,
                interval=interval,
            )  # fmt: skip
            files += write_report(plan.run, records)
        tracker.search_ended(
            records=records,
            best=outcome.best.record,
            files=[*files, plan.run.best_dir],
            summary=_test_scores(outcome),
        )
        if tracker.has_given_up:
            sentence = f"W&B: not all was sent, after errors; go on: {plan.resume_command}"
        if show == "text":
            print(summarize(search, outcome, tracking=sentence))
        if plan.address is None and (overhead := status.overhead()) is not None:
            note_overhead(storage.cache_dir(), overhead)
        return outcome_to_json(search, outcome, tracking=sentence)


def _open_store(plan: Plan) -> Store:
    """The faces that are trained on; demo faces are drawn first, once."""
    if plan.data_dir is not None:
        return open_store(plan.data_dir)
    with waiting("drawing the demo faces, once"):
        return open_store(demo_store(storage.cache_dir()))


def _train_what_is_missing(
    search: Search,
    observers: Sequence[Observer],
    stop: StopRequest,
    connect: Callable[[], Cluster],
    status: Status,
    judging: Judging,
) -> bool:
    """Everything that needs a cluster; False if it was interrupted."""
    plan, history = search.plan, search.history
    missing = repair.find_missing_records(history, plan.space)
    has_all_records = history.search.precision is not None and not missing
    if has_all_records and not _decisions(search).has_more() and not missing_finals(plan, history, search.trial_id):
        _say(f"every point is on record; nothing to train. {MORE}")
        return True
    has_scheduler = plan.space.early_terminate is not None or any(one.end.state == "stopped" for one in missing)
    with ExitStack() as stack:
        with stop.raised():
            with _step(status, f"checking every {search.store.manifest.shown.noun} of the store", phase="starting"):
                verify_store(search.store)
            status.set_phase("starting", "Ray and its worker groups")
            connected = connect()
        scratch = stack.enter_context(_scratch(plan, connected))
        groups = stack.enter_context(_worker_groups(search, connected, scratch, stop, has_scheduler=has_scheduler))
        if not groups.infos:
            return False
        pace = _tune(
            search, observers, stop, groups, status, scratch=scratch, missing=missing, has_scheduler=has_scheduler
        )
    judging.trained_on = groups.trained_on
    if not connected.joined:
        note_rate_of(search, pace, str(groups.allocation))
    return not stop.is_set()


def _tune(
    search: Search,
    observers: Sequence[Observer],
    stop: StopRequest,
    groups: WorkerGroups,
    status: Status,
    *,
    scratch: Path,
    missing: Sequence[repair.MissingRecord],
    has_scheduler: bool,
) -> Pace:
    """Train what lost its record, then the search proper, then the finals, as long as it is not interrupted.

    Returns:
        How fast it went.
    """
    plan, history = search.plan, search.history
    decisions = _decisions(search)
    jobs = Jobs(search, has_scheduler=has_scheduler)
    total = None if plan.num_trials_in_all is None else plan.num_trials_in_all + decisions.num_outside
    pace = make_pace(search, total, num_groups=groups.allocation.num_groups)
    view = LiveView(
        Tally(plan.run.name, plan.space, columns=plan.columns, known=history.records),
        total=total,
        pace=pace,
        ended=decisions.num_ended - len(missing),
        deadline=plan.deadline,
        status=status,
        activities=groups.activities,
        missing=groups.missing,
    )
    with view as live:
        settings = TuneSettings(
            make_job=jobs.make,
            dispatcher_name=groups.dispatcher_name,
            # One proxy more than groups, so that a trial is always queued; an adaptive searcher waits for results.
            num_proxies=groups.allocation.num_groups + (not plan.space.is_adaptive),
            stop=stop,
            recorders=[history, jobs.shared_epochs],
            observers=[live, *observers],
        )

        def tune(decider: Decider, name: str) -> None:
            tune_until_done(decider, settings, scratch=scratch / name)

        if missing:
            tune(repair.RecordRecovery(missing), "recovery")
        limited = UntilDeadline(decisions, plan.deadline, folds=plan.space.folds)
        tune(limited, "search")
        if limited.has_refused and not stop.is_set() and decisions.has_more():
            status.say(f"the time is up: no further point is begun. Go on: {plan.resume_command}")
        for turn in count(1):
            if stop.is_set() or not (wanted := missing_finals(plan, history, search.trial_id)):
                break
            tune(Finals(wanted, history, identify=search.trial_id), f"finals-{turn}")
        if stop.is_set():
            status.say(f"workers write the checkpoints of unfinished trials; this takes up to {GRACE_S:.0f} s")
    return pace


@contextmanager
def _scratch(plan: Plan, cluster: Cluster) -> Iterator[Path]:
    """Folder for Ray's own files, which nobody reads; where every node sees it."""
    parent = plan.run.folder if cluster.joined and plan.run.address is None else None
    with tempfile.TemporaryDirectory(prefix=".ray-" if parent else "ferray-", dir=parent) as name:
        yield Path(name)


@contextmanager
def _worker_groups(
    search: Search, cluster: Cluster, scratch: Path, stop: threading.Event, *, has_scheduler: bool
) -> Iterator[WorkerGroups]:
    """Worker groups while the block runs; what they are, and how busy they were, goes on record."""
    plan, history = search.plan, search.history
    settings = launch_settings(search, joined=cluster.joined, has_scheduler=has_scheduler)
    with start_worker_groups(plan, settings, cluster, scratch=scratch, stop=stop) as groups:
        if groups.infos:
            _record_session(history, groups)
        yield groups
    if groups.infos:
        history.update_last_session(utilization=groups.utilization, devices=_devices(groups))


def _record_session(history: History, groups: WorkerGroups) -> None:
    """What the groups are goes on record; the first groups of a search settle its precision."""
    precisions = {info.precision for info in groups.infos}
    precision = history.search.precision or ("float32" if len(precisions) > 1 else precisions.pop())
    session = Session(
        began=utc_now(),
        groups=dataclasses.asdict(groups.allocation),
        devices=_devices(groups),
    )
    history.update(precision=precision, sessions=(*history.search.sessions, session))


def _devices(groups: WorkerGroups) -> tuple[str, ...]:
    return tuple(sorted({info.device for info in groups.infos}))


def _decisions(search: Search) -> Decisions:
    """Searcher and scheduler, knowing all that is on record."""
    plan, log = search.plan, search.history.decisions
    return Decisions(plan.space, log, identify=search.trial_id, seed=plan.seed, max_points=plan.num_points)


def _conclude(
    search: Search, records: list[TrialRecord], stop: StopRequest, status: Status, judging: Judging
) -> Outcome:
    """Rank the points, say how sure the winner is, export its model and score it; all of it can be left at once."""
    ranking = rank_search(search.plan, records)
    try:
        with judging.answers(ranking) as answers:
            return _judge(search, records, ranking, stop, status, answers)
    except NoNodeError:
        _say("the winner is judged here: the cluster has no node left that could do it")
    with answers_here() as answers:
        return _judge(search, records, ranking, stop, status, answers)


def _judge(
    search: Search,
    records: list[TrialRecord],
    ranking: Ranking,
    stop: StopRequest,
    status: Status,
    answers: Answers,
) -> Outcome:
    """How sure the winner is, then its model and the score of that, with predictions made here or on a node."""
    try:
        with stop.raised(), _step(status, "judging the winner"):
            significance = _assess(search, ranking, answers)
            search.history.update(verdict=None if significance is None else significance.to_json())
        with stop.raised(), _step(status, "writing the best model and its score"):
            best = export_winner(search, records, ranking, significance, answers)
    except DamagedError as error:
        raise repair.discard_record(search.history, error) from error
    return Outcome(records=records, ranking=ranking, significance=significance, best=best)


@contextmanager
def _step(status: Status, doing: str, *, phase: Phase = "concluding") -> Iterator[None]:
    """A wait besides the training of trials, which who looks at the search sees, too."""
    status.set_phase(phase, doing)
    with waiting(doing):
        yield


def _assess(search: Search, ranking: Ranking, answers: Answers) -> Significance | None:
    """How sure the winner is; None if the trunk is trained and there are neither replicates nor folds.

    Where the trunk is trained, predictions need passes of the whole model.
    """
    plan = search.plan
    if ranking.winner.recipe.freeze != "trunk" and plan.replicates == 1 and plan.space.folds == 1:
        return None
    return assess_winner(search, ranking, answers)


def _test_scores(outcome: Outcome) -> dict[str, float]:
    """The test scores of the best model, for W&B."""
    numbers = {} if outcome.best.metrics is None else outcome.best.metrics.numbers
    return {f"test_{name}": value for name, value in numbers.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
