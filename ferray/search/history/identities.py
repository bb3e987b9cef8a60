"""A search goes on only with the version that it was trained by, or one with the same numbers.

Begin at `check_identities`, which a dry run calls like a search.
"""

from ferray import recipe as recipes
from ferray.errors import RecordError
from ferray.records.trial import FINISHED
from ferray.search.history.points import known_trials, make_identify, read_source
from ferray.search.history.recorded import History
from ferray.search.history.resume import RecordedSpaces

_WAY_OUT = "Use the versions in search.json, or start the search under another name"


def check_identities(history: History, recorded: RecordedSpaces) -> None:
    """Refuse a search of a version that trains to other numbers: the trials of two would stand side by side.

    A record says with which settings its trial was trained. The trials that have ended without a record, which a search
    would train again, are known by the journal alone.

    Args:
        history: The search.
        recorded: Its spaces.

    Raises:
        RecordError: A trial would have another id now.
    """
    search = history.search
    for record in history.records:
        weights = search.weights.get(record.recipe.backbone, "")
        if record.recipe.folds is not None and search.data.groups is None:
            what = "trained by a version whose trials with folds do not say how photographs were grouped"
            raise RecordError(str(history.run.record_file(record.trial_id)), what, _WAY_OUT)
        now = recipes.trial_id(
            record.recipe,
            data_fingerprint=search.data.fingerprint,
            weights_fingerprint=weights,
            groups_fingerprint=search.data.groups or "",
        )
        if now != record.trial_id:
            what = f"trained by a version whose numbers are others: with its settings it would be trial {now} now"
            raise RecordError(str(history.run.record_file(record.trial_id)), what, _WAY_OUT)
    on_record = {record.trial_id for record in history.records}
    lost = [end for end in history.decisions.ended() if end.state in FINISHED and end.trial_id not in on_record]
    if not lost or search.precision is None:
        return
    space = read_source(recorded.current, recorded.file)
    known, identify = (
        known_trials(history.decisions.events, space, seed=search.options.seed),
        make_identify(search, space),
    )
    for end in lost:
        if end.number not in known:
            continue
        one = known[end.number]
        if (now := identify(one.values)) != one.trial_id:
            what = (
                f"trial {one.number} ({one.trial_id}) has ended, and its record is lost; with the settings that the "
                f"space gives it, it would be trial {now} now, with other numbers"
            )
            raise RecordError(str(history.decisions.journal.file), what, f"Restore its record. {_WAY_OUT}")
