"""The writer: whole targets in guarded transactions, and the same rows by every path."""

from datetime import datetime

import pytest
from sqlalchemy import Connection, event, func, select

from sync.errors import DatabaseError
from sync.inventory import OPEN, HeldRemoval, Image, Target, TargetUpdate, digest_of
from sync.store.bulk import COPY_ROWS
from sync.store.database import Database
from sync.store.record import FLUSH_TARGETS
from sync.store.schema import availability, coverage_gap, held_removal, image, run, target
from tests.store.builders import (
    NOON,
    Writer,
    a_target,
    an_image,
    at,
    closing,
    contents_of,
    failed,
    observed,
    unsound_targets,
    writer_of,
)

IMAGES = [an_image(f"m-{number:03}") for number in range(100)]


def commits_of(database: Database) -> list[Connection]:
    """Return a list to which each commit is added from now on."""
    seen: list[Connection] = []
    event.listen(database.engine, "commit", seen.append)
    return seen


def tagged_types(count: int) -> list[Target]:
    """Return three targets for each of ``count`` instance types."""
    names = [f"ecs.t{number:04}.large" for number in range(count)]
    return [a_target(name, tag) for name in names for tag in ("", "CentOS_7", "Ubuntu_22")]


def test_an_observation_is_read_back_as_it_was_written(writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:3]))
    assert writer.open_images() == {a_target(): dict.fromkeys(IMAGES[:3], NOON)}
    assert writer.known()[a_target()].image_digest == digest_of(IMAGES[:3])


def test_more_than_500_targets_are_written_in_several_transactions(database: Database, writer: Writer) -> None:
    commits = commits_of(database)
    writer.write(*(observed(entry, IMAGES[:1]) for entry in tagged_types(400)))
    assert len(commits) == 3
    assert len(writer.known()) == 1200
    assert unsound_targets(database) == []


def test_a_failure_in_the_second_transaction_leaves_whole_types_of_the_first(
    database: Database, writer: Writer
) -> None:
    entries = tagged_types(200)
    broken = closing(entries[-1], IMAGES[:1], at(1), stored=IMAGES[:1])
    with pytest.raises(DatabaseError):
        writer.write(*(observed(entry, IMAGES[:2]) for entry in entries[:-1]), broken)
    types = sorted({entry.instance_type for entry in writer.known()})
    assert sorted(writer.known()) == entries[: len(types) * 3]
    assert FLUSH_TARGETS - 3 < len(writer.known()) <= FLUSH_TARGETS
    assert unsound_targets(database) == []


def test_the_rows_of_one_large_batch_equal_those_of_many_small_ones(database: Database, writer: Writer) -> None:
    entries = [a_target(f"ecs.t{number}.large") for number in range(120)]
    assert len(entries) // 2 * len(IMAGES) > COPY_ROWS
    writer.write(*(observed(entry, IMAGES, at(1)) for entry in entries[:60]))
    for start in range(60, 120, 20):
        writer.write(*(observed(entry, IMAGES, at(1)) for entry in entries[start : start + 20]))
    assert writer.open_images() == {entry: dict.fromkeys(IMAGES, at(1)) for entry in entries}
    assert unsound_targets(database) == []


@pytest.mark.parametrize("count", [COPY_ROWS, COPY_ROWS + 1])
def test_no_row_is_lost_where_the_way_of_inserting_changes(database: Database, writer: Writer, count: int) -> None:
    images = [an_image(f"m-{number}") for number in range(count // 50 + 1)]
    entries = [a_target(f"ecs.t{number}.large") for number in range(50)]
    sizes = [count // 50 + (number < count % 50) for number in range(50)]
    writer.write(*(observed(entry, images[:size]) for entry, size in zip(entries, sizes, strict=True)))
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(availability)).scalar() == count
    assert unsound_targets(database) == []


def test_closing_an_interval_that_is_not_open_fails_and_writes_nothing(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:2]), observed(a_target("ecs.g7.large"), IMAGES[:3]))
    before = contents_of(database)
    broken = closing(a_target(), [IMAGES[0], IMAGES[2]], at(1), stored=IMAGES)
    with pytest.raises(DatabaseError, match="changed while this run judged them"):
        writer.write(observed(a_target("ecs.a1.large"), IMAGES[:1], at(1)), broken)
    assert contents_of(database) == before


def test_an_interval_cannot_be_opened_twice(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:1]))
    before = contents_of(database)
    with pytest.raises(DatabaseError):
        writer.write(observed(a_target(), IMAGES[:1], at(1)))
    assert contents_of(database) == before


def test_an_interval_cannot_end_before_it_begins(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:1]))
    before = contents_of(database)
    with pytest.raises(DatabaseError):
        writer.write(closing(a_target(), IMAGES[:1], NOON, stored=IMAGES[:1]))
    assert contents_of(database) == before


def test_a_closed_image_can_open_and_close_again(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:1]))
    for minute in (1, 3):
        writer.write(closing(a_target(), IMAGES[:1], at(minute), stored=IMAGES[:1]))
        writer.write(observed(a_target(), IMAGES[:1], at(minute + 1)))
    with database.reading() as connection:
        columns = (availability.c.valid_from, availability.c.valid_to)
        spans = sorted(map(tuple, connection.execute(select(*columns))))
    assert spans == [(NOON, at(1)), (at(2), at(3)), (at(4), OPEN)]


def test_an_image_of_many_targets_is_stored_once(database: Database, writer: Writer) -> None:
    entries = [a_target(f"ecs.t{number}.large") for number in range(3)]
    writer.write(*(observed(entry, [an_image()]) for entry in entries[:2]))
    writer.write(observed(entries[2], [an_image()], at(1)))
    with database.reading() as connection:
        rows = connection.execute(select(image.c.image_id, image.c.first_seen_at)).all()
    assert rows == [("m-1", NOON)]


def held(missed_runs: int, last_missed_at: datetime) -> HeldRemoval:
    return HeldRemoval(at(1), last_missed_at, NOON, missed_runs=missed_runs, missed_answers=missed_runs)


def test_a_held_removal_is_replaced_and_released(database: Database, writer: Writer) -> None:
    gone, stored = IMAGES[0], digest_of(IMAGES[:1])
    writer.write(observed(a_target(), IMAGES[:1]))
    for count in (1, 2):
        update = TargetUpdate(
            a_target(), at(count), is_observed=True, held={gone: held(count, at(count))}, image_digest=stored
        )
        writer.write(update)
    with database.reading() as connection:
        row = connection.execute(select(held_removal)).one()
    assert (row.first_missed_at, row.last_missed_at, row.missed_runs) == (at(1), at(2), 2)
    writer.write(TargetUpdate(a_target(), at(3), is_observed=True, released=[gone], image_digest=stored))
    assert contents_of(database)["held_removal"] == []


def test_a_gap_opens_once_and_ends_with_the_next_good_observation(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target()))
    writer.write(failed(a_target(), at(1)))
    writer.write(failed(a_target(), at(2)))
    writer.write(observed(a_target(), moment=at(3)))
    with database.reading() as connection:
        row = connection.execute(select(coverage_gap)).one()
    assert (row.gap_from, row.gap_to, row.error_code, row.run_id) == (NOON, at(3), "network.timeout", writer.run_id)


def test_an_open_gap_takes_the_newest_cause(database: Database, writer: Writer) -> None:
    writer.write(failed(a_target(), at(1)))
    writer.write(failed(a_target(), at(2), code="http.502", message="Bad Gateway"))
    with database.reading() as connection:
        row = connection.execute(select(coverage_gap)).one()
    assert (row.gap_from, row.gap_to) == (at(1), OPEN)
    assert (row.error_code, row.message) == ("http.502", "Bad Gateway")


def test_causes_longer_than_their_columns_are_cut(database: Database, writer: Writer) -> None:
    writer.write(failed(a_target(), code="c" * 300, message="\N{GRINNING FACE}" * 3000))
    writer.write(failed(a_target(), at(1), code="c" * 300, message="other"))
    with database.reading() as connection:
        row = connection.execute(select(coverage_gap)).one()
    assert (row.error_code, row.message) == ("c" * 128, "\N{GRINNING FACE}" * 2000)


def test_a_retired_target_closes_and_returns(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), IMAGES[:1]))
    writer.write(
        TargetUpdate(a_target(), at(2), closed={IMAGES[0]: at(1)}, image_digest=digest_of(()), retired_at=at(1))
    )
    assert writer.known()[a_target()].is_retired
    writer.write(observed(a_target(), IMAGES[:1], at(3)))
    assert not writer.known()[a_target()].is_retired
    assert writer.open_images() == {a_target(): {IMAGES[0]: at(3)}}
    with database.reading() as connection:
        assert connection.execute(select(target.c.first_observed_at)).scalar() == NOON


def test_a_run_that_a_dead_process_left_running_becomes_interrupted(database: Database) -> None:
    with writer_of(database) as first:
        first.recorder.open_regions(["cn-hangzhou"], NOON)
    with writer_of(database) as second, database.reading() as connection:
        rows = connection.execute(select(run.c.id, run.c.status).order_by(run.c.id)).all()
        assert rows == [(first.run_id, "interrupted"), (second.run_id, "running")]
    assert contents_of(database)["region_run"][0][4] == "interrupted"


def test_each_image_is_itself_however_many_are_new_at_once(writer: Writer) -> None:
    images: list[Image] = [an_image(f"m-{number}") for number in range(1100)]
    writer.write(observed(a_target(), images))
    assert writer.open_images() == {a_target(): dict.fromkeys(images, NOON)}
