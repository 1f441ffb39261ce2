"""``changes --follow``: what is recorded is shown once, in order, as it comes."""

import json
import logging
import shutil
import signal
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from sync.errors import DatabaseError
from sync.follow import follow_changes
from sync.inventory import Image
from sync.store.database import Database
from sync.store.filters import Filter
from tests.cli.program import ended_by, environment_of, started_process
from tests.cli.story import file_of
from tests.store.builders import Writer, a_target, an_image, at, closing, execute, observed, writer_of

FIRST, SECOND = an_image("m-1"), an_image("m-2")
NOTHING = Filter()


def lose(writer: Writer, image: Image, minute: float, *, stored: list[Image]) -> None:
    """Record one removal."""
    writer.write(closing(a_target(), [image], at(minute), stored=stored))


def test_changes_come_once_as_they_are_recorded(database: Database) -> None:
    stop = threading.Event()
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [FIRST, SECOND]))
        followed = follow_changes(database, NOTHING, 0, stop, poll_s=0.01)
        lose(writer, FIRST, 1, stored=[FIRST, SECOND])
        assert [row["image_id"] for row in next(followed)] == ["m-1"]
        lose(writer, SECOND, 2, stored=[SECOND])
        assert [row["image_id"] for row in next(followed)] == ["m-2"]
        stop.set()
    assert list(followed) == []


def test_it_ends_after_the_page_at_hand_when_it_is_told_to(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.store.history.PAGE_CHANGES", 1)
    stop = threading.Event()
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [FIRST, SECOND]))
        lose(writer, FIRST, 1, stored=[FIRST, SECOND])
        lose(writer, SECOND, 2, stored=[SECOND])
    followed = follow_changes(database, NOTHING, 0, stop, poll_s=0.01)
    assert [row["image_id"] for row in next(followed)] == ["m-1"]
    stop.set()
    assert list(followed) == []


def test_every_outage_is_told_once(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns = iter([0, 0, 1, 0, 2])  # the change that comes, or none: the database is away

    def answer(*_: object, **__: object) -> list[list[dict[str, int]]]:
        turn = next(turns)
        if not turn:
            raise DatabaseError("the database does not answer")
        return [[{"change_id": turn}]]

    monkeypatch.setattr("sync.follow.stream_changes", answer)
    followed = follow_changes(database, NOTHING, 0, threading.Event(), poll_s=0.01)
    with caplog.at_level(logging.WARNING):
        assert [next(followed), next(followed)] == [[{"change_id": 1}], [{"change_id": 2}]]
    assert len(caplog.records) == 2


def test_a_filter_shows_only_its_changes(database: Database) -> None:
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [FIRST, SECOND]))
        lose(writer, FIRST, 1, stored=[FIRST, SECOND])
        lose(writer, SECOND, 2, stored=[SECOND])
        followed = follow_changes(database, Filter(images=("m-2",)), 0, threading.Event(), poll_s=0.01)
        assert [row["image_id"] for row in next(followed)] == ["m-2"]


def test_a_database_that_is_away_is_waited_for(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(sqlite_url)
    with writer_of(database) as writer:
        writer.write(observed(a_target(), [FIRST]))
        lose(writer, FIRST, 1, stored=[FIRST])
    with database.reading() as connection:
        view = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'image_changes'")).scalar_one()
    execute(database, "DROP VIEW image_changes")
    comes_back = threading.Timer(0.2, lambda: execute(database, view))
    comes_back.start()
    with caplog.at_level(logging.WARNING):
        rows = next(follow_changes(database, NOTHING, 0, threading.Event(), poll_s=0.01))
    comes_back.join()
    assert [row["image_id"] for row in rows] == ["m-1"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    database.close()


def test_the_command_begins_with_since_and_ends_well_on_ctrl_c(story_url: str, tmp_path: Path) -> None:
    shutil.copy(file_of(story_url), tmp_path / "history.db")
    environment = environment_of(tmp_path, EHPC_SYNC_DATABASE_URL="sqlite:///history.db")
    asked = ("changes", "--follow", "--since", "2024-03-01T14:00Z", "--kind", "removed")
    with started_process(environment, *asked, folder=tmp_path) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        ended = ended_by(process, signal.SIGINT)
    assert [row["instance_type"] for row in seen] == ["ecs.c7.large", "ecs.c7.xlarge"]
    assert (ended.code, ended.out, ended.err) == (0, "", "")
