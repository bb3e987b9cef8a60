"""Tune's trials without processes: objects of the driver that ask the dispatcher for epochs.

Ray Tune starts an actor for each trial, a process of some 115 MB on the head, and makes calls of it: `train` for the
next result, `stop` at the end. A trial of a search trains nothing: it only asks the dispatcher for its next epochs. So
Tune is given this module's `Proxies` in place of its manager of actors (`ferray.search.fleet.ray_patches`), and a call
of `train` is one question to the dispatcher, whose answer is an event of Tune's loop.

Begin at `Proxies.next`, which Tune's loop calls at each turn.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from ferray.records.trial import ENDED
from ferray.search.fleet.messages import TrialUpdate

Ask = Callable[[str, int], "Future[TrialUpdate]"]
"""Asks for the epochs of a trial after a given one; `ferray.search.fleet.dispatcher` answers."""


class Proxy:
    """A trial of Tune's: which one it is, the epochs that Tune has of it, and the answer that is awaited.

    Args:
        config: What `suggest` gave Tune for the trial.
        on_start: Tune's, to be called once when the trial may begin.
        on_stop: Tune's, to be called at the end.
    """

    def __init__(
        self, config: dict[str, Any], on_start: Callable[["Proxy"], None], on_stop: Callable[["Proxy"], None]
    ) -> None:
        self.number: int = config["number"]
        self.trial_id: str = config["trial_id"]
        self.epoch: int = config["after"]
        self.on_start = on_start
        self.on_stop = on_stop
        self.awaited: Future[TrialUpdate] | None = None


class Proxies:
    """In place of Tune's manager of actors, with the methods that Tune's controller calls; Tune gave them their names.

    Args:
        ask: Asks the dispatcher.
        fail: Called with the error if the dispatcher does not answer any more.
    """

    def __init__(self, ask: Ask, fail: Callable[[Exception], None]) -> None:
        self._ask = ask
        self._fail = fail
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # Tune looks up the actor of a proxy here; there is none.
        self._live_actors_to_ray_actors_resources: dict[Proxy, tuple[None, None]] = {}

    def next(self, timeout: float | None = None) -> bool:
        """Handle one event: a proxy that begins, or an answer of the dispatcher.

        Args:
            timeout: Seconds to wait for one.

        Returns:
            Whether there was one.
        """
        try:
            event = self._events.get(timeout=timeout)
        except Empty:
            return False
        event()
        return True

    def add_actor(
        self,
        *,
        kwargs: dict[str, Any],
        on_start: Callable[[Proxy], None],
        on_stop: Callable[[Proxy], None],
        **of_a_process: Any,
    ) -> Proxy:
        """A trial is to begin: Tune gets its proxy, and is informed of its start when it asks for an event."""
        proxy = Proxy(kwargs["config"], on_start, on_stop)
        self._live_actors_to_ray_actors_resources[proxy] = (None, None)
        self._events.put(lambda: self._start(proxy))
        return proxy

    def schedule_actor_task(
        self,
        tracked_actor: Proxy,
        method_name: str,
        *,
        on_result: Callable[[Proxy, dict[str, Any]], None] | None = None,
        **of_other_calls: Any,
    ) -> None:
        """A call of a trial: `train` asks for its next epochs, `stop` has nothing to do."""
        if method_name == "stop":
            return
        assert method_name == "train", method_name
        assert on_result is not None
        answer = tracked_actor.awaited = self._ask(tracked_actor.trial_id, tracked_actor.epoch)
        handle = on_result
        answer.add_done_callback(lambda _: self._events.put(lambda: self._receive(tracked_actor, answer, handle)))

    def clear_actor_task_futures(self, tracked_actor: Proxy) -> None:
        """An answer that is awaited is dropped when it comes."""
        tracked_actor.awaited = None

    def remove_actor(self, tracked_actor: Proxy, kill: bool = False, stop_future: None = None) -> bool:
        """A trial has ended; returns False: there is no process whose end would be awaited."""
        tracked_actor.awaited = None
        if self._live_actors_to_ray_actors_resources.pop(tracked_actor, None) is not None:
            tracked_actor.on_stop(tracked_actor)
        return False

    def cleanup(self) -> None:
        """The run of Tune has ended."""
        self._live_actors_to_ray_actors_resources.clear()

    def is_actor_started(self, tracked_actor: Proxy) -> bool:
        """Whether the trial has not ended."""
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: Proxy) -> bool:
        """No proxy fails without the search."""
        return False

    @property
    def num_live_actors(self) -> int:
        """Trials that have begun and not ended."""
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_total_actors(self) -> int:
        """The same: none is waiting to be started."""
        return self.num_live_actors

    @property
    def num_pending_actors(self) -> int:
        """Trials whose process is being started."""
        return 0

    @property
    def num_actor_tasks(self) -> int:
        """Answers that are awaited."""
        return sum(proxy.awaited is not None for proxy in self._live_actors_to_ray_actors_resources)

    def _start(self, proxy: Proxy) -> None:
        if self.is_actor_started(proxy):
            proxy.on_start(proxy)

    def _receive(
        self, proxy: Proxy, answer: "Future[TrialUpdate]", on_result: Callable[[Proxy, dict[str, Any]], None]
    ) -> None:
        """Hand the dispatcher's answer to Tune, as the result of a trial."""
        if proxy.awaited is not answer:
            return
        proxy.awaited = None
        try:
            update = answer.result()
        except Exception as error:  # noqa: BLE001  whatever it is: without the dispatcher no trial goes on
            self._fail(error)
            return
        proxy.epoch += len(update.rows)
        result = {
            "number": proxy.number,
            "rows": update.rows,
            "state": update.state,
            "reason": update.reason,
            "done": update.state in ENDED,
        }
        on_result(proxy, result)
