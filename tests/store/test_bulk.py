"""Rows at the speed of the driver: every value as it is, and a refused row as an error of the database."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from sync.errors import DatabaseError
from sync.inventory import OPEN
from sync.store.bulk import COPY_ROWS, Plain, insert_open_intervals, insert_rows
from sync.store.database import Database
from sync.store.schema import availability, open_alert, region_run, run
from sync.store.types import to_text
from tests.store.builders import NOON, Writer, contents_of
from tests.store.test_exactness import MOMENTS, TWINS

Rows = list[tuple[Plain, ...]]


def test_texts_and_times_arrive_as_they_are(database: Database, writer: Writer) -> None:
    rows: Rows = [("mail", str(number), twin, to_text(NOON)) for number, twin in enumerate(TWINS)]
    rows += [("time", str(number), "", to_text(moment)) for number, moment in enumerate(MOMENTS)]
    with database.writing() as connection:
        insert_rows(connection, open_alert, rows)
    sent = [("mail", str(number), twin, NOON) for number, twin in enumerate(TWINS)]
    sent += [("time", str(number), "", moment) for number, moment in enumerate(MOMENTS)]
    assert contents_of(database)["open_alert"] == sorted(sent, key=repr)


def test_numbers_truth_and_nothing_arrive_as_they_are(database: Database, writer: Writer) -> None:
    counts = (1, 2, 3, 4, 5, 2**31 - 1)
    with database.writing() as connection:
        insert_rows(connection, run, [(7, to_text(NOON), None, "ok", "test", *counts, None, None)])
        for region_id, is_complete in (("a", True), ("b", False)):
            row = (7, region_id, to_text(NOON), None, "ok", is_complete, None, *counts, None)
            insert_rows(connection, region_run, [row])
    contents = contents_of(database)
    assert contents["region_run"] == [
        (7, region_id, NOON, None, "ok", is_complete, None, *counts, None)
        for region_id, is_complete in (("a", True), ("b", False))
    ]
    assert (7, NOON, None, "ok", "test", *counts, None, None) in contents["run"]


def test_rows_of_many_megabytes_arrive(database: Database, writer: Writer) -> None:
    subject = "\N{GRINNING FACE}" * 1000
    rows: Rows = [("mail", f"{number:05}", subject, to_text(NOON)) for number in range(5_000)]
    with database.writing() as connection:
        insert_rows(connection, open_alert, rows)
    with database.reading() as connection:
        found = connection.execute(sa.select(open_alert.c.incident, open_alert.c.subject)).all()
    assert sorted(map(tuple, found)) == [(row[1], subject) for row in rows]


def test_no_rows_are_nothing_to_do(database: Database, writer: Writer) -> None:
    with database.writing() as connection:
        insert_rows(connection, open_alert, [])
    assert contents_of(database)["open_alert"] == []


def test_a_refused_row_is_an_error_of_the_database(database: Database, writer: Writer) -> None:
    rows: Rows = [("mail", "twice", "", to_text(NOON))] * 2
    with pytest.raises(DatabaseError, match=r"(?i)unique|duplicate"), database.writing() as connection:
        insert_rows(connection, open_alert, rows)
    assert contents_of(database)["open_alert"] == []


def test_a_refused_interval_among_very_many_is_an_error_of_the_database(database: Database, writer: Writer) -> None:
    with pytest.raises(DatabaseError, match=r"(?i)foreign key"), database.writing() as connection:
        insert_open_intervals(connection, [(1, NOON + timedelta(hours=1), range(COPY_ROWS + 1))])
    with database.reading() as connection:
        assert connection.execute(sa.select(availability).where(availability.c.valid_to == OPEN)).all() == []
