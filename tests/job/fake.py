"""A client that answers from a script without HTTP, and the bench that makes runs with it beside the model."""

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sync.config import Settings
from sync.ehpc.fetch import Answer
from sync.errors import CallError, ConfigError
from sync.inventory import Image, Target
from sync.plan import Restriction
from sync.run import RunRequest, RunResult, run_once
from sync.store.database import Database
from tests.job.journal import Journal, Key, Reply, Row
from tests.job.model import Model
from tests.job.views import differences

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BETWEEN_RUNS_S = 60

Rows = frozenset[Row]
Names = frozenset[str]


class Ticker:
    """A clock that shows another millisecond each time it is looked at."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def __call__(self) -> datetime:
        """Return the next millisecond."""
        return BEGIN + timedelta(milliseconds=next(self._ticks))

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ticks = itertools.count(next(self._ticks) + int(seconds * 1000))


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that ends without a readable answer."""

    code: str = "ServiceUnavailable"


@dataclass(frozen=True, slots=True)
class Script:
    """What each call of one run gets; the last entry of a list is repeated, and what has no list is empty."""

    images: Mapping[Key, Sequence[Rows | Fault]] = field(default_factory=dict)
    listings: Mapping[str, Sequence[Names | Fault]] = field(default_factory=dict)
    regions: Names | Fault = frozenset()


class FakeClient:
    """Has the interface of ``sync.ehpc.fetch.Client`` and notes every call."""

    def __init__(self, script: Script, clock: Ticker) -> None:
        self._script = script
        self._clock = clock
        self._lock = threading.Lock()
        self.images: dict[Key, list[Reply]] = {}
        self.listings: dict[str, list[Reply]] = {}
        self.region_list: Reply | None = None

    def fetch_images(self, target: Target) -> Answer[frozenset[Image]]:
        """Play the target's next answer."""
        key = (target.region_id, target.instance_type, target.base_os_tag)
        reply = self._next(self._script.images.get(key, [frozenset()]), self.images.setdefault(key, []))
        return Answer(frozenset(Image(*row) for row in reply.rows), reply.request_id, reply.true_until)

    def fetch_instance_types(self, region_id: str) -> Answer[tuple[str, ...]]:
        """Play the region's next listing."""
        reply = self._next(self._script.listings.get(region_id, [frozenset()]), self.listings.setdefault(region_id, []))
        return Answer(tuple(sorted(reply.names)), reply.request_id, reply.true_until)

    def fetch_regions(self) -> Answer[tuple[str, ...]]:
        """Play the list of regions."""
        log: list[Reply] = []
        try:
            reply = self._next([self._script.regions], log)
        finally:
            self.region_list = log[0]
        return Answer(tuple(sorted(reply.names)), reply.request_id, reply.true_until)

    def stop(self) -> None:
        """Do nothing: no call takes time."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _next(self, entries: Sequence[Rows | Names | Fault], log: list[Reply]) -> Reply:
        with self._lock:
            entry = entries[min(len(log), len(entries) - 1)]
            asked_at, ended_at = self._clock(), self._clock()
            request_id = f"request-{ended_at:%j-%H%M%S%f}"
            code = entry.code if isinstance(entry, Fault) else ""
            content = None if isinstance(entry, Fault) else entry
            log.append(Reply(asked_at, ended_at, content, code, request_id))
        if code:
            raise CallError(code, "scripted", request_id=request_id)
        return log[-1]


@dataclass(slots=True)
class Bench:
    """One database with the model of it; every run is made by the product and told to the model."""

    database: Database
    clock: Ticker = field(default_factory=Ticker)
    model: Model = field(default_factory=Model)
    client: FakeClient | None = None

    def run(
        self, settings: Settings, script: Script, only: Restriction | None = None, *, is_dry: bool = False
    ) -> RunResult | None:
        """Make one run and return its result; None when it found the configuration unusable."""
        self.clock.advance(BETWEEN_RUNS_S)
        restriction = only or Restriction()
        began_at = self.clock()
        self.client = FakeClient(script, self.clock)
        result = self._result(settings, restriction, is_dry=is_dry)
        if is_dry:
            return result
        journal = Journal(
            settings,
            began_at,
            self.clock(),
            self.client.region_list,
            self.client.listings,
            self.client.images,
            restriction.region_ids,
            restriction.instance_types,
        )
        if result is None:
            self.model.skip(journal)
        else:
            self.model.apply(journal)
        return result

    def accept(self, began_at: datetime, shown: Sequence[tuple[Key, Row | None]]) -> None:
        """Tell the model which held removals a person has accepted since ``began_at``."""
        self.model.accept(Journal(Settings(), began_at, self.clock()), shown)

    def _result(self, settings: Settings, restriction: Restriction, *, is_dry: bool) -> RunResult | None:
        client: Any = self.client
        request = RunRequest("test", restriction, is_dry)
        try:
            return run_once(settings, self.database, client, request, interrupt=threading.Event(), now=self.clock)
        except ConfigError:
            return None

    def differences(self) -> list[str]:
        """Return how the views differ from the model."""
        return differences(self.model, self.database)


def row(name: str, image_id: str | None = None) -> Row:
    """Return an image whose fields all derive from ``name``; several may share an ImageId."""
    return (name if image_id is None else image_id, f"tag-{name}", "CentOS", "CentOS", "7.6", "x86_64", name, name)


def rows(*names: str) -> Rows:
    """Return a set of images by their names."""
    return frozenset(row(name) for name in names)
