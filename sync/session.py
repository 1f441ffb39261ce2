"""What a command works with: settings, database, history, client, signals, and the filters of its options.

Everything beyond click is imported when it is needed, so that ``--help`` answers at once.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import datetime
    from threading import Event

    from sync.config import Settings
    from sync.ehpc.credentials import OfficialChain
    from sync.ehpc.fetch import Client
    from sync.store.database import Database
    from sync.store.filters import Filter


def open_settings(*, is_verbose: bool = False) -> "Settings":
    """Return the settings of the file, the environment and the options, and let logs follow them."""
    from sync.config import load_settings
    from sync.logs import configure_logging, hide

    chosen = click.get_current_context().find_root().ensure_object(dict)
    settings = load_settings(chosen.get("config"), chosen.get("overrides", {}))
    hide(*settings.notify_urls, settings.ping_url or "", settings.http_token or "")
    configure_logging(settings.log_format, is_verbose=is_verbose)
    return settings


def open_token(settings: "Settings") -> "Settings":
    """Return the settings with the token that pages ask for, which is kept out of the logs from now on."""
    from sync.config import with_token
    from sync.logs import hide

    settings = with_token(settings)
    hide(settings.http_token or "")
    return settings


@contextmanager
def open_database(settings: "Settings", *, is_read_only: bool = False) -> "Iterator[Database]":
    """Give the configured database, and close it afterwards."""
    from sync.store.database import Database

    database = Database(settings.database_url, is_read_only=is_read_only)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def open_history() -> Iterator[tuple["Settings", Any]]:
    """Give the settings and a connection to a history that can be read."""
    from sync.store.database import require_history

    settings = open_settings()
    with open_database(settings) as database:
        require_history(database)
        with database.reading() as connection:
            yield settings, connection


@contextmanager
def open_client(settings: "Settings", chain: "OfficialChain | None" = None) -> "Iterator[Client]":
    """Give a client with the credentials of the official chain, which must be there.

    Who opens many clients passes one chain for all: each starts a thread that lives as long as the process.
    """
    from sync.ehpc.credentials import Credential, official_chain
    from sync.ehpc.fetch import Client, ClientSettings
    from sync.inventory import utc_now
    from sync.logs import hide

    source = chain or official_chain()

    class _Hidden:
        """The chain, with every secret it gives kept out of the logs."""

        def __call__(self) -> Credential:
            credential = source()
            hide(credential.access_key_secret, credential.security_token)
            return credential

        def refresh(self) -> None:
            source.refresh()

    names = ("endpoint", "workers", "calls_per_second", "connect_timeout_s", "read_timeout_s", "max_attempts")
    with Client(ClientSettings(**{name: getattr(settings, name) for name in names}), _Hidden(), now=utc_now) as client:
        _Hidden()()
        yield client


@contextmanager
def note_interrupts() -> "Iterator[Event]":
    """Give an event that the first SIGINT or SIGTERM sets; the second one ends the program at once."""
    import threading

    event = threading.Event()
    earlier: dict[int, Any] = {}

    def note(_: int, __: object) -> None:
        event.set()
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        earlier[number] = signal.signal(number, note)
    try:
        yield event
    finally:
        restore()


def filter_of(connection: Any, **names: Sequence[str]) -> "Filter":
    """Return the filter of the options; a name that the history does not know is an error with the nearest ones."""
    from sync import asking

    return asking.filter_of(connection, **names, spelled=lambda name: f"--{name.replace('_', '-')}")


def moment_of(text: str, settings: "Settings") -> "datetime":
    """Return the time that an option means; one in the future is an error."""
    from sync.asking import past_moment
    from sync.inventory import utc_now

    return past_moment(text, utc_now(), settings.zone)
