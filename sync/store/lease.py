"""The lease: one row with a fencing token, so that any number of daemons and cron jobs make one run at a time."""

import hashlib
import os
import re
import socket
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, and_, exc, insert, literal_column, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from sync.errors import DatabaseError, LeaseLostError, LeaseTakenError
from sync.inventory import OPEN
from sync.store.database import Database, head_revision, migrate, schema_revision
from sync.store.schema import lease
from sync.store.types import MYSQL_FAMILY, UtcTimestamp

LEASE_S = 60  # a dead owner blocks others for at most this long
HEARTBEAT_S = 15  # three renewals may fail before the lease is lost
RUN = "run"
TELL = "tell"  # of telling the notification channels, so that no two processes tell the same

_NOW = {
    "sqlite": ("strftime('%Y-%m-%d %H:%M:%f', 'now')", "strftime('%Y-%m-%d %H:%M:%f', 'now', '+{} seconds')"),
    "postgresql": ("clock_timestamp()", "clock_timestamp() + interval '{} seconds'"),
    "mysql": ("UTC_TIMESTAMP(3)", "UTC_TIMESTAMP(3) + INTERVAL {} SECOND"),
}


class Lease:
    """The right to write, held by at most one process; all times are the database's own.

    Attributes:
        owner: the holder as others read it: machine and process.
        duration_s, heartbeat_s: for how long it is held without a renewal, and how often it is to be renewed.
    """

    def __init__(self, database: Database, name: str = RUN) -> None:
        self._database = database
        self._name = name
        self.duration_s = LEASE_S
        self.heartbeat_s = HEARTBEAT_S
        self.owner = f"{socket.gethostname()} process {os.getpid()} ({_process_scope()}-{uuid.uuid4().hex[:8]})"
        self._token: int | None = None
        now, later = _NOW[database.dialect_name]
        self._now: ColumnElement[datetime] = literal_column(now, UtcTimestamp)
        self._later: ColumnElement[datetime] = literal_column(later.format(self.duration_s), UtcTimestamp)

    def acquire(self) -> None:
        """Take the lease, and under it bring the tables to this program's schema.

        Raises:
            LeaseTakenError: another process holds it; the message says who and until when.
            SchemaVersionError: a newer program wrote the tables.
        """
        with self._database.reading() as connection:
            revision = schema_revision(connection)
        if revision is None:
            self._create_table()
        self.take()
        if revision != head_revision():
            try:
                with self._database.writing() as connection:
                    migrate(connection)
            except BaseException:
                self.release()
                raise

    def take(self) -> None:
        """Take the lease where the tables are there already.

        Raises:
            LeaseTakenError: another process holds it.
        """
        self._insert_row()
        # Before it stands in the database: another thread would take it for a run of this process that has ended.
        _held_here.add(self.owner)
        try:
            self._take()
        except BaseException:
            _held_here.discard(self.owner)
            raise

    def renew(self) -> None:
        """Hold the lease for as long again.

        Raises:
            LeaseLostError: another process has taken over.
        """
        with self._database.writing() as connection:
            self.guard(connection)

    def guard(self, connection: Connection) -> None:
        """Renew the lease as the first statement of a write transaction, which fences off a stalled writer.

        Raises:
            LeaseLostError: another process has taken over; the transaction must be rolled back.
        """
        mine = (lease.c.name == self._name, lease.c.owner == self.owner, lease.c.token == self._token)
        if connection.execute(update(lease).where(*mine).values(expires_at=self._later)).rowcount != 1:
            raise LeaseLostError(
                "this run stalled for longer than its lease and another run took over; nothing more was written"
            )

    def release(self) -> None:
        """Give the lease back at once; does nothing where it is lost already.

        Where the database does not take that, this process at least knows that nobody holds it any more.
        """
        _held_here.discard(self.owner)
        mine = (lease.c.name == self._name, lease.c.owner == self.owner, lease.c.token == self._token)
        with self._database.writing() as connection:
            connection.execute(update(lease).where(*mine).values(owner=None, expires_at=self._now))

    def _create_table(self) -> None:
        try:
            self._create_missing()
        except DatabaseError:
            # Of two first runs one loses the race between looking and creating; then the table is there.
            self._create_missing()

    def _create_missing(self) -> None:
        with self._database.writing() as connection:
            lease.create(connection, checkfirst=True)

    def _take(self) -> None:
        with self._database.writing() as connection:
            free = or_(lease.c.owner.is_(None), ~_is_in_force(self._database.dialect_name))
            taken = update(lease).where(lease.c.name == self._name, free)
            values = {"owner": self.owner, "token": lease.c.token + 1, "expires_at": self._later}
            is_mine = connection.execute(taken.values(values)).rowcount == 1
            row = connection.execute(select(lease).where(lease.c.name == self._name)).one()
            if not is_mine and _is_dead(row.owner):
                # Whoever was killed on this machine blocks nobody; the token fences it off like any other.
                same = (lease.c.name == self._name, lease.c.owner == row.owner, lease.c.token == row.token)
                is_mine = connection.execute(update(lease).where(*same).values(values)).rowcount == 1
                row = connection.execute(select(lease).where(lease.c.name == self._name)).one()
        if not is_mine:
            raise LeaseTakenError(taken_sentence(Holder(row.owner, row.expires_at)))
        self._token = row.token

    def _insert_row(self) -> None:
        """Insert the row in a transaction of its own: on InnoDB a refused insert leaves a lock that would deadlock."""
        try:
            with self._database.writing() as connection:
                if connection.execute(select(lease.c.name).where(lease.c.name == self._name)).first() is None:
                    connection.execute(insert(lease).values(name=self._name, owner=None, token=0, expires_at=OPEN))
        except DatabaseError as error:
            if not isinstance(error.__cause__, exc.IntegrityError):
                raise  # else another first run inserted it a moment ago


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, and until when unless it is renewed."""

    owner: str
    expires_at: datetime


def _is_in_force(family: str) -> ColumnElement[bool]:
    """Return the condition that a lease's time is not over, nor further ahead than any lease can be.

    The latter was taken while the database's clock was ahead; the token fences its owner off like any other.
    """
    now, later = (literal_column(part.format(2 * LEASE_S), UtcTimestamp) for part in _NOW[family])
    return and_(lease.c.expires_at > now, lease.c.expires_at < later)


def taken_sentence(holder: Holder) -> str:
    """Return what somebody reads who comes second."""
    return (
        f"another run is under way: {holder.owner} holds the lease until "
        f"{holder.expires_at:%Y-%m-%d %H:%M:%S} UTC unless it renews it; nothing was written"
    )


def find_holder(connection: Connection) -> Holder | None:
    """Return who makes a run at the moment; None where nobody does."""
    family = "mysql" if connection.dialect.name in MYSQL_FAMILY else connection.dialect.name
    held = select(lease).where(lease.c.name == RUN, lease.c.owner.is_not(None), _is_in_force(family))
    row = connection.execute(held).one_or_none()
    return Holder(row.owner, row.expires_at) if row and not _is_dead(row.owner) else None


_OWNER = re.compile(r".+ process (\d+) \(([0-9a-f]{8})-[0-9a-f]{8}\)")


def _process_scope() -> str:
    """Return a mark of this boot and process namespace: within it, and only there, a process id says who lives.

    Containers and machines that share a host name have other marks. Without Linux's files there is no such mark.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return _NO_SCOPE
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


_NO_SCOPE = "0" * 8

_held_here: set[str] = set()
"""The owners of the leases that this process holds; another one with its id is a run of it that has ended."""


def _is_dead(owner: str | None) -> bool:
    """Return whether a lease's owner was a process of this machine that is certainly gone."""
    match = _OWNER.fullmatch(owner or "")
    if match is None or match[2] != _process_scope() or match[2] == _NO_SCOPE:
        return False
    if int(match[1]) == os.getpid():
        return owner not in _held_here
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return _is_zombie(int(match[1]))


def _is_zombie(process_id: int) -> bool:
    """Return whether a process is dead and only waits for its parent to take note, as below a careless PID 1."""
    try:
        # The state follows the name, which stands in parentheses and may hold any character.
        return Path(f"/proc/{process_id}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
