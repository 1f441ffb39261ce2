"""How fast a region may be asked, and how many requests may be out at once over all regions.

The generic cell rate algorithm in a few lines of our own: pyrate-limiter 4 counts in whole milliseconds, adds a
buffer to each wait (under 97 % of 1000 calls/s), sleeps where nothing can wake it, and cannot change its rate,
while a throttled region has to slow down at once and to recover gradually.
"""

import threading
import time
from collections.abc import Callable

from sync.errors import RunInterruptedError

BURST_S = 0.05  # late wake-ups are caught up with within this time; at 10 calls/s that is never a whole call
SLOWEST_SHARE = 1 / 16  # of the configured rate: slower, a single throttled answer would stretch a run to a day
RECOVERY_CALLS = 100  # good answers from nothing to the full rate; half of it is regained within 10 s at 10 calls/s
_EVERYONE = 100_000  # more than there can be waiting threads


class Gate:
    """The requests in flight over all regions, and the switch that wakes every wait of a run."""

    def __init__(
        self,
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Open ``workers`` places; ``clock`` and ``wait`` (seconds both) are for tests on a clock of their own."""
        self.clock = clock
        self._slots = threading.Semaphore(workers)
        self._stopped = threading.Event()
        self._wait = wait or self._stopped.wait

    def stop(self) -> None:
        """Wake every wait; from now on everything that passes here raises RunInterruptedError."""
        self._stopped.set()
        self._slots.release(_EVERYONE)

    def check(self) -> None:
        """Raise RunInterruptedError when the run has been stopped."""
        if self._stopped.is_set():
            raise RunInterruptedError("the run was asked to stop; no further call is made")

    def sleep(self, delay_s: float) -> None:
        """Wait, at most until the run is stopped."""
        if delay_s > 0:
            self._wait(delay_s)
        self.check()

    def enter(self) -> None:
        """Take one of the places for requests in flight."""
        self._slots.acquire()
        if self._stopped.is_set():
            self._slots.release()
            self.check()

    def leave(self) -> None:
        """Give the place back."""
        self._slots.release()


class Lane:
    """The permits of one region: at most ``calls_per_second``, spaced evenly, counted when the call is sent."""

    def __init__(self, gate: Gate, calls_per_second: float) -> None:
        self._gate = gate
        self._full_rate = self._rate = calls_per_second
        self._turn = threading.Lock()
        self._next_at = self._paused_until = gate.clock()
        self._speed = threading.Lock()
        self._slowed_at = float("-inf")
        self.throttled_s = 0.0

    def enter(self) -> float:
        """Wait for a permit and a place in flight, take both, and return the moment; ``leave`` the gate afterwards.

        Only one thread of the region waits for the permit, without a place in flight, so that a slow region keeps
        no other from being asked; and the permit is counted after the place was taken, so that permits cannot
        pile up behind busy places and leave in one burst.
        """
        with self._turn:
            while True:
                self._gate.sleep(max(self._next_at, self._paused_until) - self._gate.clock())
                self._gate.enter()
                sent_at = self._gate.clock()
                if sent_at >= max(self._next_at, self._paused_until):
                    break
                self._gate.leave()
            self._next_at = max(self._next_at, sent_at - BURST_S) + 1 / self._rate
            return sent_at

    def slow_down(self, pause_s: float, *, sent_at: float) -> bool:
        """Pause the region and halve its rate; return whether the rate was halved.

        A request that was sent before the last halving says nothing about the rate since: the answers to all
        that was in flight would else halve it again and again.
        """
        with self._speed:
            now = self._gate.clock()
            until = now + pause_s
            if until > self._paused_until:
                self.throttled_s += until - max(now, self._paused_until)
                self._paused_until = until
            if sent_at <= self._slowed_at:
                return False
            self._rate = max(self._rate / 2, self._full_rate * SLOWEST_SHARE)
            self._slowed_at = now
            return True

    def recover(self) -> None:
        """Take note of a good answer: the rate comes back step by step."""
        if self._rate < self._full_rate:
            with self._speed:
                self._rate = min(self._rate + self._full_rate / RECOVERY_CALLS, self._full_rate)
