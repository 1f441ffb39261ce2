"""Telling the channels what they do not know yet: changes after their cursor, incidents that began or ended.

What a channel knows stands in the database and is written after it took a message: a message may come twice when a
process dies in between, and none is lost. The lease of telling lets one process at a time tell.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from sqlalchemy import Connection

from sync.backoff import Backoff
from sync.config import Settings
from sync.errors import LeaseTakenError
from sync.health import Incident, find_health
from sync.inventory import Clock, utc_now
from sync.notify.channels import Channel, ChannelError, open_channels
from sync.notify.message import Message, Templates, Trouble
from sync.render import Row, told_lines
from sync.store.alerts import TellingBook, Told, find_first_cursor, find_told, list_untold_changes
from sync.store.database import Database, head_revision, schema_revision
from sync.store.history import find_last_change_id
from sync.store.lease import TELL, Lease

logger = logging.getLogger(__name__)

LINES_TOLD = 25  # lines of changes in one message: what people read, and what services with short messages take

RUNS_TOLD_APART = 5  # a channel that was broken for longer hears of all those runs in one message

CHANGES_AT_ONCE = 50_000  # rows that are read for one telling, some tens of MiB; the rest follows with the next one

BROKEN_FIRST_S = 30  # until a channel that failed is tried again outside of a run, doubling; one that hangs costs
BROKEN_LONGEST_S = 900  # its whole timeout each time

LEASE_POLL_S = 0.5  # how often a process asks whether another one has finished telling


Outcomes = Counter[tuple[str, str]]
"""Messages by channel and by ``sent`` or ``failed``."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to send, and what its channel knows once it has taken it."""

    message: Message
    change_id: int
    begun: Mapping[str, str] = field(default_factory=dict)
    ended: Sequence[str] = ()


@dataclass(slots=True)
class _Broken:
    """A channel that failed, and when to try it again."""

    backoff: Backoff = field(default_factory=lambda: Backoff(BROKEN_FIRST_S, BROKEN_LONGEST_S))
    not_before_s: float = 0

    def fail(self) -> None:
        self.not_before_s = time.monotonic() + self.backoff.next_s()


class Teller:
    """Tells the configured channels; one that fails is told again later and stops nothing else.

    Attributes:
        channels: in the order of the configuration.
        outcomes: the messages of this process.
    """

    def __init__(
        self, settings: Settings, database: Database, *, outcomes: Outcomes | None = None, now: Clock = utc_now
    ) -> None:
        """Read channels and templates; nothing is sent. ``outcomes`` go on counting where another teller stopped.

        Raises:
            ConfigError: Apprise does not know one of the URLs, or a template cannot be used.
        """
        self._settings = settings
        self._database = database
        self._now = now
        self.channels = open_channels(settings.notify_urls)
        self.outcomes: Outcomes = Counter() if outcomes is None else outcomes
        is_told = bool(self.channels or settings.notify_template_dir)
        self._templates = Templates(settings.notify_template_dir) if is_told else None
        self._broken: dict[str, _Broken] = {}

    def tell(self, *, wait_s: float = 0, is_patient: bool = False) -> bool:
        """Tell every channel what it does not know; return whether all of them know everything now.

        ``wait_s`` is how long to wait for another process that is telling; it tells what is new to it by then. With
        ``is_patient`` a channel that failed is left alone for a while, longer each time.

        Raises:
            DatabaseError: what is to be told could not be read, or that it was told could not be written.
        """
        deadline = time.monotonic() + wait_s
        channels = [channel for channel in self.channels if not is_patient or self._is_hopeful(channel)]
        while self._is_anything_untold(channels):
            lease = Lease(self._database, TELL)
            try:
                lease.take()
            except LeaseTakenError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(LEASE_POLL_S)
                continue
            try:
                return self._tell_all(lease, channels)
            finally:
                lease.release()
        return not self._broken

    def tell_directly(self, message: Message) -> None:
        """Send a message that no database stands behind; a channel that fails does not hear of it."""
        for channel in self.channels:
            self._is_taken(channel, message)

    def _is_hopeful(self, channel: Channel) -> bool:
        broken = self._broken.get(channel.name)
        return broken is None or time.monotonic() >= broken.not_before_s

    def _is_anything_untold(self, channels: Sequence[Channel]) -> bool:
        if not self.channels or self._database.is_missing_file:
            return False
        # Read even where no channel is to be told at the moment: a database that is away must not look like no news.
        with self._database.reading() as connection:
            if schema_revision(connection) != head_revision():
                return False  # before the first run, or the first one of this version
            told = find_told(connection)
            latest = find_last_change_id(connection)
            going_on = {incident.key for incident in self._incidents(connection)}
        known = [told.get(channel.name) for channel in channels]
        return any(entry is None or entry.change_id < latest or entry.incidents.keys() != going_on for entry in known)

    def _incidents(self, connection: Connection) -> tuple[Incident, ...]:
        return find_health(connection, self._settings, self._now()).incidents()

    def _tell_all(self, lease: Lease, channels: Sequence[Channel]) -> bool:
        book = TellingBook(self._database, lease)
        for channel in channels:
            lease.renew()
            while self._tell_channel(channel, book):
                pass
        return not self._broken

    def _tell_channel(self, channel: Channel, book: TellingBook) -> bool:
        """Tell one channel; return whether there is more to tell than was read at once."""
        with self._database.reading() as connection:
            told = find_told(connection).get(channel.name)
            first = find_first_cursor(connection)
        if told is None:
            told = Told(first)
            book.open_channel(channel.name, first)
        with self._database.reading() as connection:
            changes = list_untold_changes(connection, told.change_id, CHANGES_AT_ONCE)
            incidents = self._incidents(connection)
        for piece in pieces_of(told, changes, incidents):
            if not self._is_taken(channel, piece.message):
                return False
            book.note_told(channel.name, self._now(), change_id=piece.change_id, begun=piece.begun, ended=piece.ended)
        return len(changes) == CHANGES_AT_ONCE

    def _is_taken(self, channel: Channel, message: Message) -> bool:
        if self._templates is None:
            return False
        try:
            channel.send(self._templates.text_of(message))
        except ChannelError as error:
            self.outcomes[channel.name, "failed"] += 1
            if channel.name not in self._broken:
                logger.warning("%s; it will be told again until it does", error)
            self._broken.setdefault(channel.name, _Broken()).fail()
            return False
        self.outcomes[channel.name, "sent"] += 1
        if self._broken.pop(channel.name, None):
            logger.warning("%s takes messages again", channel.name)
        return True


def pieces_of(told: Told, changes: Sequence[Row], incidents: Sequence[Incident]) -> list[Piece]:
    """Return the messages that a channel lacks, in order: one per run that changed something, the last with incidents.

    Incidents that a channel believes to go on and that do not are over.
    """
    runs = [list(rows) for _, rows in groupby(changes, key=lambda row: row["run_id"])]
    if len(runs) > RUNS_TOLD_APART:
        runs = [list(changes)]
    pieces = [_piece_of(rows) for rows in runs]
    begun = [incident for incident in incidents if incident.key not in told.incidents]
    going_on = {incident.key for incident in incidents}
    ended = sorted(key for key in told.incidents if key not in going_on)
    if not begun and not ended:
        return pieces
    last = pieces.pop() if pieces else Piece(Message(), told.change_id)
    message = replace(
        last.message,
        troubles=tuple(Trouble(incident.subject, incident.lines) for incident in begun),
        recoveries=tuple(told.incidents[key] for key in ended),
    )
    return [*pieces, Piece(message, last.change_id, {entry.key: entry.subject for entry in begun}, ended)]


def _piece_of(rows: Sequence[Row]) -> Piece:
    lines = told_lines(rows)
    first, last = rows[0]["run_id"], rows[-1]["run_id"]
    message = Message(
        changes=tuple(lines[:LINES_TOLD]),
        hidden_count=max(0, len(lines) - LINES_TOLD),
        runs=str(first) if first == last else f"{first}-{last}",
    )
    return Piece(message, rows[-1]["change_id"])
