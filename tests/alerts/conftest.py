"""A receiver of messages for each test."""

from collections.abc import Iterator

import pytest

from tests.alerts.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A web address that takes messages and signals."""
    with receiving() as started:
        yield started
