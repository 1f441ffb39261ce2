"""A bench of one region with two instance types, for tests that each need a few short runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sync.config import Settings
from sync.plan import Restriction
from sync.run import RunResult
from sync.store.database import Database
from tests.job.fake import Bench, Fault, Names, Rows, Script, row, rows
from tests.job.journal import Key, Row
from tests.job.views import FIELDS, read_view

A: Key = ("r", "t.1", "")
B: Key = ("r", "t.2", "")
MANY = frozenset(row(f"m{number}") for number in range(30))
KEPT = frozenset(row(f"k{number}") for number in range(10))

Answers = Sequence[Rows | Fault]


class Judge:
    """Makes runs of one region whose types are t.1 and t.2, and reads the views; t.2 offers one image throughout."""

    def __init__(self, database: Database) -> None:
        self.bench = Bench(database)
        self.values: dict[str, Any] = {"regions": ("r",), "workers": 2}
        self.listings: Sequence[Names | Fault] = [frozenset({"t.1", "t.2"})]
        self.tag_answers: Answers = [frozenset()]

    def run(self, *answers: Rows | Fault, only: Restriction | None = None, is_dry: bool = False) -> RunResult:
        """Make one run in which the calls for t.1 get these answers, the last one again and again."""
        images = {A: answers, B: [rows("other")], ("r", "t.1", "tag"): self.tag_answers}
        script = Script(images, {"r": self.listings})
        result = self.bench.run(Settings.model_validate(self.values), script, only, is_dry=is_dry)
        assert result is not None
        found = self.bench.differences()
        assert not found, "\n".join(found)
        return result

    def announce(self, *listings: str | Fault) -> None:
        """Let the calls of discovery get these types, written with blanks between them."""
        self.listings = [frozenset(entry.split()) if isinstance(entry, str) else entry for entry in listings]

    def now(self, key: Key = A) -> dict[Row, datetime | None]:
        """Return the available images of a target with their missing_since."""
        found = self.view("available_images", key)
        return {tuple(entry[name] for name in FIELDS): entry["missing_since"] for entry in found}

    def offered(self, key: Key = A) -> Rows:
        """Return the available images of a target."""
        return frozenset(self.now(key))

    def view(self, name: str, key: Key = A) -> list[Any]:
        """Return the rows of a view that concern a target."""
        records = read_view(self.bench.database, name)
        return [
            entry
            for entry in records
            if (entry["region_id"], entry["instance_type"], entry["base_os_tag_filter"]) == key
        ]

    def kinds(self, key: Key = A) -> list[str]:
        """Return the kinds of the recorded changes of a target, in the order of the feed."""
        return [entry["kind"] for entry in sorted(self.view("image_changes", key), key=lambda row: row["change_id"])]

    def asked_at(self, key: Key = A) -> list[datetime]:
        """Return when the calls of the last run for a target were answered."""
        assert self.bench.client is not None
        return [reply.true_until for reply in self.bench.client.images[key]]


FAULT = Fault()
