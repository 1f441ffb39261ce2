"""What a history answered before it was pruned, to be held against what it answers then."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.inventory import PRUNED
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import list_changes, list_held, list_intervals
from sync.store.known import find_latest_moment, find_region
from sync.store.prune import Pruned, count_prunable, prune
from sync.store.runs import find_run_times
from sync.store.schema import metadata, views
from sync.store.snapshot import UNKNOWN, find_listing, find_snapshot, list_images_at
from sync.store.verify import violations
from tests.store.past import REGIONS

ALL = Filter()
INSTANT = timedelta(milliseconds=1)
Answers = dict[str, Any]


def times_of(connection: Connection) -> list[datetime]:
    """Return all times of the history, and the instants beside each."""
    found: set[datetime] = set()
    columns = [column for table in metadata.sorted_tables if table.name != "lease" for column in table.c]
    for column in columns:
        if column.name.endswith(("_at", "_from", "_to")):
            moments = connection.execute(sa.select(column).distinct()).scalars()
            found.update(moment for moment in moments if moment and moment.year < 9999)
    return sorted({moment + step for moment in found for step in (-INSTANT, timedelta(0), INSTANT)})


def view(connection: Connection, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(views.tables[name])).mappings()]


def answers_of(
    connection: Connection, cutoff: datetime, cuts: Mapping[str, datetime], times: list[datetime]
) -> Answers:
    """Return everything that is answered about the kept time: since ``cuts`` in each region."""

    def is_kept(row: Mapping[str, Any], moment: datetime | None) -> bool:
        return moment is None or row["region_id"] not in cuts or moment >= cuts[row["region_id"]]

    history = [row for row in list_intervals(connection, ALL) if is_kept(row, row["valid_to"])]
    starts = find_run_times(connection)
    answers: Answers = {
        "changes": list_changes(connection, ALL, since=cutoff),
        "history": history,
        "shown with": [
            (starts.run_start_of(row["valid_from"]), starts.run_start_of(row["valid_to"])) for row in history
        ],
        "held": list_held(connection),
        "held since": [starts.run_start_of(row["first_missed_at"]) for _, _, row in list_held(connection)],
        "gaps": [
            row
            for row in view(connection, "observation_gaps")
            if row["error_code"] != PRUNED and (row["gap_to"] is None or is_kept(row, row["gap_to"] - INSTANT))
        ],
        "runs": [row for row in view(connection, "sync_runs") if row["started_at"] >= cutoff],
        "region runs": [row for row in view(connection, "region_runs") if is_kept(row, row["started_at"])],
        "known to the next run": [find_region(connection, name) for name in REGIONS],
        "the latest time": find_latest_moment(connection),
    }
    for name in ("gaps", "runs", "region runs"):
        answers[name].sort(key=repr)
    for name in ("available_images", "target_status"):
        answers[name] = sorted(view(connection, name), key=repr)
    for moment in times:
        at = [row for row in list_images_at(connection, moment, ALL) if is_kept(row, moment)]
        listings = [find_listing(connection, moment, name) for name in REGIONS if is_kept({"region_id": name}, moment)]
        answers[f"at {moment}"] = at, listings
    return answers


def known_at(connection: Connection, times: list[datetime]) -> dict[Any, tuple[str, frozenset[Any]]]:
    """Return the state and the images of each target at each time."""
    found = {}
    for moment in times:
        snapshot = find_snapshot(connection, moment, ALL)
        for asked, coverage in snapshot.coverage.items():
            found[moment, asked] = coverage.state, frozenset(snapshot.images.get(asked, ()))
    return found


class Witness:
    """What a history answered before it was pruned."""

    def __init__(self, database: Database, every: int = 1) -> None:
        self.database = database
        with database.reading() as connection:
            self.times = times_of(connection)[::every]
            self.known = known_at(connection, self.times)
            self.end = find_latest_moment(connection) or self.times[-1]

    def answers(self, cutoff: datetime, cuts: Mapping[str, datetime]) -> Answers:
        with self.database.reading() as connection:
            return answers_of(connection, cutoff, cuts, self.times)

    def expect_nothing_wrong(self) -> None:
        """Check that whatever is answered now is what was answered before, or unknown; and that all is sound."""
        with self.database.reading() as connection:
            now = known_at(connection, self.times)
        assert now.keys() == self.known.keys()
        wrong = {key for key, (state, images) in now.items() if state != UNKNOWN and (state, images) != self.known[key]}
        assert not wrong
        assert violations(self.database) == []

    def prune(self, cutoff: datetime) -> Pruned:
        """Prune, and check all that is promised of it."""
        expected = count_prunable(self.database, cutoff, self.end)
        before = self.answers(cutoff, expected.kept_from)
        pruned = prune(self.database, cutoff, self.end)
        assert pruned == expected
        assert self.answers(cutoff, pruned.kept_from) == before
        self.expect_nothing_wrong()
        return pruned
