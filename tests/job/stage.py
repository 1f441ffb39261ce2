"""Runs against the endpoint beside the model: the log of the endpoint becomes the journal of the run."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync.accept import accept_removals
from sync.config import Settings
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from sync.inventory import Image, Target, utc_now
from sync.plan import Restriction
from sync.run import RunRequest, RunResult, run_once
from sync.store.database import Database
from tests.job.endpoint import DENIED, FAULTS, KEY_ID, OUR_CODES, SECRET, ApiRow, Attempt, Endpoint, Plot
from tests.job.journal import Journal, Key, Reply, Row
from tests.job.model import Model
from tests.job.views import differences

MAX_ATTEMPTS = 2
API_FIELDS = ("ImageId", "OsTag", "BaseOsTag", "Platform", "Version", "Architecture", "OSName", "OSNameEn")


def row_of(entry: ApiRow) -> Row:
    """Return an image of the API as the views show it."""
    return tuple(" ".join(str(entry.get(name, "")).split()) for name in API_FIELDS)


@dataclass(slots=True)
class Stage:
    """One database and one endpoint with the model of both."""

    database: Database
    endpoint: Endpoint
    settings: Settings
    model: Model = field(default_factory=Model)

    def run(
        self,
        plot: Plot | None = None,
        only: Restriction | None = None,
        *,
        settings: Settings | None = None,
        is_dry: bool = False,
    ) -> RunResult:
        """Make one run through HTTP and tell it to the model, unless it is dry."""
        self.endpoint.begin(plot or Plot())
        chosen = settings or self.settings
        restriction = only or Restriction()
        began_at = datetime.now(UTC)
        with self._client(chosen) as client:
            request = RunRequest("test", restriction, is_dry)
            result = run_once(chosen, self.database, client, request, interrupt=threading.Event())
        if not is_dry:
            self.model.apply(self._journal(chosen, restriction, began_at))
        return result

    def accept_all(self) -> None:
        """Accept everything that is held, as a person would, and tell the model."""
        began_at = datetime.now(UTC)
        shown = self.model.held()
        accept_removals(self.database, [(Target(*key), Image(*row) if row else None) for key, row in shown])
        self.model.accept(Journal(self.settings, began_at, datetime.now(UTC)), shown)

    def differences(self) -> list[str]:
        """Return how the views differ from the model."""
        return differences(self.model, self.database)

    def _client(self, settings: Settings) -> Client:
        reach = ClientSettings(self.endpoint.url, settings.workers, 10_000, max_attempts=MAX_ATTEMPTS)
        return Client(reach, lambda: Credential(KEY_ID, SECRET), now=utc_now, backoff=BackoffPolicy(0, 0, 0))

    def _journal(self, settings: Settings, only: Restriction, began_at: datetime) -> Journal:
        ended_at = datetime.now(UTC)
        calls: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
        for attempt in self.endpoint.attempts:
            calls[(*attempt.place, attempt.base_os_tag)].append(attempt)
        replies = {key: self._replies_of(attempts, ended_at) for key, attempts in calls.items()}
        regions = replies.pop(("", "", ""), [None])
        images: dict[Key, list[Reply]] = {key: entries for key, entries in replies.items() if key[1]}
        return Journal(
            settings,
            began_at,
            ended_at,
            regions[0],
            {key[0]: entries for key, entries in replies.items() if not key[1]},
            images,
            only.region_ids,
            only.instance_types,
            {name: _denials_in(name, images) for name in self.endpoint.plot.denied_regions},
        )

    def _replies_of(self, attempts: Sequence[Attempt], ended_at: datetime) -> list[Any]:
        """Return how the calls ended that these attempts at one place make: each has two, unless one settles it."""
        replies, failed = [], 0
        for attempt in attempts:
            failed += attempt.content is None
            if attempt.content is not None or attempt.fault == DENIED or failed == MAX_ATTEMPTS:
                replies.append(self._reply_of(attempt, ended_at))
                failed = 0
        return replies

    def _reply_of(self, attempt: Attempt, ended_at: datetime) -> Reply:
        if attempt.content is None:
            code = FAULTS[attempt.fault][1] if attempt.fault in FAULTS else OUR_CODES[attempt.fault]
            request_id = attempt.request_id if attempt.fault in {*FAULTS, "shape"} else ""
            return Reply(attempt.arrived_at, attempt.looked_at, None, code, request_id)
        content: frozenset[Any] = frozenset(
            entry if isinstance(entry, str) else row_of(entry) for entry in attempt.content
        )
        until = self.endpoint.true_until(attempt, ended_at)
        return Reply(attempt.arrived_at, until, content, request_id=attempt.request_id)


def _denials_in(region_id: str, images: Mapping[Key, Sequence[Reply]]) -> list[Reply]:
    return [reply for key, replies in images.items() if key[0] == region_id for reply in replies]
