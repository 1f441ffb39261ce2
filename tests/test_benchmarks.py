"""The history that the benchmarks ask about is a sound one, at a small scale."""

from itertools import groupby, pairwise

import pytest
from sqlalchemy import func, select

from benchmarks.history import load
from benchmarks.invention import History, Scale
from sync.inventory import OPEN
from sync.store.database import Database
from sync.store.schema import availability, change, held_removal, run, target, views
from sync.store.verify import violations
from tests.store.builders import contents_of, unsound_targets

SCALE = Scale(regions=2, types=40, images=4, intervals=20, days=60, hours_between_runs=12)


@pytest.fixture
def loaded(database: Database) -> Database:
    """The small history, with all of its changes, on each database."""
    load(database, History(SCALE), SCALE.days, lambda _: None)
    return database


def test_the_invented_history_is_sound(loaded: Database) -> None:
    assert violations(loaded) == []
    assert unsound_targets(loaded) == []


def test_intervals_of_an_image_do_not_overlap(loaded: Database) -> None:
    columns = availability.c
    with loaded.reading() as connection:
        query = select(availability).order_by(columns.target_id, columns.image_key, columns.valid_from)
        rows = connection.execute(query).all()
    for _, spans in groupby(rows, key=lambda row: (row.target_id, row.image_key)):
        assert all(earlier.valid_to <= later.valid_from for earlier, later in pairwise(spans))


def test_a_target_has_as_many_intervals_as_asked_for(loaded: Database) -> None:
    counts = select(func.count()).select_from(availability.join(target)).group_by(target.c.id)
    from_the_first_run = counts.where(target.c.first_observed_at < History(SCALE).started_at(1))
    with loaded.reading() as connection:
        there_now = from_the_first_run.where(target.c.retired_at == OPEN)
        assert set(connection.execute(there_now).scalars()) == {SCALE.intervals}
        open_counts = counts.where(availability.c.valid_to == OPEN)
        assert list(connection.execute(open_counts).scalars()) == [SCALE.images] * SCALE.types * SCALE.regions


def test_the_changes_are_those_of_the_intervals(loaded: Database) -> None:
    with loaded.reading() as connection:
        rows = connection.execute(select(change.c.kind, func.count()).group_by(change.c.kind))
        kinds: dict[str, int] = dict(map(tuple, rows))
        added, removed = connection.execute(select(func.sum(run.c.images_added), func.sum(run.c.images_removed))).one()
        held = connection.execute(select(func.count()).select_from(held_removal)).scalar()
    assert (kinds["added"], kinds["removed"]) == (added, removed)
    assert kinds["type_retired"] == kinds["type_added"] == SCALE.regions
    assert held


def test_every_view_has_rows(loaded: Database) -> None:
    with loaded.reading() as connection:
        empty = [view.name for view in views.sorted_tables if connection.execute(select(view).limit(1)).first() is None]
    assert empty == []


def test_the_same_seed_makes_the_same_history(sqlite_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    other_url = f"sqlite:///{tmp_path_factory.mktemp('other') / 'history.db'}"
    contents = []
    for url in (sqlite_url, other_url):
        database = Database(url)
        load(database, History(SCALE), SCALE.days, lambda _: None)
        contents.append(contents_of(database))
        database.close()
    assert contents[0] == contents[1]
