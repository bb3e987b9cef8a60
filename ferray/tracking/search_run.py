"""The search's own run in W&B: its table of trials, its pictures, its best model, and the best score so far.

Begin at `log_search`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from ferray.records.tables import plain_frame, trials_frame
from ferray.records.trial import TrialRecord
from ferray.tracking.names import BEST_SO_FAR, TRIAL


def log_search(
    run: wandb.Run,
    name: str,
    records: Sequence[TrialRecord],
    best: TrialRecord | None,
    files: Sequence[Path],
    summary: Mapping[str, Any],
    *,
    num_sent: int,
) -> None:
    """Send what a search came to.

    Args:
        run: The search's run, open.
        name: Of the search.
        records: All trials, by number.
        best: The trial with the best model; None if there is none.
        files: Pictures (`.png`) become images, folders become artifacts; other files are not sent.
        summary: Numbers on the best model.
        num_sent: So many of the first trials W&B has in the curve of the best score.
    """
    run.define_metric(TRIAL)
    run.define_metric(BEST_SO_FAR, step_metric=TRIAL)
    for place, row in enumerate(_best_so_far(records)):
        if place >= num_sent and row is not None:
            run.log(row)
    content: dict[str, Any] = {"trials": wandb.Table(dataframe=plain_frame(trials_frame(records)))} if records else {}
    content |= {file.stem: wandb.Image(str(file)) for file in files if file.suffix == ".png"}
    run.log(content)
    if best is not None:
        run.summary.update({f"best_{name}": getattr(best, name) for name in ("trial_id", "number")})
        run.summary.update({"best_score": best.score()})
    run.summary.update(_flat(summary))
    for folder in filter(Path.is_dir, files):
        artifact = wandb.Artifact(f"{name}-{folder.name}", type="model", metadata=_flat(summary))
        for file in sorted(filter(Path.is_file, folder.rglob("*"))):
            # No copy to the user's cache: a search writes to its own folder alone.
            inside = file.relative_to(folder).as_posix()
            artifact.add_file(str(file), name=inside, policy="immutable", skip_cache=True)
        run.log_artifact(artifact)


def _best_so_far(records: Sequence[TrialRecord]) -> Iterator[dict[str, Any] | None]:
    """A row for each trial, None for one that has no score or has failed."""
    best: float | None = None
    for record in records:
        score = None if record.state == "failed" else record.score()
        if score is None:
            yield None
            continue
        if best is None or record.recipe.cost(score) < record.recipe.cost(best):
            best = score
        yield {TRIAL: record.number, BEST_SO_FAR: best}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, texts and lists of numbers among values, with `outer.inner` for keys of inner dictionaries."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": number for inner, number in _flat(value).items()}
        elif value is None or isinstance(value, str | int | float):
            flat[key] = value
        elif isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value):
            flat[key] = list(value)
    return flat
