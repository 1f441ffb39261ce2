"""A simulator that serves the first offer, with one instance type that cannot be observed."""

from collections.abc import Iterator

import pytest

from sync.simulator.server import Simulator
from tests.durability.jobs import before, failing


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """An endpoint on loopback."""
    with Simulator(before()) as started:
        started.faults = [failing("ecs.i7.large")]
        yield started
