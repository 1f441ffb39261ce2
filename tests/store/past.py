"""Ten months of real runs with everything that a history can hold: what ``db verify`` and ``db prune`` are tested on.

The fake client answers what ``offers`` and ``listed`` say; each run takes place a month after the one before.
"""

import threading
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sync.accept import accept_removals
from sync.config import Settings
from sync.inventory import Image, Target
from sync.plan import Restriction
from sync.run import RunRequest, run_once
from sync.store.database import Database
from sync.store.history import list_held
from tests.job.fake import FakeClient, Fault, Rows, Script, Ticker, row, rows
from tests.job.journal import Key

MONTH_S = 30 * 24 * 3600
REGIONS = ("aa", "bb")
SETTINGS = Settings.model_validate(
    {
        "regions": REGIONS,
        "workers": 2,
        "base_os_tags": ("tag",),
        "removal_limit_count": 2,
        "removal_limit_percent": 0,
        "removal_accept_after_runs": 0,
    }
)


class Past:
    """A history that grows by runs at times of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = Ticker()
        self.listed = {region: {"t.1", "t.2", "u.1"} for region in REGIONS}
        self.offers: dict[Key, Rows] = {}
        for region in REGIONS:
            for name in ("t.1", "t.2", "u.1"):
                self.offers[region, name, ""] = rows("a", "b", "c")
                self.offers[region, name, "tag"] = rows("a")

    def run(self, failing: Collection[Key] = (), only: Restriction | None = None, after_s: float = MONTH_S) -> datetime:
        """Make a run and return when it began."""
        self.clock.advance(after_s)
        started_at = self.clock()
        images: dict[Key, list[Rows | Fault]] = {key: [offer] for key, offer in self.offers.items()}
        images |= {key: [Fault()] for key in failing}
        client: Any = FakeClient(Script(images, {name: [frozenset(self.listed[name])] for name in REGIONS}), self.clock)
        request = RunRequest("test", only or Restriction(), scheduled_at=started_at)
        run_once(SETTINGS, self.database, client, request, interrupt=threading.Event(), now=self.clock)
        return started_at

    def offer(self, region: str, name: str, images: Rows) -> None:
        """Change what the target without BaseOsTag offers."""
        self.offers[region, name, ""] = images

    def accept(self, instance_type: str) -> None:
        """Accept the held removals of one instance type."""
        self.clock.advance(60)
        with self.database.reading() as connection:
            held: list[tuple[Target, Image | None]] = [entry[:2] for entry in list_held(connection)]
        shown = [entry for entry in held if entry[0].instance_type == instance_type]
        accept_removals(self.database, shown, now=self.clock)


def record_past(database: Database) -> tuple[Past, list[datetime]]:
    """Make all runs of the story; return the past, to be gone on with, and when each run began."""
    past = Past(database)
    began = [past.run()]
    past.offer("aa", "t.1", rows("a", "b", "c", "d"))
    past.offer("aa", "t.2", rows("b", "c") | {row("renamed", "a")})
    began.append(past.run())
    past.offer("aa", "t.1", rows("a", "c", "d"))
    began.append(past.run(failing=[("bb", "t.2", ""), ("aa", "u.1", "tag")]))
    past.listed["aa"].remove("u.1")
    began.append(past.run())
    past.listed["aa"].add("u.1")
    past.offer("aa", "u.1", rows("b", "z"))
    past.offer("bb", "t.2", rows("a", "b", "c", "e"))
    began.append(past.run())
    past.offer("bb", "t.1", rows())
    past.offer("bb", "t.2", rows())
    began.append(past.run(failing=[("bb", "u.1", "")]))
    past.offer("aa", "t.1", rows("a", "c", "d", "f"))
    began.append(past.run(only=Restriction(("aa",), ("t.1",))))
    past.accept("t.1")
    past.listed["aa"].add("v.1")
    past.offer("aa", "v.1", rows("a"))
    began.append(past.run(failing=[("bb", "u.1", ""), ("aa", "v.1", "")]))
    past.listed["bb"].remove("u.1")
    began.append(past.run())
    past.offer("bb", "t.2", rows("a"))
    began.append(past.run())
    return past, began
