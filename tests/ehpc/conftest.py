"""A scripted server and clients that do not wait."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest

from sync.ehpc.credentials import Credential, CredentialSource
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from tests.ehpc.server import ScriptedServer

CANARY = "canary-secret-3f9a"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

NO_WAITS = BackoffPolicy(0, 0, 0)

NewClient = Callable[..., Client]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def new_client(server: ScriptedServer) -> Iterator[NewClient]:
    """Make clients of the server with no back-off; settings by keyword, also ``credentials`` and ``backoff``."""
    with ExitStack() as stack:

        def make(
            credentials: CredentialSource = lambda: Credential("id", CANARY),
            backoff: BackoffPolicy = NO_WAITS,
            **settings: Any,
        ) -> Client:
            defaults: dict[str, Any] = {"endpoint": server.url, "calls_per_second": 10_000, "read_timeout_s": 5}
            client = Client(ClientSettings(**(defaults | settings)), credentials, now=lambda: NOW, backoff=backoff)
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(new_client: NewClient) -> Client:
    return new_client()
