"""What the simulator remembers of the calls it answered: a bounded log and exact counts, for tests and for people."""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

MAX_LOGGED_CALLS = 50_000  # about 20 MB; more than two full runs over the largest region


@dataclass(frozen=True, slots=True)
class Call:
    """One call to the API as it was answered."""

    arrived_at: datetime
    arrived_s: float
    """``time.monotonic()`` at arrival, for measuring rates."""
    action: str
    region_id: str
    instance_type: str
    base_os_tag: str
    status: int
    code: str
    """Alibaba Cloud's error code; empty for a regular answer."""
    request_id: str
    signature_version: str
    """``v3`` or ``v1``; empty where no valid signature was seen."""
    fault: str
    """The kind of the fault that spoilt the answer; empty for none."""


class CallLog:
    """A bounded log with unbounded counts; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=MAX_LOGGED_CALLS)
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, call: Call) -> None:
        """Remember a call."""
        with self._lock:
            self._calls.append(call)
            self._counts[call.action, call.region_id, call.code] += 1

    def clear(self) -> None:
        """Forget all calls and counts."""
        with self._lock:
            self._calls.clear()
            self._counts.clear()

    def calls(self, *, action: str | None = None, region_id: str | None = None) -> tuple[Call, ...]:
        """Return the remembered calls in the order of their answers; ``None`` means any."""
        with self._lock:
            calls = tuple(self._calls)
        return tuple(c for c in calls if action in {None, c.action} and region_id in {None, c.region_id})

    def count(self, *, action: str | None = None, region_id: str | None = None, code: str | None = None) -> int:
        """Return how many calls were answered since the start or the last reset; code ``""`` counts regular answers."""
        wanted = (action, region_id, code)
        with self._lock:
            counts = list(self._counts.items())
        return sum(n for key, n in counts if all(w in {None, k} for w, k in zip(wanted, key, strict=True)))

    def counts_by_code(self) -> Mapping[str, int]:
        """Return the number of calls by error code, ``ok`` for regular answers, sorted by code."""
        totals: Counter[str] = Counter()
        with self._lock:
            for (_, _, code), n in self._counts.items():
                totals[code or "ok"] += n
        return dict(sorted(totals.items()))
