"""What a run would ask: discovery, and nothing else."""

from collections.abc import Sequence
from typing import Any

from sync.config import ALL_REGIONS, Settings
from sync.ehpc.fetch import Client
from sync.errors import CallError
from sync.plan import (
    Restriction,
    check_patterns,
    check_restricted_types,
    check_restriction,
    needs_discovery,
    planned_types,
    targets_of,
)
from sync.render import Grid, counted
from sync.store.database import Database, schema_revision
from sync.store.known import find_region

PLAN_COLUMNS = ("region_id", "instance_types", "targets", "calls", "shortest_s", "error")


def preview(settings: Settings, database: Database, client: Client, restriction: Restriction) -> list[dict[str, Any]]:
    """Return one row per region: instance types, targets, calls and the shortest duration in seconds.

    Calls are those of a run in which nothing is missing and nothing fails; regions run side by side, so the run
    takes as long as its longest region. A region whose discovery fails counts the targets that are known of it.

    Raises:
        ConfigError: a pattern or restriction matches nothing.
    """
    region_ids = list(client.fetch_regions().value) if settings.regions == (ALL_REGIONS,) else sorted(settings.regions)
    check_restriction(restriction, region_ids)
    rows = []
    seen: set[str] = set()
    planned: set[str] = set()
    for region_id in region_ids:
        if restriction.region_ids and region_id not in restriction.region_ids:
            continue
        listed, error = _listed(settings, database, client, region_id)
        types = planned_types(listed, settings)
        seen |= {*listed, *types}
        planned.update(types)
        rows.append(_row(region_id, [name for name in types if restriction.admits(name)], settings, error))
    if not any(row["error"] for row in rows):
        check_patterns(settings, seen)
        check_restricted_types(restriction, planned)
    return rows


def _listed(settings: Settings, database: Database, client: Client, region_id: str) -> tuple[Sequence[str], str]:
    if not needs_discovery(settings):
        return (), ""
    try:
        return client.fetch_instance_types(region_id).value, ""
    except CallError as error:
        return sorted(_known_types(database, region_id)), str(error)


def _known_types(database: Database, region_id: str) -> frozenset[str]:
    if database.is_missing_file:
        return frozenset()
    with database.reading() as connection:
        has_tables = schema_revision(connection) is not None
        return frozenset(find_region(connection, region_id).listed_types if has_tables else ())


def _row(region_id: str, types: Sequence[str], settings: Settings, error: str) -> dict[str, Any]:
    targets = targets_of(region_id, types, settings)
    calls = len(targets) + needs_discovery(settings)
    return {
        "region_id": region_id,
        "instance_types": len(types),
        "targets": len(targets),
        "calls": calls,
        "shortest_s": round(calls / settings.calls_per_second, 1),
        "error": error,
    }


def plan_grid(rows: Sequence[dict[str, Any]]) -> Grid:
    """Return the plan as a table with its totals."""
    lines = [
        (
            row["region_id"],
            f"{row['instance_types']:,}",
            f"{row['targets']:,}",
            f"{row['calls']:,}",
            f"{row['shortest_s']:,} s",
            row["error"],
        )
        for row in rows
    ]
    calls = sum(row["calls"] for row in rows)
    longest = max((row["shortest_s"] for row in rows), default=0)
    title = f"{counted(calls, 'call')} in {counted(len(rows), 'region')}; a run takes at least {longest:,} s"
    return Grid(title, ("region", "instance types", "targets", "calls", "at least", "error"), lines)
