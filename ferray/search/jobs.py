"""What worker groups are given: the trials that a search asks for, with what is on record of each. See `Jobs`."""

from ferray.search.fleet.launch import LaunchSettings
from ferray.search.fleet.messages import TrialJob
from ferray.search.history.points import Suggestion
from ferray.search.history.shared_epochs import SharedEpochs
from ferray.search.open import Search


def launch_settings(search: Search, *, joined: bool, has_scheduler: bool) -> LaunchSettings:
    """What worker groups need of a search beyond its plan.

    Args:
        search: The search.
        joined: Whether their cluster was joined, so that a node may have a disk of its own.
        has_scheduler: Whether trials may be stopped early.
    """
    plan, recorded = search.plan, search.history.search
    return LaunchSettings(
        search_id=recorded.id,
        session=recorded.openings or 1,
        data_dir=None if plan.data_dir is None and joined else search.store.folder,
        fingerprint=search.store.fingerprint,
        weights={name: one.fingerprint for name, one in search.weights.items()},
        has_scheduler=has_scheduler,
        heads_only=plan.values("freeze") == ["trunk"],
    )


class Jobs:
    """Suggestions as worker groups get them, with what is on record of each.

    Args:
        search: The search.
        has_scheduler: Whether trials may be stopped early.
    """

    def __init__(self, search: Search, *, has_scheduler: bool) -> None:
        self._search = search
        records = search.history.records
        self._numbers = {record.number for record in records}
        self.shared_epochs = SharedEpochs(records, has_scheduler=has_scheduler)

    def make(self, suggestion: Suggestion) -> TrialJob:
        """The job of a suggestion; a trial without a record gets a new number if a trial of the finals has its own."""
        record = self._search.history.record(suggestion.trial_id)
        if record is not None:
            number = record.number
        else:
            is_free = suggestion.number not in self._numbers
            number = suggestion.number if is_free else max(self._numbers) + 1
        self._numbers.add(number)
        recipe = self._search.recipe(suggestion.point)
        return TrialJob(
            trial_id=suggestion.trial_id,
            number=number,
            recipe=recipe,
            shorter=self.shared_epochs.shorter_trials(recipe),
            epochs=() if record is None else record.epochs,
            state="queued" if record is None else record.state,
            reason="" if record is None else record.reason,
        )
