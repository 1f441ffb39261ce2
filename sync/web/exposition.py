"""What this process counted and what the database says, as metrics for Prometheus."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.metadata import version
from itertools import accumulate, product

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sync.health import Health
from sync.inventory import ChangeKind, RunStatus
from sync.web.metrics import BUCKETS_S, Totals
from sync.web.reading import IntervalCounts, Reading, Readings
from sync.web.source import Source

ENDED = tuple(status.value for status in RunStatus if status is not RunStatus.RUNNING)
MADE = tuple(status for status in ENDED if status != RunStatus.INTERRUPTED)

Series = Iterable[tuple[tuple[str, ...], float]]
"""The values of labels, and the value that belongs to them."""


def registry_of(source: Source, readings: Readings) -> CollectorRegistry:
    """Return a registry of its own with everything that ``/metrics`` tells; nothing is read yet."""
    registry = CollectorRegistry()
    registry.register(Exposition(source, readings))
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


class Exposition(Collector):
    """Collects the metrics of the daemon at every scrape; those of the database are absent while it is away."""

    def __init__(self, source: Source, readings: Readings) -> None:
        self._source = source
        self._readings = readings
        self._intervals = IntervalCounts(source.database)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are in no other collector of the registry, and to collect them takes a database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield one family per metric."""
        source = self._source
        yield InfoMetricFamily(
            "ehpc_sync_build", "The version of the program.", value={"version": version("ehpc-image-sync")}
        )
        yield from _totals_families(source.telemetry.totals())
        yield from _daemon_families(source)
        reading = self._readings.latest()
        yield _gauge(
            "ehpc_sync_database_up",
            "Whether the database answers; without it the metrics that come from it are absent.",
            reading.is_database_up,
        )
        yield _gauge(
            "ehpc_sync_healthy", "Whether the data can be relied upon: 1 where /healthz says 200.", not reading.reasons
        )
        if reading.health:
            yield from _health_families(reading.health)
            yield from _reading_families(reading, reading.health)
            yield from self._interval_families(reading, reading.health)

    def _interval_families(self, reading: Reading, health: Health) -> Iterator[Metric]:
        counts = self._intervals.at(reading.newest_run)
        if counts is not None:
            names = {region.region_id for region in health.regions} | counts.keys()
            yield _gauges(
                "ehpc_sync_open_intervals",
                "Images that are available, as pairs with their targets; counted when a run begins or ends.",
                ("region_id",),
                [((name,), counts.get(name, 0)) for name in names],
            )


def _totals_families(totals: Totals) -> Iterator[Metric]:
    yield _counters(
        "ehpc_sync_runs",
        "Runs that this process made, by the status with which they ended.",
        ("status",),
        [((status,), totals.runs[status]) for status in {*MADE, *totals.runs}],
    )
    reached = [*map(str, map(float, BUCKETS_S)), "+Inf"]
    yield HistogramMetricFamily(
        "ehpc_sync_run_duration_seconds",
        "How long the runs took that this process made.",
        buckets=list(zip(reached, map(float, accumulate(totals.durations)), strict=True)),
        sum_value=totals.duration_s,
    )
    yield _counters(
        "ehpc_sync_calls",
        "Calls of the API by this process that sent a request, by outcome: ok or an error code.",
        ("region_id", "outcome"),
        totals.calls.items(),
    )
    yield _counters(
        "ehpc_sync_call_retries",
        "Attempts beyond the first one of a call.",
        ("region_id",),
        [((region_id,), count) for region_id, count in totals.retries.items()],
    )
    yield _counters(
        "ehpc_sync_throttled_seconds",
        "Time that calls waited because the API refused them as too many, all workers together.",
        ("region_id",),
        [((region_id,), seconds) for region_id, seconds in totals.throttled_s.items()],
    )


def _daemon_families(source: Source) -> Iterator[Metric]:
    yield _counters(
        "ehpc_sync_notifications",
        "Messages of this process to notification channels, by outcome: sent or failed.",
        ("channel", "outcome"),
        source.notifications().items(),
    )
    yield _gauge(
        "ehpc_sync_stale_after_seconds",
        "The age from which the data of a region are stale.",
        source.settings.stale_span(source.now()).total_seconds(),
    )
    next_run_at = source.next_run_at()
    if next_run_at:
        yield _gauge("ehpc_sync_next_run_timestamp_seconds", "When the next run is due.", next_run_at.timestamp())


def _health_families(health: Health) -> Iterator[Metric]:
    ended = next((row for row in health.last_runs if row["status"] in ENDED), None)
    if ended:
        ended_at: datetime = ended["finished_at"] or ended["started_at"]
        yield _gauge(
            "ehpc_sync_last_run_timestamp_seconds",
            "When the last run over everything ended, whoever made it.",
            ended_at.timestamp(),
        )
        yield _gauges(
            "ehpc_sync_last_run_status",
            "1 for the status with which the last run over everything ended, 0 for all others.",
            ("status",),
            [((status,), status == ended["status"]) for status in ENDED],
        )
    yield _gauges(
        "ehpc_sync_targets",
        "Targets that are asked (observed, or unknown at the moment) and those whose instance type is retired.",
        ("region_id", "state"),
        [
            ((region.region_id, state), count)
            for region in health.regions
            for state, count in (
                ("observed", region.observed_count),
                ("unknown", region.unknown_count),
                ("retired", region.retired_count),
            )
        ],
    )
    held = dict.fromkeys((region.region_id for region in health.regions), 0)
    for entry in health.held:
        held[entry.region_id] = held.get(entry.region_id, 0) + len(entry.rows)
    yield _gauges(
        "ehpc_sync_held_removals",
        "Removals that are not believed yet: pairs of target and image, and whole instance types.",
        ("region_id",),
        [((region_id,), count) for region_id, count in held.items()],
    )
    yield _gauges(
        "ehpc_sync_data_age_seconds",
        "Time since the newest observation of a region that is asked; absent where there was none yet.",
        ("region_id",),
        [((region.region_id,), region.age.total_seconds()) for region in health.regions if region.age is not None],
    )
    if health.holder:
        yield InfoMetricFamily(
            "ehpc_sync_lease",
            "Who makes a run at the moment; absent while nobody does.",
            value={"owner": _readable(health.holder.owner)},
        )


def _reading_families(reading: Reading, health: Health) -> Iterator[Metric]:
    regions = [entry.region_id for entry in health.regions]
    # A series that begins with its first change would hide it: increase() sees nothing in a first value.
    silent = dict.fromkeys(product(regions, map(str, ChangeKind)), 0)
    yield _counters(
        "ehpc_sync_changes",
        "Changes recorded since this process began, by whomever: of several daemons take the largest, not the sum.",
        ("region_id", "kind"),
        {**silent, **reading.change_counts}.items(),
    )
    yield _gauges(
        "ehpc_sync_failing_targets",
        "Targets that are not observed at the moment, by the code of their error.",
        ("region_id", "code"),
        reading.failing_counts.items(),
    )


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=float(value))


def _gauges(name: str, help_text: str, labels: tuple[str, ...], series: Series) -> Metric:
    return _filled(GaugeMetricFamily(name, help_text, labels=labels), series)


def _counters(name: str, help_text: str, labels: tuple[str, ...], series: Series) -> Metric:
    return _filled(CounterMetricFamily(name, help_text, labels=labels), series)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, series: Series) -> Metric:
    for labels, value in sorted(series):
        family.add_metric([_readable(part) for part in labels], float(value))
    return family


def _readable(text: str) -> str:
    """Return a text that UTF-8 can hold: names from the environment may be other bytes."""
    return text.encode("utf-8", "backslashreplace").decode()
