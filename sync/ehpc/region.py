"""What a run has learnt of one region: its permits, why it is no longer asked, and its counts."""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sync.ehpc.codes import NETWORK_CODES
from sync.ehpc.rate import Gate, Lane
from sync.errors import CallError

UNREACHABLE_CALLS = 3
"""Calls in a row that never got a connection, before any answer, until the region is given up.

A wrong region id is a host without a name: each of its thousand targets would back off through all attempts,
an hour for one typing error. Three calls of five attempts have waited for several seconds each, so a short
outage at the start of a run is survived; a region that has answered once is never given up like this.
"""

EVERY_ACTION = ""


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """The calls of one region so far.

    ``calls_by_outcome`` counts calls that sent at least one request: ``ok`` or the code of their error.
    """

    region_id: str
    calls_by_outcome: Mapping[str, int]
    retries: int
    throttled_s: float


class Region:
    """The state of one region, shared by all workers."""

    def __init__(self, region_id: str, gate: Gate, calls_per_second: float) -> None:
        self.region_id = region_id
        self.lane = Lane(gate, calls_per_second)
        self._is_throttling_reported = False
        self._lock = threading.Lock()
        self._refusals: dict[str, CallError] = {}
        self._has_answered = False
        self._unreachable_calls = 0
        self._outcomes: Counter[str] = Counter()
        self._retries = 0

    def check(self, action: str) -> None:
        """Raise the error that has stopped the action or the whole region."""
        if self._refusals:
            error = self._refusals.get(EVERY_ACTION) or self._refusals.get(action)
            if error is not None:
                raise CallError(error.code, error.message, request_id=error.request_id, stops_region=error.stops_region)

    def refuse(self, error: CallError, action: str = EVERY_ACTION) -> None:
        """Let every later call of the action fail with this error, without a request."""
        with self._lock:
            self._refusals.setdefault(action, error)

    def note_answer(self) -> None:
        """Take note that the region's host has answered something."""
        self._has_answered = True

    def report_throttling_once(self) -> bool:
        """Return True at the first call only: one warning per region is enough."""
        with self._lock:
            is_first = not self._is_throttling_reported
            self._is_throttling_reported = True
        return is_first

    def note_retry(self) -> None:
        """Count one more attempt of a call."""
        with self._lock:
            self._retries += 1

    def note_success(self) -> None:
        """Count a call that got its answer."""
        self.lane.recover()
        with self._lock:
            self._outcomes["ok"] += 1

    def note_failure(self, error: CallError) -> CallError:
        """Count a call that failed; return its error, which stops the region when that has proved unreachable."""
        with self._lock:
            self._outcomes[error.code] += 1
            if error.code not in NETWORK_CODES or self._has_answered:
                return error
            self._unreachable_calls += 1
            if self._unreachable_calls < UNREACHABLE_CALLS:
                return error
        stopping = CallError(error.code, error.message, stops_region=True)
        self.refuse(stopping)
        return stopping

    def statistics(self) -> RegionStatistics:
        """Return the counts so far."""
        with self._lock:
            return RegionStatistics(self.region_id, dict(self._outcomes), self._retries, self.lane.throttled_s)
