"""What a search is going to do, decided before anything heavy is loaded.

`make_plan` turns options, or the folder of an earlier search, into a `Plan`; `describe` is what `--dry-run` prints.
"""

import argparse
import dataclasses
import datetime
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from ferray import space as spaces
from ferray.errors import RecordError, SearchError, StorageError
from ferray.records.run import Run
from ferray.search.history.points import News, draw, next_new, said, short
from ferray.search.history.resume import MAX_LISTED, MORE, Past, applied, extension, recall
from ferray.space import Space
from ferray.train.features.key import ViewKey, keys_of_run
from ferray.wording import count_of

DEMO_COMMAND = "python -m ferray.search --space grid --data DIR"
Keep = Literal["refit", "best-fold"]
_KEPT = {"refit": "the winner is trained once more on the training split", "best-fold": "its best fold is kept"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search, settled but for what only a worker can tell (precision)."""

    space: Space
    settings: tuple[str, ...]
    run: Run
    resume: bool
    data_dir: Path | None
    """None for the demo faces."""
    weights: str
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
    wandb: str | None
    address: str | None
    command: str
    extension: dict[str, Any] | None = None
    """The journal's line that makes a resumed search grow."""
    news: News | None = None
    """What is new in a search that is resumed and may have grown."""

    @property
    def num_points(self) -> int | None:
        """Points in all; None where there is no end."""
        counts = [count for count in (spaces.num_points(self.space), self.max_trials) if count is not None]
        return min(counts, default=None)

    @property
    def num_trials(self) -> int | None:
        """Trials of those points, one a fold; without finals and refit."""
        return None if self.num_points is None else self.num_points * self.space.folds

    @property
    def columns(self) -> tuple[str, ...]:
        """Settings that tell one trial from another."""
        repeated = (("fold", self.space.folds), ("seed", self.replicates))
        extra = [name for name, count in repeated if count > 1 and name not in self.space.searched]
        return (*self.space.searched, *extra)

    @property
    def num_final_trials(self) -> int:
        """Trials after the search proper, at most: more seeds of the finalists, and the refit."""
        points = self.finalists if self.num_points is None else min(self.finalists, self.num_points)
        return points * (self.replicates - 1) * self.space.folds + self.refits

    @property
    def refits(self) -> bool:
        """Whether the winner is trained once more, on the whole training split."""
        return self.space.folds > 1 and self.keep == "refit"


def make_plan(options: argparse.Namespace) -> Plan:
    """Check the options against each other and against what is on the disk.

    Raises:
        FerrayError: A space, folder, file or combination that cannot be.
    """
    short = [] if options.folds is None else [f"folds={options.folds}"]
    short += ["shuffle_labels=true"] if options.shuffle_labels else []
    options = argparse.Namespace(**{**vars(options), "set": [*(options.set or ()), *short] or None})
    grows = any(given is not None for given in (options.space, options.set, options.max_trials))
    past = None
    if options.resume is not None:
        options, past = recall(options)
    elif options.retry:
        raise SearchError("--retry", "runs failed trials of a search again", "Name the search: --resume NAME --retry")
    weights = options.weights or ("none" if options.data is None else "imagenet")
    space = _read_space(options, past, applied(options.set or (), weights))
    name = options.resume or options.name or f"{space.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    run = Run(Path(options.out) / name)
    _check_places(options, run, name, weights)
    plan = Plan(
        space=space,
        settings=tuple(one for one in options.set or () if one != "weights=none" or weights != "none"),
        run=run,
        resume=bool(options.resume),
        data_dir=None if options.data is None else Path(options.data).resolve(),
        weights=weights if weights in ("imagenet", "none") else str(Path(weights).resolve()),
        seed=options.seed or 0,
        max_trials=options.max_trials,
        workers_per_trial=options.workers_per_trial or 1,
        gpus_per_worker=options.gpus_per_worker,
        concurrent_trials=options.concurrent_trials,
        max_failures=2 if options.max_failures is None else options.max_failures,
        replicates=options.replicates or space.replicates,
        finalists=options.finalists or space.finalists,
        keep=cast(Keep, options.keep or "refit"),
        retry=options.retry,
        again=options.again,
        wandb=options.wandb,
        address=options.address,
        command=shlex.join(["python", "-m", "ferray.search", *sys.argv[1:]]),
    )
    if past is None or not (grows or options.dry_run or past.grown is not None):
        return plan
    line, news = extension(past, space, applied(plan.settings, weights), seed=plan.seed, num_points=plan.num_points)
    return dataclasses.replace(plan, extension=line, news=news)


def taken(run: Run) -> RecordError:
    """A new search whose name is another's."""
    way_out = f"Go on with it: --resume {run.name}; or choose another --name"
    return RecordError(str(run.folder), "a search of this name is there", way_out)


def describe(plan: Plan) -> Iterator[str]:
    """The lines of --dry-run: where, what, every new point that is known in advance, and how much work that is."""
    space = plan.space
    yield f"search    {plan.run.name}: {space.method}, best {space.metric.name} ({space.metric.goal})"
    yield f"folder    {plan.run.folder}"
    yield f"data      {plan.data_dir or 'demo faces, drawn by code: their accuracy means nothing for real ones'}"
    yield f"weights   {plan.weights}"
    if plan.settings:
        yield f"settings  {', '.join(plan.settings)}{' (those of the search stay, --set replaces)' * plan.resume}"
    total = plan.num_points
    epochs = _epochs(plan)
    yield f"trials    {total if total is not None else 'no limit'}, at most {epochs} epochs each"
    if space.folds > 1:
        yield f"folds     {space.folds} trials a point, ranked by their mean; then {_KEPT[plan.keep]}"
    if plan.replicates > 1:
        yield f"finals    the best {plan.finalists} points with {plan.replicates} seeds each; the best mean wins"
    if space.early_terminate is not None:
        halving = space.early_terminate
        yield f"stopping  successive halving from epoch {halving.min_iter}, by {halving.eta:g}"
    if plan.news is not None:
        first, *others = said(plan.news, space, most_listed=MAX_LISTED)
        yield f"new       {first}"
        yield from (f"          {line}" for line in others)
        total = plan.news.num_new
    if total == 0:
        yield f"nothing   {MORE}"
        return
    if total is not None:
        most = (total * space.folds + plan.num_final_trials) * epochs
        yield f"work      at most {most:,} epochs over the training faces; {_passes(plan, total)}"
    if space.method == "bayes":
        yield "points    suggested one after the other, by what the earlier ones came to"
        return
    before = 0 if plan.news is None else plan.news.num_known + len(plan.news.left_out)
    listed = islice(_points(plan), min(10 if total is None else total, MAX_LISTED))
    for number, point in enumerate(listed, start=before):
        yield f"{number:5}  " + "  ".join(f"{name}={short(point[name])}" for name in space.searched)
    if total is None or total > MAX_LISTED:
        yield f"  ...  {'without end' if total is None else f'{total - MAX_LISTED} more'}"


def _points(plan: Plan) -> Iterator[dict[str, Any]]:
    """The points that the search will ask for, in order; of a resumed one the new ones, `MAX_LISTED` at most."""
    if plan.news is not None:
        yield from plan.news.points or ()
        return
    seen: set[str] = set()
    draws = draw(plan.space, seed=plan.seed)
    while (point := next_new(draws, seen, repr)) is not None:
        seen.add(repr(point))
        yield point


def _check_places(options: argparse.Namespace, run: Run, name: str, weights: str) -> None:
    """That the name is free or that of the search, and that data and weights are there."""
    if Path(name).name != name or name in (".", ".."):
        raise SearchError(
            f"--name {name}", "not a plain folder name", "Leave out slashes; --out names the parent folder"
        )
    if run.exists() and not options.resume:
        raise taken(run)
    if options.data is not None and not os.path.isfile(os.path.join(options.data, "manifest.json")):
        raise StorageError(
            f"--data {options.data}", "not a store of faces", "Make one: python -m ferray.data prepare --help"
        )
    if weights not in ("imagenet", "none") and not os.path.isfile(weights):
        raise StorageError(f"--weights {weights}", "no such file", "Give a file, or 'imagenet', or 'none'")


def _read_space(options: argparse.Namespace, past: Past | None, settings: list[str]) -> Space:
    """The space that is named, else the one that the search has, else the first that is shipped."""
    if past is not None and options.space is None:
        return dataclasses.replace(past.wanted, settings=tuple(settings)).space(past.file)
    return spaces.read_space(spaces.find_space(options.space or "grid"), spaces.parse_settings(settings))


def _passes(plan: Plan, total: int) -> str:
    """The trunk's part of the work, which is the largest: passes over all faces, shared by all trials, and free epochs.

    Args:
        plan: Seeds of finals and refits are not counted.
        total: Points to train.
    """
    space = plan.space
    if space.method == "bayes" or total > (100_000 if plan.news is None else MAX_LISTED):
        return "a frozen trunk runs once a view, not once a trial"
    views: set[ViewKey] = set()
    free = 0
    for point in islice(_points(plan), total):
        recipe = spaces.to_recipe(space, point, seed=plan.seed)
        views |= keys_of_run(recipe, weights=plan.weights)
        free += recipe.epochs if recipe.freeze != "trunk" else 0
    words = [f"{count_of(len(views), 'pass', 'passes')} of the frozen trunk"] if views else []
    return " and ".join([*words, f"{count_of(free, 'epoch')} with free layers"] if free else words)


def _epochs(plan: Plan) -> int:
    fixed = next((parameter for parameter in plan.space.parameters if parameter.name == "epochs"), None)
    point = {} if fixed is None else {"epochs": fixed.largest}
    return spaces.to_recipe(plan.space, point, seed=plan.seed).epochs
