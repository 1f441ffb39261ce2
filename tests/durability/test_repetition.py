"""Two equal runs: the second one writes its own rows and nothing else."""

from datetime import timedelta
from itertools import pairwise

from sqlalchemy import select

from sync.inventory import RunStatus, utc_now
from sync.simulator.server import Simulator
from sync.store.database import Database
from sync.store.schema import views
from tests.durability.jobs import before, broken_promises, failing, make_run, timeless_views, without_held_removals
from tests.store.builders import Contents, contents_of


def without_runs(database: Database) -> Contents:
    return {name: rows for name, rows in contents_of(database).items() if name not in {"run", "region_run"}}


def test_a_second_equal_run_writes_only_its_own_rows(database: Database, simulator: Simulator) -> None:
    simulator.faults = []
    assert make_run(database, simulator.url).status is RunStatus.OK
    first, runs = without_runs(database), len(contents_of(database)["region_run"])
    assert make_run(database, simulator.url).status is RunStatus.OK
    assert without_runs(database) == first
    assert len(contents_of(database)["region_run"]) == 2 * runs


def test_a_run_that_meets_the_same_failures_again_writes_only_its_own_rows(
    database: Database, simulator: Simulator
) -> None:
    assert make_run(database, simulator.url).status is RunStatus.PARTIAL
    first = without_runs(database)
    assert len(first["coverage_gap"]) == 1
    assert make_run(database, simulator.url).status is RunStatus.PARTIAL
    assert without_runs(database) == first


def test_a_run_after_changes_of_every_kind_writes_only_its_own_rows(database: Database, simulator: Simulator) -> None:
    make_run(database, simulator.url)
    simulator.catalogue, simulator.faults = without_held_removals(), [failing("ecs.u7.large")]
    make_run(database, simulator.url)
    first = without_runs(database)
    assert {row[5] for row in first["change"]} == {"added", "removed", "changed", "type_added", "type_retired"}
    for _ in range(2):
        make_run(database, simulator.url)
        assert without_runs(database) == first
    assert broken_promises(database) == []


def test_what_goes_and_comes_back_opens_again_under_the_same_keys(database: Database, simulator: Simulator) -> None:
    make_run(database, simulator.url)
    first, images = timeless_views(database)["available_images"], contents_of(database)["image"]
    for catalogue in (without_held_removals(), before()):
        simulator.catalogue = catalogue
        make_run(database, simulator.url)
    again = [row[:10] for row in timeless_views(database)["available_images"]]
    assert again == [row[:10] for row in first]
    assert [row for row in contents_of(database)["image"] if row in images] == images


def test_intervals_stay_valid_when_the_clock_is_set_back_by_a_day(database: Database, simulator: Simulator) -> None:
    simulator.catalogue = before()
    make_run(database, simulator.url)
    simulator.catalogue = without_held_removals()
    make_run(database, simulator.url, now=lambda: utc_now() - timedelta(days=1))
    simulator.catalogue = before()
    make_run(database, simulator.url, now=lambda: utc_now() - timedelta(days=2))
    assert broken_promises(database) == []
    with database.reading() as connection:
        runs = connection.execute(select(views.tables["sync_runs"]).order_by("run_id")).mappings().all()
        recorded = connection.execute(select(views.tables["image_changes"]).order_by("change_id")).mappings().all()
    times = [time for row in runs for time in (row["started_at"], row["finished_at"])]
    assert times[::2] == sorted(set(times[::2]))
    assert times == sorted(times)
    assert all(early["finished_at"] < late["started_at"] for early, late in pairwise(runs))
    assert [row["recorded_at"] for row in recorded] == sorted(row["recorded_at"] for row in recorded)
    assert all(row["last_seen_at"] < row["detected_at"] for row in recorded if row["last_seen_at"])
