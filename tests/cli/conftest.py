"""The program, a simulator that it is configured for, and a history that it can be asked about."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.simulator.server import Simulator
from tests.cli.program import Program
from tests.cli.story import baseline, file_of, record_story
from tests.conftest import Shelf


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an empty folder, without configuration, with the credentials that a simulator takes."""
    return Program(monkeypatch, tmp_path)


@pytest.fixture
def simulator(program: Program) -> Iterator[Simulator]:
    """An endpoint on loopback that the program is configured for, with all regions; waits are as short as can be."""
    with Simulator(baseline()) as started:
        program.configure(
            endpoint=started.url,
            regions="cn-beijing,cn-hangzhou",
            calls_per_second=10_000,
            workers=2,
            max_attempts=1,
            database_url="sqlite:///history.db",
        )
        yield started


@pytest.fixture
def story_url(shelf: Shelf) -> str:
    """The recorded story in a file that all tests share; those that write take a copy."""
    return shelf.url_of("sqlite", record_story)


@pytest.fixture
def reader(program: Program, story_url: str, tmp_path: Path) -> Program:
    """The program with a copy of the recorded story as its history."""
    shutil.copy(file_of(story_url), tmp_path / "history.db")
    program.configure(database_url="sqlite:///history.db")
    return program
