"""The overview: how fresh and complete the data are, what needs a person, the last runs, the newest changes."""

from datetime import timedelta

from sync.health import find_health
from sync.render import held_lines
from sync.report import health_reasons, health_row, region_rows
from sync.store.filters import Filter
from sync.store.groups import find_run_ids, list_change_groups
from sync.store.runs import list_runs
from sync.ticks import format_span
from sync.web.visit import Answer, Page, Visit
from sync.web.words import told_changes

RUNS_SHOWN = 8  # enough for a look at a day or two of trouble; the command `runs` has all
RUNS_WITH_CHANGES = 5  # the newest changes: those of so many runs that had any
LINES_OF_HELD = 4  # a person who is to decide reads them all in accept-removals


def answer(visit: Visit) -> Answer:
    """Return the condition of the data, with the newest changes."""
    connection, settings = visit.connection, visit.settings
    health = find_health(connection, settings, visit.now)
    following = settings.due.next_after(visit.now)
    run_ids = find_run_ids(connection, Filter(), RUNS_WITH_CHANGES)
    groups = list_change_groups(connection, Filter(), run_ids)
    runs = list_runs(connection, RUNS_SHOWN)
    held = [(entry, held_lines(entry.rows)) for entry in health.held]
    shown = {
        "health": health,
        "reasons": health_reasons(health),
        "regions": list(zip(health.regions, region_rows(health), strict=True)),
        "observed": sum(region.observed_count for region in health.regions),
        "oldest": max((region.age for region in health.regions if region.age), default=timedelta(0)),
        "held": [(entry, lines[:LINES_OF_HELD], len(lines) - LINES_OF_HELD) for entry, lines in held],
        "runs": runs,
        "batches": told_changes(groups),
        "next_run_at": following,
        "span": format_span,
    }
    return Answer(lambda: {**health_row(health, following), "runs": runs, "changes": groups}, shown=shown)


PAGE = Page("overview", "Overview", (), answer)
