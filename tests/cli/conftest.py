"""The program, a simulator that it is configured for, and a history that it can be asked about."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.simulator.server import Simulator
from tests.cli.program import Program
from tests.cli.story import baseline, file_of, record_story


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


@pytest.fixture(scope="session")
def story_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recorded story; tests that write take a copy."""
    url = f"sqlite:///{tmp_path_factory.mktemp('story') / 'history.db'}"
    record_story(url)
    return url


@pytest.fixture
def reader(program: Program, story_url: str, tmp_path: Path) -> Program:
    """The program with a copy of the recorded story as its history."""
    shutil.copy(file_of(story_url), tmp_path / "history.db")
    program.configure(database_url="sqlite:///history.db")
    return program
