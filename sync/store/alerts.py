"""What each notification channel has been told: the newest change, and the incidents that it believes to go on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.store.database import Database
from sync.store.history import Row
from sync.store.lease import Lease
from sync.store.schema import change, image_changes, notification_cursor, open_alert, run

SUBJECT_LENGTH = 1000  # characters of an incident that are kept to tell its end


@dataclass(frozen=True, slots=True)
class Told:
    """What one channel knows."""

    change_id: int
    incidents: Mapping[str, str] = field(default_factory=dict)
    """The subjects of the incidents that go on, by key."""


def find_told(connection: Connection) -> dict[str, Told]:
    """Return what every channel that was ever used knows, by channel."""
    incidents: dict[str, dict[str, str]] = {}
    for row in connection.execute(sa.select(open_alert)):
        incidents.setdefault(row.channel, {})[row.incident] = row.subject
    cursors = connection.execute(sa.select(notification_cursor)).all()
    return {row.channel: Told(row.change_id, incidents.get(row.channel, {})) for row in cursors}


def find_first_cursor(connection: Connection) -> int:
    """Return where a new channel begins: before the changes of the newest run."""
    newest = sa.select(sa.func.max(run.c.id)).scalar_subquery()
    earlier = sa.select(sa.func.max(change.c.id)).where(change.c.run_id < newest)
    return connection.execute(earlier).scalar() or 0


def list_untold_changes(connection: Connection, change_id: int, limit: int) -> list[Row]:
    """Return at most ``limit`` changes after the one that a channel was told last, in the order of writing."""
    query = sa.select(image_changes).where(image_changes.c.change_id > change_id)
    rows = connection.execute(query.order_by(image_changes.c.change_id).limit(limit)).mappings()
    return [dict(row) for row in rows]


class TellingBook:
    """The only writer of what channels have been told; each transaction is guarded by the lease of telling."""

    def __init__(self, database: Database, lease: Lease) -> None:
        self._database = database
        self._lease = lease

    def open_channel(self, channel: str, change_id: int) -> None:
        """Note a channel that is used for the first time: it hears of what comes after this change."""
        with self._database.writing() as connection:
            self._lease.guard(connection)
            connection.execute(sa.insert(notification_cursor).values(channel=channel, change_id=change_id))

    def note_told(
        self,
        channel: str,
        told_at: datetime,
        *,
        change_id: int,
        begun: Mapping[str, str],
        ended: Iterable[str],
    ) -> None:
        """Note that a channel has been told of changes up to one, and of incidents that began and ended."""
        cursor, alert = notification_cursor, open_alert
        with self._database.writing() as connection:
            self._lease.guard(connection)
            moved = sa.update(cursor).where(cursor.c.channel == channel, cursor.c.change_id < change_id)
            connection.execute(moved.values(change_id=change_id))
            for incident in ended:
                gone = sa.delete(alert).where(alert.c.channel == channel, alert.c.incident == incident)
                connection.execute(gone)
            rows = [
                {"channel": channel, "incident": key, "subject": subject[:SUBJECT_LENGTH], "told_at": told_at}
                for key, subject in begun.items()
            ]
            if rows:
                connection.execute(sa.insert(alert), rows)
