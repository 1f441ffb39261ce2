"""A receiver of messages, and a history that grows while it listens."""

from collections.abc import Iterator

import pytest

from tests.alerts.receiver import Receiver, receiving
from tests.alerts.scene import Scene, playing


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web address that takes messages and signals."""
    with receiving() as started:
        yield started


@pytest.fixture
def scene(database_url: str, receiver: Receiver) -> Iterator[Scene]:
    """A history of one run, on every database."""
    with playing(database_url, receiver) as played:
        yield played


@pytest.fixture
def one_scene(sqlite_url: str, receiver: Receiver) -> Iterator[Scene]:
    """A history of one run, where the database makes no difference."""
    with playing(sqlite_url, receiver) as played:
        yield played
