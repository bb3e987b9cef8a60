"""A search as a value: its trials, its epochs, its best model. Begin at `open`.

>>> import ferray
>>> search = ferray.open("runs/first")                       # doctest: +SKIP
>>> search.trials[["trial_id", "best_val_accuracy"]]         # doctest: +SKIP
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ferray.api.arguments import AnyPath, to_path
from ferray.errors import CheckpointError, RecordError
from ferray.records.bucket.fetch import search_folder
from ferray.records.bucket.run import open_folder
from ferray.records.search_file import SearchFile
from ferray.records.trial import ENDED, TrialRecord
from ferray.report.wording import setting_text
from ferray.space import Space
from ferray.wording import count_of

if TYPE_CHECKING:
    import pandas

    from ferray.predict.model import Model
    from ferray.report.test_split.recorded import RecordedScore
    from ferray.search.history.recorded import History


def open(folder: AnyPath) -> "SearchResult":
    """The search in a folder `runs/NAME`, or at `s3://BUCKET/RUNS/NAME`, finished or not; it may be going on.

    Of a search in a bucket everything but the checkpoints of its trials is fetched into this machine's cache.

    Raises:
        RecordError: There is no search.
        BucketError: The bucket cannot be read.
        FerrayError: Its records cannot be read.
    """
    return SearchResult(search_folder(to_path("folder", folder, RecordError), option="folder"))


class SearchResult:
    """What is on record of a search when it is first asked for; open it once more to see what has changed since.

    Args:
        folder: `runs/NAME`.

    Raises:
        RecordError: There is no search.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._run = open_folder(Path(folder))
        self._search: SearchFile = self._run.read_search()

    @property
    def path(self) -> Path:
        """The folder."""
        return self._run.folder

    @property
    def name(self) -> str:
        """The name of the search and of its folder."""
        return self._run.name

    @cached_property
    def records(self) -> list[TrialRecord]:
        """All trials, in the order in which the search asked for them."""
        return self._history.records

    @cached_property
    def trials(self) -> "pandas.DataFrame":
        """One row per trial, the searched settings first, as `trials.parquet` has them."""
        from ferray.records.tables import trials_frame

        best, scores = self._search.best, self.test_scores
        tested = {best.trial_id: scores} if best is not None and scores else None
        return trials_frame(self.records, searched=self._space.searched, tested=tested)

    @cached_property
    def epochs(self) -> "pandas.DataFrame":
        """One row per epoch of every trial."""
        from ferray.records.tables import epochs_frame

        return epochs_frame(self.records)

    @property
    def metric(self) -> str:
        """The name of the score that trials are ranked by, such as `val_accuracy`."""
        return self._space.metric.name

    @property
    def goal(self) -> Literal["minimize", "maximize"]:
        """Which end of it is the best."""
        return self._space.metric.goal

    @cached_property
    def best(self) -> TrialRecord | None:
        """The trial whose best epoch is the best model; None as long as no search has come to its end here."""
        kept = self._search.best
        return None if kept is None else next((one for one in self.records if one.trial_id == kept.trial_id), None)

    @property
    def is_finished(self) -> bool:
        """Whether there is a best model, and every trial that was begun has ended."""
        return self.best is not None and all(record.state in ENDED for record in self.records)

    @cached_property
    def test(self) -> "RecordedScore | None":
        """The best model's one score on the test split, with intervals; None where there is none."""
        from ferray.report.test_split.recorded import METRICS_FILE, read_recorded

        return read_recorded(self._run.best_dir / METRICS_FILE)

    @property
    def test_scores(self) -> dict[str, float]:
        """The same by name, such as `accuracy` and `macro_f1`; empty where there is none."""
        values = {} if self.test is None else self.test.scores.values
        return {name: value for name, value in values.items() if value is not None}

    def model(self, *, device: str = "cpu") -> "Model":
        """The best model, whose `predict` labels pictures.

        Args:
            device: `cpu`, or `cuda`, `cuda:1`, ...

        Raises:
            CheckpointError: The search has none yet, or a file of it is damaged.
            RecipeError: There is no such device.
        """
        from ferray.predict.model import load

        if self._search.best is None:
            raise CheckpointError(
                str(self.path), "has no best model yet", f"Go on: ferray.search(resume={self.name!r})"
            )
        return load(self._run.best_dir, device=device)

    def __repr__(self) -> str:
        state = "finished" if self.is_finished else "not finished"
        lines = [f"search {self.name}: {state}, {count_of(len(self.records), 'trial')}, in {self.path}"]
        if self.best is not None and (row := self.best.best()) is not None:
            settings = ", ".join(
                f"{name}={setting_text(name, getattr(self.best.recipe, name))}" for name in self._space.searched
            )
            score = f"{self.metric} {self.best.score():.4f} in epoch {row.epoch} of trial {self.best.number}"
            lines.append(f"  best {score}: {settings}")
        if "accuracy" in self.test_scores:
            lines.append(f"  test accuracy {self.test_scores['accuracy']:.4f}")
        return "\n".join(lines)

    @cached_property
    def _history(self) -> "History":
        from ferray.search.history.recorded import read_history

        return read_history(self._run)

    @cached_property
    def _space(self) -> Space:
        from ferray.search.history.points import read_source
        from ferray.search.history.resume import find_spaces

        found = find_spaces(self._history)
        return read_source(found.wanted, found.file)
