"""The public SQL interface: the views' columns, literally, and the types that they give."""

from datetime import timedelta

import pytest
from sqlalchemy import inspect, select

from sync.inventory import HeldRemoval, TargetUpdate, digest_of, utc_now
from sync.store.database import Database
from sync.store.schema import target, views
from tests.store.builders import NOON, Writer, a_target, an_image, at, closing, failed, observed

VIEWS = {
    "available_images": "region_id instance_type image_id os_tag base_os_tag platform version architecture os_name "
    "os_name_en available_since from_baseline missing_since base_os_tag_filter",
    "image_history": "region_id instance_type image_id os_tag base_os_tag platform version architecture os_name "
    "os_name_en valid_from valid_to from_baseline base_os_tag_filter",
    "image_changes": "change_id run_id detected_at last_seen_at kind region_id instance_type image_id os_tag "
    "base_os_tag platform version architecture os_name os_name_en base_os_tag_filter recorded_at",
    "target_status": "region_id instance_type base_os_tag_filter first_observed_at last_observed_at retired_at "
    "image_count unknown_since error_code error_message",
    "observation_gaps": "region_id instance_type gap_from gap_to error_code error_message request_id "
    "base_os_tag_filter",
    "sync_runs": "run_id started_at finished_at status trigger targets_ok targets_failed images_added "
    "images_removed images_changed removals_held error",
    "image_lifetimes": "region_id instance_type image_id os_tag base_os_tag platform version architecture os_name "
    "os_name_en valid_from valid_to from_baseline base_os_tag_filter lived_days target_key image_key",
    "images": "image_key image_id os_tag base_os_tag platform version architecture os_name os_name_en first_seen_at",
    "region_runs": "run_id region_id started_at finished_at status is_complete types_listed targets_ok targets_failed "
    "images_added images_removed images_changed removals_held error",
}
"""The columns that users' SQL relies on; change them by a migration only."""

OLD, KEPT = an_image("m-old"), an_image("m-kept")


@pytest.fixture
def story(writer: Writer) -> Writer:
    """A target that lost one image and may have lost another, and a target that never answered."""
    writer.write(observed(a_target(), [OLD, KEPT]), failed(a_target("ecs.a1.large"), message="no answer"))
    writer.write(closing(a_target(), [OLD], at(1), stored=[OLD, KEPT]))
    held = HeldRemoval(at(2), at(2), at(1), missed_runs=1, missed_answers=1)
    writer.write(TargetUpdate(a_target(), at(2), is_observed=True, held={KEPT: held}, image_digest=digest_of([KEPT])))
    return writer


def rows_of(database: Database, name: str) -> list[dict[str, object]]:
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(views.tables[name])).mappings()]


def test_the_views_have_the_promised_columns_in_order(database: Database, story: Writer) -> None:
    with database.reading() as connection:
        inspector = inspect(connection)
        names = sorted(inspector.get_view_names())
        columns = {name: " ".join(column["name"] for column in inspector.get_columns(name)) for name in names}
    assert columns == VIEWS


def test_the_program_reads_the_views_by_the_same_columns() -> None:
    assert {name: " ".join(table.columns.keys()) for name, table in views.tables.items()} == VIEWS


def test_an_available_image_shows_since_when_it_is_missing(database: Database, story: Writer) -> None:
    (row,) = rows_of(database, "available_images")
    assert (row["image_id"], row["instance_type"], row["base_os_tag_filter"]) == ("m-kept", "ecs.c7.large", "")
    assert (row["available_since"], row["missing_since"], row["from_baseline"]) == (NOON, at(2), True)


def test_the_end_of_an_interval_is_null_while_it_lasts(database: Database, story: Writer) -> None:
    spans = {row["image_id"]: (row["valid_from"], row["valid_to"]) for row in rows_of(database, "image_history")}
    assert spans == {"m-old": (NOON, at(1)), "m-kept": (NOON, None)}


def test_a_lifetime_counts_days_until_its_end_or_until_now(database: Database, story: Writer) -> None:
    days = {row["image_id"]: row["lived_days"] for row in rows_of(database, "image_lifetimes")}
    since_noon = (utc_now() - NOON) / timedelta(days=1)
    assert days == {"m-old": pytest.approx(1 / 1440, abs=1e-7), "m-kept": pytest.approx(since_noon, abs=0.01)}


def test_a_change_carries_the_image_and_both_times(database: Database, story: Writer) -> None:
    (row,) = rows_of(database, "image_changes")
    assert (row["kind"], row["image_id"], row["run_id"]) == ("removed", "m-old", story.run_id)
    assert (row["last_seen_at"], row["detected_at"], row["recorded_at"]) == (NOON, at(1), NOON)


def test_a_target_that_never_answered_has_a_gap_and_no_times(database: Database, story: Writer) -> None:
    (gap,) = rows_of(database, "observation_gaps")
    (row,) = [row for row in rows_of(database, "target_status") if row["instance_type"] == "ecs.a1.large"]
    assert (gap["gap_from"], gap["gap_to"], gap["request_id"]) == (NOON, None, "A-REQUEST")
    assert (row["first_observed_at"], row["last_observed_at"], row["unknown_since"]) == (None, None, NOON)
    assert (row["image_count"], row["error_code"], row["error_message"]) == (0, "network.timeout", "no answer")


def test_an_observed_target_counts_its_open_images(database: Database, story: Writer) -> None:
    (row,) = [row for row in rows_of(database, "target_status") if row["instance_type"] == "ecs.c7.large"]
    assert (row["image_count"], row["retired_at"], row["unknown_since"]) == (1, None, None)
    assert (row["first_observed_at"], row["last_observed_at"]) == (NOON, at(2))


def test_a_running_run_has_no_end(database: Database, story: Writer) -> None:
    (row,) = rows_of(database, "sync_runs")
    assert (row["run_id"], row["started_at"], row["finished_at"]) == (story.run_id, NOON, None)
    assert (row["status"], row["trigger"], row["images_added"], row["error"]) == ("running", "test", 0, None)


def test_an_answer_of_several_statements_is_of_one_moment(database: Database, writer: Writer) -> None:
    with database.reading() as connection:
        before = connection.execute(select(target.c.instance_type)).all()
        writer.write(observed(a_target(), [OLD]))
        between = connection.execute(select(target.c.instance_type)).all()
    assert (before, between) == ([], [])
