"""What `search.json` must hold for a search to go on; the file may be anybody's.

Begin at `check_search`. Keys that are not named here are left alone: a later version may have more.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError

from ferray.errors import RecordError

Count = Annotated[StrictInt, Field(ge=0, le=10**9)]
Text = Annotated[StrictStr, Field(max_length=10_000)]
Place = Annotated[StrictStr, Field(max_length=10_000, pattern=r"\S")]
"""Not blank: errors begin with it."""


class _Options(BaseModel):
    space: Place | None
    data: Place | None
    weights: Place
    set: list[Text]
    seed: Count
    max_trials: Count | None = None
    workers_per_trial: Count | None = None
    gpus_per_worker: Annotated[float, Field(strict=True)] | None = None
    concurrent_trials: Count | None = None
    max_failures: Count | None = None
    replicates: Count | None = None
    finalists: Count | None = None
    keep: Literal["refit", "best-fold"] | None = None
    wandb: Literal["online", "offline", "disabled"] | None = None


class _Data(BaseModel):
    folder: Place
    fingerprint: Text
    size_px: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None


class _Reading(BaseModel):
    time: Text
    trial_id: Text | None = None


class _Best(BaseModel):
    trial_id: Text


class _Search(BaseModel):
    id: Annotated[StrictStr, Field(pattern="^[0-9a-f]{8}$")]
    command: Text
    options: _Options
    data: _Data
    weights: dict[Text, Text]
    sessions: list[dict[str, Any]]
    test_readings: list[_Reading]
    extensions: list[dict[str, Any]] | None = None
    openings: Count | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    best: _Best | None = None


def check_search(search: dict[str, Any], *, where: str) -> dict[str, Any]:
    """The same value, if it is what a search writes.

    Raises:
        RecordError: A key is missing, or its value is of another kind.
    """
    try:
        _Search.model_validate(search)
    except (ValidationError, RecursionError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deep"}
        place = ".".join(str(part) for part in fault["loc"])
        raise RecordError(where, f"{place}: {fault['msg']}", "Restore the file, or start under another name") from error
    return search
