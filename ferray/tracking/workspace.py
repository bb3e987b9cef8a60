"""A W&B workspace that shows the runs of several searches side by side: a saved view of their project.

    Runs        those whose configuration has one of the searches' ids
    Searches    the best score so far over the trials, and which settings matter, as W&B estimates it
    Settings    every searched setting and the best score as parallel coordinates
    Epochs      the metric over the epochs, and the runs' differences

What is made is a plain value, which needs neither wandb nor its package `wandb-workspaces`, an extra of ferray.

Begin at `plan_workspace`; `save_workspace` sends it.
"""

import dataclasses
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferray.errors import TrackingError
from ferray.records.run import Run
from ferray.space import Parameter, parse_settings, read_space
from ferray.tracking.mode import Destination
from ferray.tracking.names import BEST_SO_FAR, TRIAL

if TYPE_CHECKING:
    from wandb_workspaces.workspaces.interface import Section

WIDE = 100.0
"""Ratio of the largest and the smallest value from which an axis is logarithmic."""

MAX_RUNS = 100
"""Lines of a plot over epochs."""


@dataclass(frozen=True, kw_only=True)
class ComparedSetting:
    """A setting that one of the searches has searched."""

    name: str
    is_log: bool
    """Whether its axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class WorkspacePlan:
    """What a workspace shows."""

    name: str
    project: str
    entity: str | None
    """None for the default of the key."""
    search_ids: tuple[str, ...]
    metric: str
    settings: tuple[ComparedSetting, ...]
    """In the order of the searches and their files."""

    @property
    def runs(self) -> str:
        """The filter of the runs, in the language of W&B's package."""
        ids = ", ".join(f"'{one}'" for one in self.search_ids)
        return f"Config('search_id') in [{ids}]"

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the panels in words."""
        return {
            **dataclasses.asdict(self),
            "runs": self.runs,
            "panels": [
                {"kind": "line plot", "x": TRIAL, "y": BEST_SO_FAR},
                {"kind": "parameter importance", "of": f"best_{self.metric}"},
                {
                    "kind": "parallel coordinates",
                    "columns": [*(one.name for one in self.settings), f"best_{self.metric}"],
                },
                {"kind": "line plot", "x": "epoch", "y": self.metric},
                {"kind": "run comparer"},
            ],
        }


def plan_workspace(runs: Sequence[Run]) -> WorkspacePlan:
    """The workspace of some searches.

    Args:
        runs: Their folders; the searches may still run.

    Raises:
        RecordError: A folder has no search.
        SpaceError: The space of one cannot be read.
        TrackingError: They differ in the W&B project or in the metric.
    """
    searches = [run.read_search() for run in runs]
    spaces = [
        read_space(run.space_file, parse_settings(search.options.set))
        for run, search in zip(runs, searches, strict=True)
    ]
    first, metric = Destination(project=spaces[0].project, entity=spaces[0].entity).settled(), spaces[0].metric.name
    settings: dict[str, ComparedSetting] = {}
    for run, space in zip(runs, spaces, strict=True):
        place = Destination(project=space.project, entity=space.entity).settled()
        if place != first:
            what = f"its runs are in project {_shown(place)}, those of {runs[0].name} in {_shown(first)}"
            way_out = "A workspace is one project's; WANDB_PROJECT and WANDB_ENTITY name one for all"
            raise TrackingError(str(run.folder), what, way_out)
        if space.metric.name != metric:
            what = f"its metric is {space.metric.name}, that of {runs[0].name} {metric}"
            raise TrackingError(str(run.folder), what, "Name searches of one metric")
        for parameter in space.parameters:
            if parameter.searched:
                before = settings.get(parameter.name)
                is_log = _is_wide(parameter) or (before is not None and before.is_log)
                settings[parameter.name] = ComparedSetting(name=parameter.name, is_log=is_log)
    assert first.project is not None
    return WorkspacePlan(
        name=", ".join(run.name for run in runs),
        project=first.project,
        entity=first.entity,
        search_ids=tuple(search.id for search in searches),
        metric=metric,
        settings=tuple(settings.values()),
    )


def has_workspaces() -> bool:
    """Whether the package is installed that `save_workspace` needs."""
    return importlib.util.find_spec("wandb_workspaces") is not None


def save_workspace(plan: WorkspacePlan, *, url: str | None = None) -> str:
    """Make a workspace at W&B, or change one that was made before; there must be a key.

    Args:
        plan: What it shows.
        url: Of the one that is changed; None for a new one.

    Returns:
        Its address.

    Raises:
        TrackingError: W&B, or its package, has failed.
    """
    import wandb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, of pydantic
        from wandb_workspaces.workspaces import interface as ws

    wandb.setup(wandb.Settings(silent=True))
    try:
        if url is None:
            entity = plan.entity or wandb.Api().default_entity
            workspace = ws.Workspace(entity=str(entity), project=plan.project)
        else:
            workspace = ws.Workspace.from_url(url)
        workspace.name = plan.name
        workspace.sections = _sections(plan)
        workspace.settings = ws.WorkspaceSettings(max_runs=MAX_RUNS)
        workspace.runset_settings = ws.RunsetSettings(filters=plan.runs)
        workspace.save()  # type: ignore[no-untyped-call]
        return str(workspace.url)
    except Exception as error:
        what = f"the workspace was not saved: {type(error).__name__}: {error}"
        raise TrackingError(
            "W&B", what, "Try again; a workspace that is gone: remove the file with its address"
        ) from error
    finally:
        wandb.teardown()


def _sections(plan: WorkspacePlan) -> "list[Section]":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from wandb_workspaces.reports.v2 import interface as wr
        from wandb_workspaces.workspaces import interface as ws

    best = f"best_{plan.metric}"
    # A plain name would be taken for one of the summary.
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(one.name), log=one.is_log or None) for one in plan.settings
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(best)))
    return [
        ws.Section(
            name="Searches",
            is_open=True,
            panels=[
                wr.LinePlot(title="Best score so far", x=TRIAL, y=[BEST_SO_FAR]),
                wr.ParameterImportancePlot(with_respect_to=best),
            ],
        ),
        ws.Section(
            name="Settings",
            is_open=True,
            panels=[wr.ParallelCoordinatesPlot(title=f"Settings and {best}", columns=columns)],
        ),
        ws.Section(
            name="Epochs",
            is_open=True,
            panels=[wr.LinePlot(title=plan.metric, x="epoch", y=[plan.metric]), wr.RunComparer(diff_only="split")],
        ),
    ]


def _is_wide(parameter: Parameter) -> bool:
    """Whether values of a setting are better told apart on a logarithmic axis."""
    ends = [end for end in parameter.ends() if isinstance(end, int | float) and not isinstance(end, bool)]
    return parameter.log or (len(ends) == 2 and min(ends) > 0 and max(ends) / min(ends) >= WIDE)


def _shown(place: Destination) -> str:
    return "/".join(filter(None, (place.entity, place.project)))
