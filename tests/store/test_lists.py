"""Lists of changes and of images: the same rows however many pages they come in and whatever else one asks."""

from datetime import timedelta

import pytest

from sync.store import history
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import find_id_before, find_last_change_id, list_changes, stream_changes
from sync.store.snapshot import list_images_at
from tests.store.past import record_past

FILTERS = (
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
        pages = list(stream_changes(connection, Filter()))
        in_pages = [list_changes(connection, wanted, since=since, until=until) for wanted in FILTERS]
        later = list_changes(connection, Filter(), after_id=whole[-3]["change_id"])
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
        assert list(stream_changes(connection, Filter(), after_id=last)) == []
        assert list(stream_changes(connection, Filter(), until=began[0])) == []
        assert find_id_before(connection, began[0]) == 0


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
    assert judged > 100
