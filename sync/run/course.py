"""The course of one run: plan → fetch → diff → record, with one thread that writes and many that wait for the API."""

import functools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sync.config import ALL_REGIONS, Settings
from sync.diff import RemovalRules, not_planned_update
from sync.ehpc.fetch import Answer, Client
from sync.ehpc.gather import Gatherer
from sync.errors import (
    CallError,
    ConfigError,
    DatabaseError,
    LeaseLostError,
    RunInterruptedError,
    SyncError,
)
from sync.inventory import (
    NOT_PLANNED,
    Counts,
    Failure,
    HistoryClock,
    Image,
    KnownTarget,
    RunStatus,
    Target,
)
from sync.plan import (
    check_patterns,
    check_restricted_types,
    check_restriction,
    needs_discovery,
)
from sync.region import RegionPlan, RegionRun, Stored
from sync.run.outcome import Progress, RunRequest, RunResult
from sync.store.database import Database
from sync.store.known import (
    ImageKeys,
    KnownRegion,
    count_open_pairs,
    find_held_removals,
    find_open_intervals,
    find_region,
    find_region_ids,
)
from sync.store.lease import Lease
from sync.store.record import Recorder

logger = logging.getLogger(__package__)

POLL_S = 0.5  # how soon an interrupt or a due heartbeat is noticed while no answer comes

Key = str | Target
"""What a call is about: a region's discovery, or a target."""

Answered = Answer[Any] | CallError


def rules_of(settings: Settings) -> RemovalRules:
    """Return the removal rules of the settings."""
    return RemovalRules(
        settings.removal_confirmations,
        settings.removal_limit_percent,
        settings.removal_limit_count,
        settings.removal_accept_after_runs,
    )


class Course:
    """The state of one run; ``record`` writes it, ``rehearse`` only counts."""

    def __init__(
        self,
        settings: Settings,
        database: Database | None,
        client: Client,
        request: RunRequest,
        interrupt: threading.Event,
        on_progress: Callable[[Progress], None],
        clock: HistoryClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._client = client
        self._request = request
        self._interrupt = interrupt
        self._on_progress = on_progress
        self._clock = clock
        self._keys = ImageKeys()
        self._regions: dict[str, RegionRun] = {}
        self._undiscovered: set[str] = set()
        self._failures: list[Failure] = []
        self._statuses: list[RunStatus] = []
        self._counts = Counts()
        self._baseline_count = 0
        self._started_at = clock()
        self._recorder: Recorder | None = None
        self._lease: Lease | None = None
        self._renewed_at = time.monotonic()
        self._calls: Gatherer[Key] = Gatherer(settings.workers)

    # --- start and end

    def record(self, lease: Lease) -> RunResult:
        """Make the run and write it."""
        if self._database is None:
            raise ConfigError("a run needs a database")
        self._lease = lease
        self._recorder = Recorder(self._database, lease, self._keys, self._clock)
        run_id = self._recorder.open_run(self._request.trigger, self._started_at, self._request.scheduled_at)
        logger.info("run %d started", run_id, extra={"run_id": run_id})
        try:
            self._make()
        except RunInterruptedError as error:
            self._close(RunStatus.INTERRUPTED, str(error))
            raise
        except LeaseLostError:
            raise
        except SyncError as error:
            self._close(RunStatus.FAILED, str(error))
            raise
        status, error_text = self._outcome()
        finished_at = self._clock()
        self._recorder.close_run(finished_at, status, self._counts, error_text)
        logger.info("run %d: %s", run_id, _told(status, self._counts), extra={"run_id": run_id})
        return self._result(run_id, status, finished_at, error_text)

    def rehearse(self) -> RunResult:
        """Make the run without writing anything."""
        self._make()
        status, error_text = self._outcome()
        return self._result(None, status, self._clock(), error_text)

    def _close(self, status: RunStatus, error: str) -> None:
        """Note the end of a run that did not reach it; the error that ended it is the one to report."""
        try:
            if self._recorder:
                self._recorder.close_run(self._clock(), status, self._counts, error)
        except SyncError as closing:
            logger.warning("the run's row could not be closed, the next run will: %s", closing)

    def _result(self, run_id: int | None, status: RunStatus, finished_at: datetime, error: str | None) -> RunResult:
        failures = tuple(sorted(self._failures))
        return RunResult(
            run_id, status, self._started_at, finished_at, self._counts, failures, error, self._baseline_count
        )

    def _outcome(self) -> tuple[RunStatus, str | None]:
        if RunStatus.HELD in self._statuses:
            return RunStatus.HELD, _first_cause(self._failures)
        if not self._counts.targets_ok:
            return RunStatus.FAILED, _first_cause(self._failures) or "no target was observed: the plan is empty"
        return (RunStatus.PARTIAL, _first_cause(self._failures)) if self._failures else (RunStatus.OK, None)

    # --- the order

    def _make(self) -> None:
        with self._calls:
            try:
                self._open_regions(self._plan_regions())
                while self._regions:
                    self._step()
            except BaseException:
                self._client.stop()
                raise

    def _step(self) -> None:
        """Take what has been answered since the last step; the body of the run's loop."""
        self._take(self._answered())
        if not self._undiscovered:
            for region_id in [name for name, region in self._regions.items() if region.is_answered]:
                self._finish_region(self._regions.pop(region_id))
        self._report_progress()

    def _answered(self) -> list[tuple[Key, Answered]]:
        """Return the calls that have ended since the last time; none after half a second without any."""
        if self._interrupt.is_set():
            raise RunInterruptedError("run.interrupted: the run was asked to stop; the next run does what is left")
        answered = self._calls.collect(POLL_S)
        self._heartbeat()
        return answered

    def _plan_regions(self) -> list[str]:
        configured = self._settings.regions
        region_ids = self._discovered_regions() if configured == (ALL_REGIONS,) else sorted(configured)
        check_restriction(self._request.restriction, region_ids)
        return [name for name in region_ids if name in (self._request.restriction.region_ids or region_ids)]

    def _discovered_regions(self) -> list[str]:
        self._calls.submit(ALL_REGIONS, ALL_REGIONS, self._client.fetch_regions)
        answered: list[tuple[Key, Answered]] = []
        while not answered:
            answered = self._answered()
        outcome = answered[0][1]
        if isinstance(outcome, CallError):
            self._failures.append(Failure("", "", outcome.code, outcome.message, outcome.request_id))
            return self._known_region_ids()
        return list(outcome.value)

    def _known_region_ids(self) -> list[str]:
        if self._database is None:
            return []
        with self._database.reading() as connection:
            return find_region_ids(connection)

    def _open_regions(self, region_ids: Sequence[str]) -> None:
        plan = RegionPlan(self._settings, self._request.restriction, rules_of(self._settings))
        started_at = self._clock()
        if self._recorder:
            self._recorder.open_regions(region_ids, started_at)
        self._undiscovered = set(region_ids)
        for region_id in region_ids:
            self._regions[region_id] = RegionRun(self._find_region(region_id), plan, started_at)
        for region in list(self._regions.values()):
            if needs_discovery(self._settings):
                self._ask_listing(region)
            else:
                self._ask_targets(region)

    def _find_region(self, region_id: str) -> KnownRegion:
        if self._database is None:
            return KnownRegion(region_id, {}, {}, frozenset(), {}, None)
        with self._database.reading() as connection:
            return find_region(connection, region_id)

    def _leave_unplanned_regions(self, region_ids: Collection[str]) -> None:
        """Open gaps for the targets of regions that the configuration no longer names."""
        for region_id in self._known_region_ids():
            if region_id in region_ids:
                continue
            known = self._find_region(region_id)
            updates = [
                not_planned_update(target, self._clock())
                for target, entry in known.targets.items()
                if not entry.is_retired and entry.gap_code != NOT_PLANNED
            ]
            if self._recorder and updates:
                self._recorder.write_targets(updates, known.targets)

    def _ask_listing(self, region: RegionRun) -> None:
        name = region.region_id
        self._calls.submit(name, name, lambda: self._client.fetch_instance_types(name), urgent=True)

    def _ask_images(self, region: RegionRun, targets: Iterable[Target], *, is_urgent: bool = False) -> None:
        fetch = self._client.fetch_images
        calls = [(target, functools.partial(fetch, target)) for target in targets]
        self._calls.submit_all(region.region_id, calls, urgent=is_urgent)

    def _ask_targets(self, region: RegionRun) -> None:
        self._ask_images(region, region.plan_targets())
        self._undiscovered.discard(region.region_id)
        if not self._undiscovered:
            self._end_discovery()

    def _end_discovery(self) -> None:
        """Check what only all regions together can tell; nothing of the history was written before."""
        regions = self._regions.values()
        is_sure = not self._failures and not any(region.discovery_failure for region in regions)
        if is_sure:
            check_patterns(self._settings, {name for region in regions for name in region.seen_types})
            planned = {target.instance_type for region in regions for target in region.planned}
            check_restricted_types(self._request.restriction, planned)
        if self._request.restriction.covers_everything and not self._failures:
            self._leave_unplanned_regions(self._regions)

    # --- answers

    def _take(self, answered: Iterable[tuple[Key, Answered]]) -> None:
        unsettled: dict[str, list[tuple[Target, frozenset[Image], datetime]]] = defaultdict(list)
        for key, outcome in answered:
            if isinstance(key, str):
                self._take_listing(self._regions[key], outcome)
            elif isinstance(outcome, CallError):
                self._take_failure(key, outcome)
            elif self._regions[key.region_id].needs_stored(key, outcome.value):
                received_at = self._clock.place(outcome.received_at)
                unsettled[key.region_id].append((key, outcome.value, received_at))
        for region_id, answers in unsettled.items():
            self._compare(self._regions[region_id], answers)

    def _take_listing(self, region: RegionRun, outcome: Answered) -> None:
        needs_another = False
        if isinstance(outcome, CallError):
            region.fail_listing(outcome)
        else:
            needs_another = region.take_listing(outcome.value, self._clock.place(outcome.received_at))
        if needs_another:
            self._ask_listing(region)
        else:
            self._ask_targets(region)

    def _take_failure(self, target: Target, error: CallError) -> None:
        logger.debug("%s was not observed: %s", target, error)
        self._regions[target.region_id].take_failure(target, error, self._clock())

    def _compare(self, region: RegionRun, answers: Sequence[tuple[Target, frozenset[Image], datetime]]) -> None:
        new = [target for target, _, _ in answers if not region.has_answer(target)]
        stored = self._find_stored(new, region.known.targets)
        doubtful = [
            target
            for target, images, received_at in answers
            if region.take_images(target, images, received_at, stored.get(target))
        ]
        self._ask_images(region, doubtful, is_urgent=True)

    def _find_stored(self, targets: Iterable[Target], known: Mapping[Target, KnownTarget]) -> dict[Target, Stored]:
        ids = {known[target].id: target for target in targets if target in known}
        if not ids or self._database is None:
            return {}
        keys = sorted(ids)
        with self._database.reading() as connection:
            opened = find_open_intervals(connection, keys, self._keys)
            with_held = [key for key in keys if known[ids[key]].has_held]
            held = find_held_removals(connection, with_held, self._keys)
        return {ids[key]: (opened[key], held.get(key, {})) for key in keys}

    # --- the end of a region

    def _finish_region(self, region: RegionRun) -> None:
        retiring = self._find_stored(region.retired_targets, region.known.targets)
        updates = region.updates(retiring, self._count_open_pairs(region), self._clock())
        counts = region.counts(updates)
        status = region.status(counts, updates)
        failures = region.failures()
        if self._recorder:
            self._recorder.write_targets(updates, region.known.targets, region.unlisted_types())
            self._recorder.close_region(
                region.region_id,
                self._clock(),
                status,
                counts,
                is_complete=region.is_complete,
                types_listed=region.types_listed,
                error=_first_cause(failures),
                listing=region.listing_update(updates),
            )
        self._counts += counts
        self._baseline_count += region.baseline_count(updates)
        self._statuses.append(status)
        self._failures += failures
        self._renewed_at = time.monotonic()
        _log_region(region, status, counts, self._recorder.run_id if self._recorder else None)

    def _count_open_pairs(self, region: RegionRun) -> int:
        if self._database is None or not region.decisive_pair_count:
            return 0
        with self._database.reading() as connection:
            return count_open_pairs(connection, region.region_id, region.decisive_pair_count)

    def _heartbeat(self) -> None:
        """Renew the lease when it is due; a database that is away for less than the lease lasts is survived."""
        elapsed_s = time.monotonic() - self._renewed_at
        if self._lease is None or elapsed_s < self._lease.heartbeat_s:
            return
        try:
            self._lease.renew()
        except DatabaseError:
            if elapsed_s > self._lease.duration_s:
                raise
            logger.warning("the lease could not be renewed; trying again")
            return
        self._renewed_at = time.monotonic()

    def _report_progress(self) -> None:
        waiting = self._calls.pending_count
        asked = sum(len(region.asked) for region in self._regions.values())
        done = self._counts.targets_ok + self._counts.targets_failed
        self._on_progress(Progress(done + max(0, asked - waiting), done + asked))


def _first_cause(failures: Sequence[Failure]) -> str | None:
    if not failures:
        return None
    first = min(failures)  # not the one that came first: two equal runs are to say the same
    more = f" (and {len(failures) - 1} more failures)" if len(failures) > 1 else ""
    return f"{first.code}: {first.message}{more}"


def _log_region(region: RegionRun, status: RunStatus, counts: Counts, run_id: int | None) -> None:
    fields = {"run_id": run_id, "region_id": region.region_id}
    if region.discovery_failure:
        logger.info(
            "%s: discovery failed (%s), %s",
            region.region_id,
            region.discovery_failure.code,
            "the known targets were asked" if region.known.targets else "and no target is known",
            extra=fields,
        )
    if region.listing_is_over_limit:
        logger.info(
            "%s: so many instance types left the listing at once that none is retired", region.region_id, extra=fields
        )
    logger.info("%s: %s", region.region_id, _told(status, counts), extra=fields)


def _told(status: RunStatus, counts: Counts) -> str:
    return (
        f"{status}, {counts.targets_ok} targets observed, {counts.targets_failed} failed, "
        f"{counts.images_added} images added, {counts.images_removed} removed, {counts.images_changed} changed, "
        f"{counts.removals_held} removals held"
    )
