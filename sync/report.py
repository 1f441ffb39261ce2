"""How a run, and the condition of the data, are reported: one object for programs, one screen for people. Pure."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from zoneinfo import ZoneInfo

from sync.health import Failing, Health, RegionHealth
from sync.inventory import Failure
from sync.moments import format_moment
from sync.render import Grid, Row, change_lines, counted, failure_lines, held_lines, iso, named
from sync.run import RunResult
from sync.ticks import format_span

WIDTH = 100  # characters: a summary is read on terminals and in mails

LINES_SHOWN = 12  # changes or failures shown of a run, so that a summary fits on one screen


def run_row(result: RunResult) -> dict[str, object]:
    """Return the object that ``run --format json`` prints."""
    return {
        "run_id": result.run_id,
        "status": result.status.value,
        "started_at": iso(result.started_at),
        "finished_at": iso(result.finished_at),
        **asdict(result.counts),
        "failures": [failure_row(failure) for failure in result.failures],
    }


def failure_row(failure: Failure) -> dict[str, str]:
    """Return a failure as programs read it."""
    names = ("region_id", "instance_type", "code", "message", "request_id")
    return {name: getattr(failure, name) for name in names}


def run_line(result: RunResult) -> str:
    """Return how a run ended, in one line."""
    counts = result.counts
    seconds = (result.finished_at - result.started_at).total_seconds()
    error = f"; {result.error}" if result.error else ""
    return (
        f"run {result.run_id}: {result.status.value} in {seconds:.1f} s, "
        f"{counted(counts.targets_ok, 'target')} observed, "
        f"{counts.targets_failed:,} failed, {counts.images_added:,} images added, {counts.images_removed:,} removed, "
        f"{counts.images_changed:,} changed, {counts.removals_held:,} removals held{error}"
    )


def run_summary(result: RunResult, changes: Iterable[Row], zone: ZoneInfo) -> str:
    """Return what a run saw and recorded, on at most one screen; ``changes`` are rows of ``image_changes``."""
    name = "dry run, nothing written" if result.run_id is None else f"run {result.run_id}"
    seconds = (result.finished_at - result.started_at).total_seconds()
    started = format_moment(result.started_at, zone, with_seconds=True)
    counts = result.counts
    lines = [f"{name}: {result.status.value} ({started} {zone.key}, {seconds:.1f} s)"]
    lines.append(
        f"  {counted(counts.targets_ok, 'target')} observed, {counts.targets_failed:,} failed; "
        f"{counted(counts.images_added, 'image')} added, {counts.images_removed:,} removed, "
        f"{counts.images_changed:,} changed; {counted(counts.removals_held, 'removal')} held"
    )
    if result.baseline_count:
        pairs = counted(result.baseline_count, "pair")
        lines.append(f"  = {pairs} of instance type and image seen for the first time: the baseline, no changes")
    lines += _first_lines(change_lines(changes), "ehpc-image-sync changes")
    lines += _first_lines(failure_lines([failure_row(entry) for entry in result.failures]), "--format json")
    if counts.removals_held or result.status.value == "held":
        lines.append(
            "  ! removals are held: too many at once, or a second answer was not to be had. The images stay "
            "available; the next runs decide, or a person: ehpc-image-sync accept-removals"
        )
    if result.error and not result.failures:
        lines.append(f"  ! {result.error}")
    return "\n".join(wrapped(line) for line in lines)


def wrapped(line: str) -> str:
    """Return a line broken to a readable width, its later parts indented below its own beginning."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _first_lines(lines: Sequence[str], more: str) -> list[str]:
    shown = [f"  {line}" for line in lines[:LINES_SHOWN]]
    left = len(lines) - len(shown)
    return [*shown, f"  … and {left} more: see {more}"] if left else shown


REGION_COLUMNS = (
    "region_id",
    "state",
    "last_observed_at",
    "age_s",
    "targets_observed",
    "targets_unknown",
    "types_retired",
    "removals_held",
)


def health_row(health: Health, next_run_at: datetime) -> dict[str, object]:
    """Return the object that ``status --format json`` prints."""
    holder = health.holder
    return {
        "state": "ok" if health.is_well else "attention",
        "reasons": list(health_reasons(health)),
        "checked_at": iso(health.checked_at),
        "stale_after_s": int(health.stale_span.total_seconds()),
        "next_run_at": iso(next_run_at),
        "running": {"owner": holder.owner, "lease_until": iso(holder.expires_at)} if holder else None,
        "last_run": _plain(health.last_runs[0]) if health.last_runs else None,
        "regions": region_rows(health),
        "failing": [
            {
                "region_id": entry.region_id,
                "code": entry.code,
                "message": entry.message,
                "since": iso(entry.since),
                "instance_types": list(entry.instance_types),
            }
            for entry in health.failing
        ],
        "held": [
            {
                "region_id": entry.region_id,
                "since": iso(entry.since),
                "removals": len(entry.rows),
                "runs_until_accepted": entry.runs_left,
            }
            for entry in health.held
        ],
    }


def _plain(row: Row) -> dict[str, object]:
    return {name: iso(value) if isinstance(value, datetime) else value for name, value in row.items()}


def region_rows(health: Health) -> list[dict[str, object]]:
    """Return one row per region with the columns of ``REGION_COLUMNS``."""
    return [
        {
            "region_id": region.region_id,
            "state": _state_of(region),
            "last_observed_at": iso(region.observed_at) if region.observed_at else None,
            "age_s": None if region.age is None else int(region.age.total_seconds()),
            "targets_observed": region.observed_count,
            "targets_unknown": region.unknown_count,
            "types_retired": region.retired_count,
            "removals_held": region.held_count,
        }
        for region in health.regions
    ]


def _state_of(region: RegionHealth) -> str:
    if region.is_stale:
        return "never observed" if region.observed_at is None else "stale"
    if region.unknown_count:
        return "failing"
    return "held" if region.held_count else "ok"


def health_reasons(health: Health) -> tuple[str, ...]:
    """Return what needs a look, one sentence each, the worst first; nothing where all is well."""
    reasons = list(health.outage)
    if health.lost_runs and not any(reason.startswith("the last") for reason in reasons):
        reasons.append(health.lost_sentence)
    reasons += [_failing_sentence(entry) for entry in health.failing]
    reasons += _troubled_sentences(health)
    reasons += [
        f"{counted(len(entry.rows), 'removal')} held in {entry.region_id} since {entry.since:%Y-%m-%d %H:%M} UTC"
        for entry in health.held
    ]
    return tuple(reasons)


def _troubled_sentences(health: Health) -> list[str]:
    return [f"{name}: the last run had failures: {error}" for name, error in health.troubled_regions.items()]


def _failing_sentence(entry: Failing) -> str:
    types = named(entry.instance_types)
    return f"{entry.region_id}: {types} {entry.words} {entry.since:%Y-%m-%d %H:%M} UTC: {entry.message}"


def health_summary(health: Health, next_run_at: datetime, zone: ZoneInfo) -> str:
    """Return the condition of the data on one screen: what is wrong first, then runs."""
    lines = []
    for entry in health.failing:
        cause = f"{entry.code}: {entry.message}"
        types = named(entry.instance_types)
        lines.append(f"! {entry.region_id}: {types} {entry.words} {_shown(entry.since, zone)}: {cause}")
    for held in health.held:
        what = _first_lines(held_lines(held.rows), "ehpc-image-sync accept-removals")
        lines.append(f"! {held.region_id}: {counted(len(held.rows), 'removal')} held since {_shown(held.since, zone)}")
        lines += [f"  {line}" for line in what]
        lines.append(f"    if they are real: ehpc-image-sync accept-removals --region {held.region_id}")
        lines.append(f"    {held.outlook}")
    lines += [f"! {reason}" for reason in (*_troubled_sentences(health), *health.outage)]
    if health.lost_runs and not any(reason.startswith("the last") for reason in health.outage):
        lines.append(f"! {health.lost_sentence}")
    lines += _run_lines(health, next_run_at, zone)
    verdict = "all is well" if health.is_well else "needs a look"
    stale = f"data are stale after {format_span(health.stale_span)}"
    return "\n".join(wrapped(line) for line in (f"{verdict} ({stale})", *lines))


def _run_lines(health: Health, next_run_at: datetime, zone: ZoneInfo) -> list[str]:
    lines = []
    if health.last_runs:
        last = health.last_runs[0]
        ended = f"ended {_shown(last['finished_at'], zone)}" if last["finished_at"] else "not ended"
        lines.append(f"last run: {last['run_id']}, {last['status']}, began {_shown(last['started_at'], zone)}, {ended}")
    if health.holder:
        until = f"{health.holder.expires_at.astimezone(zone):%H:%M:%S}"
        lines.append(f"running now: {health.holder.owner}, lease until {until}")
    lines.append(f"next run by the schedule: {_shown(next_run_at, zone)}; times in {zone.key}")
    return lines


def _shown(moment: datetime, zone: ZoneInfo) -> str:
    return format_moment(moment, zone)


def region_grid(health: Health, zone: ZoneInfo) -> Grid:
    """Return the regions as a table."""
    rows = [
        (
            region.region_id,
            _state_of(region),
            "" if region.age is None else f"{format_span(region.age)} ago",
            f"{region.observed_count:,}",
            f"{region.unknown_count:,}",
            f"{region.held_count:,}",
        )
        for region in health.regions
    ]
    return Grid("", ("region", "state", "observed", "targets", "unknown", "held"), rows)
