"""Where the winner of a search is judged and scored: on a node of a cluster that was joined, else in this process.

Begin at `Judging.answers`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferray.search.fleet.allocation import Allocation
from ferray.search.fleet.cluster import Cluster, num_allowed_cores
from ferray.search.fleet.judge import RemoteJudge
from ferray.search.fleet.launch import group_config
from ferray.search.fleet.ray_patches import started_by_ray_exec
from ferray.search.jobs import launch_settings
from ferray.search.open import Search
from ferray.search.outcome.answers import HERE, Answers
from ferray.search.outcome.finals import Ranking
from ferray.train.device import set_threads


class Judging:
    """Finds the models of a search a place to predict.

    Args:
        search: The search.
        connect: Connects to its cluster, where that was not done before.
    """

    def __init__(self, search: Search, connect: Callable[[], Cluster]) -> None:
        self.trained_on: dict[str, str] = {}
        """The node that trained each trial last, in this session."""
        self._search = search
        self._connect = connect

    @contextmanager
    def answers(self, ranking: Ranking) -> Iterator[Answers]:
        """Where to predict, while the block runs; a cluster is used only if something is asked.

        Args:
            ranking: Names the trials that will be asked about.
        """
        if self._search.plan.address is None:
            with answers_here() as here:
                yield here
            return
        judges: list[RemoteJudge] = []

        def judge() -> RemoteJudge:
            if not judges:
                judges.append(self._make_judge(ranking))
            return judges[0]

        try:
            yield Answers(
                validation=lambda record: judge().validation(record),
                split=lambda record, split, max_faces: judge().split(record, split, max_faces),
            )
        finally:
            for one in judges:
                one.close()

    def _make_judge(self, ranking: Ranking) -> RemoteJudge:
        """A judge with what a worker of the search had, on a node that trained the trials if one is there."""
        search, cluster = self._search, self._connect()
        allocation = Allocation(**search.history.search.sessions[-1].groups)
        settings = launch_settings(search, joined=True, has_scheduler=False)
        config = group_config(search.plan, settings, cluster, cpus_per_worker=allocation.cpus_per_worker)
        trials = [ranking.kept, *(record for point in ranking.points[:2] for record in point.records)]
        preferred = dict.fromkeys(self.trained_on[one.trial_id] for one in trials if one.trial_id in self.trained_on)
        return RemoteJudge(config, allocation, preferred=list(preferred))


@contextmanager
def answers_here() -> Iterator[Answers]:
    """Predictions of this process, on all of its cores where `ray exec` has limited it to one thread."""
    before = set_threads(None)
    set_threads(num_allowed_cores() if started_by_ray_exec() else None)
    try:
        yield HERE
    finally:
        set_threads(before)
