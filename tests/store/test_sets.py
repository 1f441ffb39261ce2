"""Sets of images at a time: the answers of ``find_snapshot``, on told and on random histories."""

from collections.abc import Iterable
from datetime import datetime
from random import Random

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, seed, settings
from sqlalchemy import Connection

from sync.inventory import IMAGE_FIELDS, Target
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import list_regions_of
from sync.store.known import ImageKeys
from sync.store.lease import Lease
from sync.store.sets import find_beginnings, find_sets
from sync.store.snapshot import UNKNOWN, Coverage, find_snapshot
from sync.store.types import UtcTimestamp
from tests.cli.story import at, record_story
from tests.questions.stories import MILLISECOND, TALES, Tale, record, wipe
from tests.questions.world import world_of
from tests.store.past import Past, record_past

FILTERS = (
    Filter(),
    Filter(("aa",)),
    Filter(("bb",), ("t.*",)),
    Filter((), ("t.1", "u.1")),
    Filter(("aa",), (), ("m-1", "b")),
    Filter((), (), (), (), ("CentOS_7.6_64", "Ubuntu*")),
)
COMMON = settings(deadline=None, database=None, print_blob=False, suppress_health_check=list(HealthCheck))

Told = dict[Target, tuple[Coverage, dict[tuple[str, ...], datetime | None]]]


@pytest.fixture
def migrated(database: Database) -> Database:
    """An empty database with its tables; once for each database server."""
    lease = Lease(database)
    lease.acquire()
    lease.release()
    return database


def told(connection: Connection, moment: datetime, wanted: Filter) -> Told:
    """Return what the sets say: per target its coverage, and its images with since when they are missing."""
    found = find_sets(connection, moment, wanted)
    if wanted.images or wanted.os_tags:
        found = [entry for entry in found if entry.image_keys or entry.coverage.state == UNKNOWN]
    keys = ImageKeys()
    keys.load_keys(connection, {key for entry in found for key in entry.image_keys})
    return {
        entry.target: (
            entry.coverage,
            {_fields(keys.image_of(key)): entry.missing.get(key) for key in entry.image_keys},
        )
        for entry in found
    }


def expected(connection: Connection, moment: datetime, wanted: Filter) -> Told:
    """Return the same of the snapshot with every pair."""
    snapshot = find_snapshot(connection, moment, wanted)
    return {
        asked: (
            coverage,
            {_fields(image): span.missing_since for image, span in snapshot.images.get(asked, {}).items()},
        )
        for asked, coverage in snapshot.coverage.items()
    }


def _fields(image: object) -> tuple[str, ...]:
    return tuple(getattr(image, name) for name in IMAGE_FIELDS)


def differing(database: Database, moments: Iterable[datetime]) -> list[tuple[datetime, Filter]]:
    """Return the questions that sets and snapshot answer differently."""
    with database.reading() as connection:
        return [
            (moment, wanted)
            for moment in moments
            for wanted in FILTERS
            if list(told(connection, moment, wanted).items()) != list(expected(connection, moment, wanted).items())
        ]


def judge(tale: Tale, database: Database) -> None:
    """Record the tale and ask at some of the moments at which an answer may turn."""
    wipe(database)
    turns = sorted(set(world_of(record(tale, database)).moments()))
    near = [turn + step for turn in turns for step in (-MILLISECOND, MILLISECOND * 0, MILLISECOND)]
    assert differing(database, Random(tale.seed).sample(near, min(8, len(near)))) == []


def test_held_removals_gaps_tags_and_retired_types_are_told_as_the_snapshot_tells_them(database: Database) -> None:
    past, began = record_past(database)
    past.run(failing=[("aa", "t.1", ""), ("bb", "t.2", "tag")])
    moments = [past.clock(), *began, *(moment + MILLISECOND * 500 for moment in began), began[0] - MILLISECOND]
    assert differing(database, moments) == []
    with database.reading() as connection:
        now = told(connection, past.clock(), Filter())
    assert {bool(seen.observed_at) for seen, _ in now.values()} == {True}
    assert {seen.state for seen, _ in now.values()} == {"available", "unknown"}


def test_held_removals_have_since_when_they_are_missing(database: Database) -> None:
    past = Past(database)
    past.run()
    for name in ("t.1", "t.2"):
        past.offer("aa", name, frozenset())
    past.run()
    with database.reading() as connection:
        held = connection.execute(sa.text("SELECT COUNT(*) FROM held_removal")).scalar()
        now = told(connection, past.clock(), Filter())
    missing = [since for _, images in now.values() for since in images.values() if since]
    assert held == len(missing) == 6
    assert differing(database, [past.clock(), min(missing), min(missing) - MILLISECOND]) == []


@settings(COMMON, max_examples=4, derandomize=True, phases=[Phase.generate])
@given(tale=TALES)
def test_random_histories_are_told_as_the_snapshot_tells_them(migrated: Database, tale: Tale) -> None:
    judge(tale, migrated)


@pytest.mark.slow
@settings(COMMON, max_examples=60, phases=[Phase.generate])
@given(tale=TALES)
@seed(20260401)
def test_more_random_histories_are_told_as_the_snapshot_tells_them(migrated: Database, tale: Tale) -> None:
    judge(tale, migrated)


def test_a_text_that_the_server_cut_is_read_pair_by_pair(database: Database, database_url: str) -> None:
    record_story(database_url)
    if database.engine.dialect.name not in {"mysql", "mariadb"}:
        pytest.skip("only MySQL and MariaDB cut")
    with database.reading() as connection:
        whole = told(connection, at(1.5), Filter())
        for length in (4, 5, 6):
            connection.execute(sa.text(f"SET SESSION group_concat_max_len = {length}"))
            assert told(connection, at(1.5), Filter()) == whole
        connection.execute(sa.text("SET SESSION group_concat_max_len = DEFAULT"))


def test_beginnings_are_those_of_the_target_that_had_an_image_first(database: Database) -> None:
    past, _ = record_past(database)
    moment = past.clock()
    with database.reading() as connection:
        keys = [entry.key for entry in find_sets(connection, moment, Filter())]
        found = find_beginnings(connection, moment, keys)
        rows = connection.execute(
            sa.text(
                "SELECT i.image_key, a.available_since FROM available_images a JOIN images i USING (os_tag)"
            ).columns(image_key=sa.Integer, available_since=UtcTimestamp)
        ).all()
    assert found == {key: min(since for other, since in rows if other == key) for key in {key for key, _ in rows}}


def test_regions_are_those_that_have_what_is_asked(database: Database, database_url: str) -> None:
    record_story(database_url)
    with database.reading() as connection:
        assert list_regions_of(connection, Filter()) == ["cn-beijing", "cn-hangzhou"]
        assert list_regions_of(connection, Filter((), ("ecs.g7.large",))) == ["cn-hangzhou"]
        assert list_regions_of(connection, Filter(("zz*",))) == []
