"""What this process has counted since it began: its runs and their calls."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from sync.ehpc.region import RegionStatistics
from sync.run import RunResult

BUCKETS_S = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Upper bounds of run durations, from a region of a few types to one of some ten thousand targets."""


@dataclass(slots=True)
class Totals:
    """Everything counted so far."""

    runs: Counter[str] = field(default_factory=Counter)
    """By status."""
    durations: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """Runs by the first of ``BUCKETS_S`` that they did not exceed; the last one counts what exceeded all."""
    duration_s: float = 0.0
    """All of them together."""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By region and by ``ok`` or the code of the error."""
    retries: Counter[str] = field(default_factory=Counter)
    """By region."""
    throttled_s: dict[str, float] = field(default_factory=dict)
    """By region."""


class Telemetry:
    """The counters of one process, for all of its life; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Totals()

    def note_run(self, result: RunResult, statistics: Sequence[RegionStatistics]) -> None:
        """Count a run that this process made; ``statistics`` are those of its calls alone."""
        # A clock that was set back during the run must not make a sum shrink.
        duration_s = max((result.finished_at - result.started_at).total_seconds(), 0.0)
        with self._lock:
            totals = self._totals
            totals.runs[result.status.value] += 1
            totals.durations[bisect_left(BUCKETS_S, duration_s)] += 1
            totals.duration_s += duration_s
            for entry in statistics:
                for outcome, count in entry.calls_by_outcome.items():
                    totals.calls[entry.region_id, outcome] += count
                totals.retries[entry.region_id] += entry.retries
                throttled_s = totals.throttled_s.get(entry.region_id, 0.0)
                totals.throttled_s[entry.region_id] = throttled_s + entry.throttled_s

    def totals(self) -> Totals:
        """Return a copy of everything counted so far."""
        with self._lock:
            return deepcopy(self._totals)
