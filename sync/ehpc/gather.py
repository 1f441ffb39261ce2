"""Many calls at once: each region has threads of its own, so that none waits behind another's permits."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Generic, Self, TypeVar

from sync.ehpc.fetch import Answer
from sync.errors import CallError

K = TypeVar("K")

Outcome = Answer[Any] | CallError

_Waiting = tuple[K, Callable[[], Answer[Any]]]
_Ended = tuple[K, Outcome] | BaseException


class _RegionQueue(Generic[K]):
    """What waits in one region, and the threads that work it off: as many as there is work, ``workers`` at most.

    A waiting call is two references; a future for each took 2 KiB, 60 MiB in a run over all regions.
    """

    def __init__(self, region_id: str, workers: int, deliver: Callable[[_Ended[K]], None]) -> None:
        self._workers = workers
        self._deliver = deliver
        self._lock = threading.Lock()
        self._urgent: deque[_Waiting[K]] = deque()
        self._ordinary: deque[_Waiting[K]] = deque()
        self._active_count = 0
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=f"ehpc-{region_id}")

    def put(self, waiting: Iterable[_Waiting[K]], *, urgent: bool) -> None:
        with self._lock:
            (self._urgent if urgent else self._ordinary).extend(waiting)
        self._add_threads()

    def close(self, *, wait: bool) -> None:
        with self._lock:
            self._urgent.clear()
            self._ordinary.clear()
        self._executor.shutdown(wait=wait)

    def _add_threads(self) -> None:
        with self._lock:
            waiting_count = len(self._urgent) + len(self._ordinary)
            new_count = min(self._workers - self._active_count, waiting_count)
            self._active_count += new_count
        for _ in range(new_count):
            self._executor.submit(self._work_off).add_done_callback(self._note_end)

    def _work_off(self) -> None:
        while (waiting := self._next()) is not None:
            key, call = waiting
            try:
                outcome: Outcome = call()
            except CallError as error:
                outcome = error
            self._deliver((key, outcome))

    def _next(self) -> _Waiting[K] | None:
        with self._lock:
            if self._urgent or self._ordinary:
                return (self._urgent or self._ordinary).popleft()
            self._active_count -= 1  # under the lock of put(), so that no call is left without a thread
            return None

    def _note_end(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:  # the thread ended in the middle of its work
            with self._lock:
                self._active_count -= 1
            self._deliver(error)
            self._add_threads()


class Gatherer(Generic[K]):
    """Runs calls concurrently and gives back what has ended; submit and collect from one thread.

    The client limits what is in flight over all regions; here ``workers`` limits the threads of each region,
    because most of them wait for permits and must not keep those of another region from their work.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._regions: dict[str, _RegionQueue[K]] = {}
        # One put is a single step of C; a condition and a list took as long as all else of an unchanged target.
        self._ended: SimpleQueue[_Ended[K]] = SimpleQueue()
        self._raised: BaseException | None = None
        self._pending_count = 0

    @property
    def pending_count(self) -> int:
        """How many calls have been submitted and not yet been collected."""
        return self._pending_count

    def submit(self, region_id: str, key: K, call: Callable[[], Answer[Any]], *, urgent: bool = False) -> None:
        """Run ``call`` when a thread of the region is free; urgent calls before all that are not."""
        self._put(region_id, [(key, call)], urgent=urgent)

    def submit_all(
        self, region_id: str, calls: Iterable[tuple[K, Callable[[], Answer[Any]]]], *, urgent: bool = False
    ) -> None:
        """Run many calls of one region in their order, at less cost than one by one."""
        self._put(region_id, list(calls), urgent=urgent)

    def collect(self, timeout_s: float) -> list[tuple[K, Outcome]]:
        """Return all calls that have ended since the last time, in the order in which they ended.

        Waits until at least one has ended, the time is over or nothing is pending.

        Raises:
            BaseException: what a call raised that is no CallError (a bug, missing credentials, a stopped run);
                calls that ended before it are returned first.
        """
        outcomes: list[tuple[K, Outcome]] = []
        ended = self._next_ended(timeout_s)
        waiting_count = self._ended.qsize()  # what ends from now on is for the next time, or this might never return
        while ended is not None and not isinstance(ended, BaseException):
            outcomes.append(ended)
            ended = self._next_ended(0) if len(outcomes) <= waiting_count else None
        self._pending_count -= len(outcomes)
        if ended is not None:
            self._raise_in_turn(ended, is_first=not outcomes)
        return outcomes

    def close(self) -> None:
        """Abandon what waits and join the threads: they end as soon as their calls do (see ``Client.stop``)."""
        for wait in (False, True):
            for region in self._regions.values():
                region.close(wait=wait)
        self._ended = SimpleQueue()
        self._raised = None
        self._pending_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, region_id: str, calls: list[_Waiting[K]], *, urgent: bool) -> None:
        if region_id not in self._regions:
            self._regions[region_id] = _RegionQueue(region_id, self._workers, self._ended.put)
        self._pending_count += len(calls)
        self._regions[region_id].put(calls, urgent=urgent)

    def _next_ended(self, timeout_s: float) -> _Ended[K] | None:
        if self._raised is not None:
            raised, self._raised = self._raised, None
            return raised
        try:
            return self._ended.get(timeout=timeout_s if self._pending_count else 0)
        except Empty:
            return None

    def _raise_in_turn(self, error: BaseException, *, is_first: bool) -> None:
        """Raise what a call raised, or keep it for the next time when calls that ended before it go first."""
        if not is_first:
            self._raised = error
            return
        self._pending_count -= 1
        raise error
