"""A station: a simulator, a database and daemons."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.simulator.server import Simulator
from tests.cli.story import baseline
from tests.daemon.process import Station, station_of


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """An endpoint on loopback."""
    with Simulator(baseline()) as started:
        yield started


@pytest.fixture
def station(tmp_path: Path, simulator: Simulator, sqlite_url: str) -> Iterator[Station]:
    """A station with a database in a file."""
    with station_of(tmp_path, simulator, sqlite_url) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgresql"])
def shared_station(request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator) -> Iterator[Station]:
    """A station whose database several daemons share."""
    with station_of(tmp_path, simulator, request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened
