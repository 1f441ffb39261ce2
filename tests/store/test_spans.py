"""What pictures over time read: images and rows of a period, gaps, the last observation, and the SQL for people."""

import pytest
from sqlalchemy import text

from sync.inventory import Target
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.spans import (
    find_observed_until,
    image_history_statement,
    list_gaps_within,
    list_images_within,
    list_intervals_within,
    list_run_starts_between,
)
from tests.store.builders import NOON, REGION, Writer, a_target, an_image, at, closing, failed, observed
from tests.store.spans import begin_runs, rows_of_statement

OLD, KEPT = an_image("m-old"), an_image("m-kept")
ALL = Filter()
SINCE, UNTIL = at(-60), at(60)


@pytest.fixture
def story(writer: Writer) -> Writer:
    """A target with two images at noon, of which one goes ten minutes later; five minutes on it does not answer."""
    writer.write(observed(a_target(), [OLD, KEPT]))
    writer.write(closing(a_target(), [OLD], at(10), stored=[OLD, KEPT]))
    writer.write(failed(a_target(), at(15)))
    return writer


def names_within(database: Database, since: float, until: float, wanted: Filter = ALL) -> list[str]:
    with database.reading() as connection:
        return sorted(row.image_id for row in list_images_within(connection, wanted, at(since), at(until)))


@pytest.mark.usefixtures("story")
def test_a_period_has_the_images_that_overlap_it_and_not_those_that_only_touch_it(database: Database) -> None:
    assert names_within(database, -5, 0) == []
    assert names_within(database, -5, 1) == ["m-kept", "m-old"]
    assert names_within(database, 9, 11) == ["m-kept", "m-old"]
    assert names_within(database, 10, 11) == ["m-kept"]


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    "wanted",
    [
        Filter(images=("m-old",)),
        Filter(images=("OS_NAME of M-OLD*",)),
        Filter(region_ids=(REGION,), os_tags=("os_tag of m-old",)),
        Filter(instance_types=("ecs.c7.*",), images=("m-old",)),
    ],
)
def test_a_period_has_only_the_images_of_a_filter(database: Database, wanted: Filter) -> None:
    assert names_within(database, -5, 60, wanted) == ["m-old"]


@pytest.mark.usefixtures("story")
def test_a_filter_of_another_region_has_no_images(database: Database) -> None:
    assert names_within(database, -5, 60, Filter(region_ids=("cn-nowhere",))) == []


@pytest.mark.usefixtures("story")
def test_the_rows_of_a_period_are_those_of_the_view(database: Database) -> None:
    with database.reading() as connection:
        keys = [row.key for row in list_images_within(connection, ALL, SINCE, UNTIL)]
        rows = list_intervals_within(connection, ALL, keys, SINCE, UNTIL)
    found = {(row.target, row.image, row.valid_from, row.valid_to, row.from_baseline) for row in rows}
    assert found == {(a_target(), OLD, NOON, at(10), True), (a_target(), KEPT, NOON, None, True)}


def test_rows_of_targets_beside_those_of_a_filter_are_left_out(database: Database, writer: Writer) -> None:
    # Their ids enclose those of the third.
    first, other, last = (a_target(f"ecs.{name}.large") for name in ("a1", "b1", "a2"))
    for entry in (first, other, last):
        writer.write(observed(entry, [KEPT]))
    wanted = Filter(instance_types=("ecs.a*",))
    with database.reading() as connection:
        keys = [row.key for row in list_images_within(connection, ALL, SINCE, UNTIL)]
        rows = list_intervals_within(connection, wanted, keys, SINCE, UNTIL)
    assert {row.target for row in rows} == {first, last}


@pytest.mark.usefixtures("story")
def test_a_gap_is_found_while_it_is_open_and_by_its_target(database: Database) -> None:
    with database.reading() as connection:
        target_id = connection.execute(text("SELECT id FROM target")).scalar_one()
        gaps = list_gaps_within(connection, ALL, at(12), at(60))
        of_target = list_gaps_within(connection, ALL, at(12), at(60), [target_id])
        before = list_gaps_within(connection, ALL, at(0), at(10))
    assert [(gap.target, gap.gap_from, gap.gap_to, gap.error_code) for gap in gaps] == [
        (Target(REGION, "ecs.c7.large"), at(10), None, "network.timeout")
    ]
    assert of_target == gaps
    assert before == []


@pytest.mark.usefixtures("story")
def test_a_region_without_a_complete_run_was_observed_when_its_targets_were(database: Database) -> None:
    with database.reading() as connection:
        assert find_observed_until(connection, [REGION, "cn-nowhere"]) == {REGION: at(10)}


def test_the_starts_of_runs_are_those_within_any_of_many_ranges(database: Database, writer: Writer) -> None:
    begin_runs(database, writer.run_id, {REGION: range(1, 100), "cn-beijing": [50]})
    ranges = [(at(number), at(number + 1)) for number in range(1, 81, 2)]
    with database.reading() as connection:
        found = list_run_starts_between(connection, REGION, ranges)
        other = list_run_starts_between(connection, "cn-beijing", [(at(49), at(50)), (at(50), at(51))])
    assert found == [at(number) for number in range(2, 82, 2)]
    assert other == [at(50)]


def test_a_statement_quotes_names(database: Database, writer: Writer) -> None:
    hostile = [an_image("m-'; DROP TABLE image; --"), an_image("m-\\' OR 1=1"), an_image("m-100%_!")]
    writer.write(observed(a_target("ecs.o'brien.large"), [*hostile, KEPT]))
    images = [(image.os_tag, image.image_id) for image in hostile]
    wanted = Filter(instance_types=("ecs.o'brien.large",), images=("m-*", "m-100%_!"))
    with database.reading() as connection:
        statement = image_history_statement(wanted, images, (SINCE, UNTIL), connection.dialect.name)
    rows = rows_of_statement(database, statement)
    assert sorted(str(row["image_id"]) for row in rows) == sorted(image.image_id for image in hostile)
