"""Lists of changes and of images: the same rows however many pages they come in and whatever else one asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, event

from sync.store import history
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import find_id_before, find_last_change_id, list_changes, stream_changes
from sync.store.schema import change
from sync.store.sets import find_sets
from sync.store.snapshot import list_images_at
from tests.store.past import record_past

FILTERS = (
    Filter(images=("*",), instance_types=("t.*",)),
    Filter(),
    Filter(region_ids=("aa",)),
    Filter(kinds=("removed", "type_retired")),
    Filter(instance_types=("t.1",)),
    Filter(images=("a",)),
)


def test_changes_are_the_same_in_pages_of_any_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    _, began = record_past(database)
    since, until = began[3], began[8]
    with database.reading() as connection:
        whole = list_changes(connection, Filter())
        in_one = [list_changes(connection, wanted, since=since, until=until) for wanted in FILTERS]
        monkeypatch.setattr(history, "PAGE_CHANGES", 2)
        in_pages = [list_changes(connection, wanted, since=since, until=until) for wanted in FILTERS]
        later = list_changes(connection, Filter(), after_id=whole[-3]["change_id"])
    pages = list(stream_changes(database, Filter()))
    assert [row for page in pages for row in page] == whole
    assert {len(page) for page in pages} <= {1, 2}
    assert len(pages) > 3
    assert all(in_one)
    assert in_pages == in_one
    assert later == whole[-2:]


def test_there_are_no_pages_where_there_are_no_changes(database: Database) -> None:
    _, began = record_past(database)
    with database.reading() as connection:
        last = find_last_change_id(connection)
        assert find_id_before(connection, began[0]) == 0
    assert list(stream_changes(database, Filter(), after_id=last)) == []
    assert list(stream_changes(database, Filter(), until=began[0])) == []


def test_whoever_takes_changes_slowly_keeps_no_transaction_open(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_past(database)
    monkeypatch.setattr(history, "PAGE_CHANGES", 2)
    opened: list[Connection] = []

    @contextmanager
    def counted() -> Iterator[Connection]:
        with reading() as connection:
            opened.append(connection)
            yield connection
            opened.remove(connection)

    reading = database.reading
    monkeypatch.setattr(database, "reading", counted)
    assert [list(opened) for _ in stream_changes(database, Filter())] == [[]] * len(
        list(stream_changes(database, Filter()))
    )


def test_pages_that_hold_nothing_are_not_asked_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    _, began = record_past(database)
    monkeypatch.setattr(history, "PAGE_CHANGES", 2)
    with database.writing() as connection:
        connection.execute(sa.update(change).values(id=change.c.id + 1_000_000))
    asked: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    day = timedelta(days=1)
    rows = [
        row for page in stream_changes(database, Filter(), since=began[0] - day, until=began[1] + day) for row in page
    ]
    assert rows
    assert len([statement for statement in asked if "image_changes" in statement]) <= len(rows)


def test_when_an_image_was_observed_does_not_depend_on_the_images_one_asks_for(database: Database) -> None:
    _, began = record_past(database)
    judged = 0
    with database.reading() as connection:
        for moment in (begin + timedelta(days=day) for begin in began for day in (1, 29)):
            rows = list_images_at(connection, moment, Filter())
            for name in ("a", "b", "f"):
                expected = [row for row in rows if row["image_id"] == name]
                asked = list_images_at(connection, moment, Filter(images=(name,)))
                assert [row for row in asked if row["image_id"]] == expected, (moment, name)
                judged += len(expected)
                with_images = find_sets(connection, moment, Filter(images=(name,)))
                of_all = {entry.target: entry.coverage for entry in find_sets(connection, moment, Filter())}
                assert {entry.target: entry.coverage for entry in with_images} == of_all, (moment, name)
    assert judged > 100
