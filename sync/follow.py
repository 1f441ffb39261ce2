"""Watching the changes as they are recorded: a cursor over their ids, and a database that may be away for a while."""

import logging
from collections.abc import Iterator
from threading import Event

from sync.backoff import Backoff
from sync.errors import DatabaseError
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import Row, stream_changes

logger = logging.getLogger(__name__)

POLL_S = 2  # a run takes seconds to minutes, and asking for ids after the last one is one look into an index
LONGEST_WAIT_S = 60  # between two attempts while the database is away


def follow_changes(
    database: Database, wanted: Filter, after_id: int, stop: Event, *, poll_s: float = POLL_S
) -> Iterator[list[Row]]:
    """Yield the changes recorded after one, in the order of writing, as they come; ends when ``stop`` is set.

    A database that is away is waited for; nothing is missed and nothing comes twice.
    """
    waits = Backoff(poll_s, LONGEST_WAIT_S)
    wait_s = 0.0
    while not stop.wait(wait_s):
        try:
            for rows in stream_changes(database, wanted, after_id=after_id):
                after_id = rows[-1]["change_id"]
                yield rows
                if stop.is_set():
                    return
        except DatabaseError as error:
            if not waits.failures:
                logger.warning("%s; waiting for it", error)
            wait_s = waits.next_s()
            continue
        waits.reset()
        wait_s = poll_s
