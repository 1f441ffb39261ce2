"""Work in the background that is never done twice at a time, and that nobody waits for long."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """Work that one thread does at a time; whoever asks for its result meanwhile shares it. Thread-safe.

    The threads are daemons: work that hangs keeps no process from ending.
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._name = name
        self._work = work
        self._lock = threading.Lock()
        self._future: Future[T] | None = None
        self._began_at = 0.0

    def begin(self) -> None:
        """Begin the work unless it is being done."""
        self._current()

    def result(self, within_s: float) -> T:
        """Return the result of the work that is being done, or else of work that begins now.

        Raises:
            TimeoutError: it has been going on for ``within_s`` seconds; work that hangs lets only the first ones wait.
        """
        future, began_at = self._current()
        return future.result(timeout=max(0.0, began_at + within_s - time.monotonic()))

    def _current(self) -> tuple[Future[T], float]:
        with self._lock:
            if self._future is None or self._future.done():
                future: Future[T] = Future()
                threading.Thread(target=self._fly, args=(future,), name=self._name, daemon=True).start()
                self._future, self._began_at = future, time.monotonic()
            return self._future, self._began_at

    def _fly(self, future: Future[T]) -> None:
        try:
            future.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is waited for
            future.set_exception(error)
