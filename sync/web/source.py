"""What a process gives to its HTTP side."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sync.config import Settings
from sync.inventory import Clock, utc_now
from sync.store.database import Database
from sync.web.metrics import Telemetry


@dataclass(frozen=True, slots=True)
class Source:
    """Where pages and metrics come from; the functions are called by several threads."""

    settings: Settings
    database: Database
    telemetry: Telemetry
    is_alive: Callable[[], bool]
    """Whether the daemon's loop lives."""
    next_run_at: Callable[[], datetime | None]
    notifications: Callable[[], Mapping[tuple[str, str], int]]
    """Messages of this process, counted by channel and by ``sent`` or ``failed``."""
    now: Clock = utc_now

    @classmethod
    def of_reader(cls, settings: Settings, database: Database) -> "Source":
        """Return what a process gives that makes no runs itself and tells nobody: it lives while it answers."""
        return cls(settings, database, Telemetry(), lambda: True, lambda: None, dict)
