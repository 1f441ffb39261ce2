"""What /metrics tells: names, values against the recorded story, and labels that somebody else chose."""

import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from sqlalchemy import event, insert, select

from sync.config import Settings
from sync.ehpc.region import RegionStatistics
from sync.inventory import Counts, RunStatus
from sync.run import RunResult
from sync.store.database import Database
from sync.store.known import ImageKeys
from sync.store.lease import Lease
from sync.store.record import Recorder
from sync.store.schema import WHOLE_TYPE, held_removal, image_changes, target
from sync.web.metrics import Telemetry
from tests.cli.story import EDITS, Recording, at, record_story, with_rocky, without_centos
from tests.deploy.metrics import METRICS
from tests.web.stage import a_source, get, scrape, served

HOSTILE = 'cn-"x"\\ \n} 1e9 # HELP 深圳'


def a_result(seconds: float = 90, status: RunStatus = RunStatus.OK) -> RunResult:
    return RunResult(7, status, at(3), at(3) + timedelta(seconds=seconds), Counts())


def statistics_of(region_id: str = "cn-hangzhou", code: str = "Throttling") -> RegionStatistics:
    return RegionStatistics(region_id, {"ok": 5, code: 1}, 2, 1.5)


def busy_telemetry() -> Telemetry:
    telemetry = Telemetry()
    telemetry.note_run(a_result(), [statistics_of()])
    return telemetry


def test_names_and_labels_are_those_that_the_alerts_use(file_history: Database) -> None:
    lease = Lease(file_history)
    lease.acquire()
    source = a_source(
        file_history,
        telemetry=busy_telemetry(),
        next_run_at=lambda: at(3.5),
        notifications=lambda: {("slack", "sent"): 2},
    )
    with served(source) as url:
        found = scrape(url)
    assert {name: found.labels_of(name) for name in found.names} == {
        name: set(labels) for name, labels in METRICS.items()
    }


def test_every_metric_says_what_it_means_and_prometheus_finds_no_fault(file_history: Database) -> None:
    source = a_source(file_history, telemetry=busy_telemetry(), next_run_at=lambda: at(3.5))
    with served(source) as url:
        found, text = scrape(url), get(url, "/metrics").text
    ours = {name: told for name, told in found.helps.items() if name.startswith("ehpc_sync_")}
    assert all(told.endswith(".") for told in ours.values()), ours
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_story_is_told_as_it_was(history: Database) -> None:
    with served(a_source(history)) as url:
        found = scrape(url)
    assert found.of("ehpc_sync_targets") == {
        ("cn-beijing", "observed"): 0,
        ("cn-beijing", "unknown"): 1,
        ("cn-beijing", "retired"): 0,
        ("cn-hangzhou", "observed"): 3,
        ("cn-hangzhou", "unknown"): 2,
        ("cn-hangzhou", "retired"): 1,
    }
    assert found.of("ehpc_sync_open_intervals") == {("cn-beijing",): 1, ("cn-hangzhou",): 5}
    assert found.of("ehpc_sync_failing_targets") == {
        ("InvalidParameter.Scripted", "cn-beijing"): 1,
        ("InvalidInstanceType.Scripted", "cn-hangzhou"): 2,
    }
    assert found.of("ehpc_sync_data_age_seconds") == {("cn-beijing",): 75 * 60, ("cn-hangzhou",): 15 * 60}
    assert found.of("ehpc_sync_held_removals") == {("cn-beijing",): 0, ("cn-hangzhou",): 0}


def test_the_last_run_is_told_with_its_end(history: Database) -> None:
    with served(a_source(history)) as url:
        found = scrape(url)
    assert {key for key, value in found.of("ehpc_sync_last_run_status").items() if value} == {("partial",)}
    assert found.value("ehpc_sync_last_run_timestamp_seconds") == pytest.approx(at(3).timestamp(), abs=1)


def test_a_run_under_way_hides_nothing_and_is_told_with_who_makes_it(own_history: Database) -> None:
    lease = Lease(own_history)
    lease.acquire()
    Recorder(own_history, lease, ImageKeys(), lambda: at(3.2)).open_run("schedule", at(3.2), at(3.2))
    with served(a_source(own_history)) as url:
        during = scrape(url)
        lease.release()
        after = scrape(url)
    assert during.of("ehpc_sync_lease_info") == {(lease.owner,): 1}
    assert "ehpc_sync_lease_info" not in after.names
    assert during.of("ehpc_sync_last_run_status")["partial",] == 1


def test_held_removals_are_told_by_region(own_history: Database) -> None:
    times = {"first_missed_at": at(3), "last_missed_at": at(3), "last_seen_at": at(2)}
    held = select(target.c.id).where(target.c.region_id == "cn-beijing").scalar_subquery()
    with own_history.writing() as connection:
        row = insert(held_removal).values(target_id=held, image_key=WHOLE_TYPE, missed_runs=1, missed_answers=1)
        connection.execute(row.values(times))
    with served(a_source(own_history)) as url:
        assert scrape(url).of("ehpc_sync_held_removals") == {("cn-beijing",): 1, ("cn-hangzhou",): 0}


def test_changes_of_a_history_that_begins_are_all_counted(database: Database, database_url: str) -> None:
    with served(a_source(database)) as url:
        assert "ehpc_sync_changes_total" not in scrape(url).names
        record_story(database_url)
        found = scrape(url).of("ehpc_sync_changes_total")
    with database.reading() as connection:
        rows = connection.execute(select(image_changes.c.kind, image_changes.c.region_id)).all()
    assert {key: count for key, count in found.items() if count} == Counter(map(tuple, rows))


def test_changes_before_the_process_began_are_not_counted_and_later_ones_once(
    database: Database, database_url: str
) -> None:
    recording = Recording(database_url)
    with recording.simulator as simulator:
        for hours, edit in enumerate(EDITS[:2]):
            recording.now = at(hours)
            simulator.catalogue = edit(simulator.catalogue)
            recording.make_run()
        with served(a_source(database)) as url:
            before = scrape(url).of("ehpc_sync_changes_total")
            recording.now = at(2)
            simulator.catalogue = without_centos(simulator.catalogue)
            recording.make_run()
            first, second = (scrape(url).of("ehpc_sync_changes_total") for _ in range(2))
    recording.database.close()
    assert set(before.values()) == {0}
    assert {key: count for key, count in first.items() if count} == {
        ("removed", "cn-hangzhou"): 2,
        ("type_added", "cn-hangzhou"): 1,
        ("type_retired", "cn-hangzhou"): 1,
    }
    assert second == first


def test_intervals_are_counted_again_only_after_a_run(file_history: Database, sqlite_url: str) -> None:
    counted: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "count(*)" in statement and "FROM availability" in statement:
            counted.append(statement)

    event.listen(file_history.engine, "before_cursor_execute", note)
    recording = Recording(sqlite_url, at(4))
    with served(a_source(file_history)) as url, recording.simulator:
        first = [scrape(url).of("ehpc_sync_open_intervals") for _ in range(3)]
        counts_before = len(counted)
        recording.simulator.catalogue = with_rocky(recording.simulator.catalogue)
        recording.make_run()
        second = [scrape(url).of("ehpc_sync_open_intervals") for _ in range(2)]
    recording.database.close()
    assert (counts_before, len(counted)) == (1, 2)
    assert first == [{("cn-beijing",): 1, ("cn-hangzhou",): 5}] * 3
    assert second == [{("cn-beijing",): 1, ("cn-hangzhou",): 7}] * 2


def test_runs_of_this_process_and_their_calls_add_up(file_history: Database) -> None:
    telemetry = busy_telemetry()
    telemetry.note_run(a_result(4000, RunStatus.PARTIAL), [statistics_of(), statistics_of("cn-beijing", "Forbidden")])
    with served(a_source(file_history, telemetry=telemetry)) as url:
        found = scrape(url)
    assert found.of("ehpc_sync_runs_total") == {("ok",): 1, ("partial",): 1, ("held",): 0, ("failed",): 0}
    assert found.of("ehpc_sync_calls_total") == {
        ("ok", "cn-hangzhou"): 10,
        ("Throttling", "cn-hangzhou"): 2,
        ("ok", "cn-beijing"): 5,
        ("Forbidden", "cn-beijing"): 1,
    }
    assert found.of("ehpc_sync_call_retries_total") == {("cn-hangzhou",): 4, ("cn-beijing",): 2}
    assert found.of("ehpc_sync_throttled_seconds_total") == {("cn-hangzhou",): 3, ("cn-beijing",): 1.5}


def test_durations_stand_in_the_first_bucket_that_they_do_not_exceed(file_history: Database) -> None:
    telemetry = Telemetry()
    for seconds in (0.2, 1, 60.001, 3601, -5):  # the last one: a clock that was set back
        telemetry.note_run(a_result(seconds), [])
    with served(a_source(file_history, telemetry=telemetry)) as url:
        found = scrape(url)
    buckets = {float(bound): count for (bound,), count in found.of("ehpc_sync_run_duration_seconds_bucket").items()}
    assert [buckets[bound] for bound in (1, 60, 120, 3600, float("inf"))] == [3, 3, 4, 4, 5]
    assert found.value("ehpc_sync_run_duration_seconds_count") == 5
    assert found.value("ehpc_sync_run_duration_seconds_sum") == pytest.approx(3662.201)


def test_times_of_the_configuration_are_told(file_history: Database) -> None:
    settings = Settings(regions=("cn-hangzhou",), stale_after="2h")
    with served(a_source(file_history, settings=settings, next_run_at=lambda: at(3.5))) as url:
        found = scrape(url)
    assert found.value("ehpc_sync_stale_after_seconds") == 7200
    assert found.value("ehpc_sync_next_run_timestamp_seconds") == at(3.5).timestamp()
    assert found.of("ehpc_sync_data_age_seconds").keys() == {("cn-hangzhou",)}


def test_no_next_run_is_told_where_there_is_none(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        assert "ehpc_sync_next_run_timestamp_seconds" not in scrape(url).names


def test_stale_data_are_unhealthy_and_their_age_is_told(file_history: Database) -> None:
    with served(a_source(file_history, now=lambda: at(30))) as url:
        found = scrape(url)
    assert found.value("ehpc_sync_healthy") == 0
    assert found.value("ehpc_sync_database_up") == 1
    assert found.of("ehpc_sync_data_age_seconds") == {("cn-beijing",): 28 * 3600, ("cn-hangzhou",): 27 * 3600}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"])
def test_names_that_others_chose_cannot_forge_metrics(file_history: Database, accept: str) -> None:
    telemetry = Telemetry()
    telemetry.note_run(a_result(), [statistics_of(HOSTILE, HOSTILE)])
    with file_history.writing() as connection:
        for statement in (
            "UPDATE target SET region_id = ?  WHERE region_id = 'cn-beijing'",
            "UPDATE coverage_gap SET error_code = ? WHERE gap_to > '9'",
            (
                "UPDATE lease SET owner = ?, expires_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+50 seconds')"
                " WHERE name = 'run'"
            ),
        ):
            connection.exec_driver_sql(statement, (HOSTILE,))
    settings = Settings(regions=("all",))
    source = a_source(
        file_history, telemetry=telemetry, settings=settings, notifications=lambda: {(HOSTILE, "sent"): 1}
    )
    with served(source) as url:
        plain = scrape(url)
        answer = get(url, "/metrics", Accept=accept)
    for name, key in (
        ("ehpc_sync_calls_total", (HOSTILE, HOSTILE)),
        ("ehpc_sync_targets", (HOSTILE, "unknown")),
        ("ehpc_sync_failing_targets", (HOSTILE, HOSTILE)),
        ("ehpc_sync_lease_info", (HOSTILE,)),
        ("ehpc_sync_notifications_total", (HOSTILE, "sent")),
    ):
        assert plain.of(name)[key] == 1
    if accept:
        families = {family.name: family for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
        assert families["ehpc_sync_lease"].samples[0].labels == {"owner": HOSTILE}


def test_bytes_that_are_no_text_do_not_break_the_scrape(file_history: Database) -> None:
    with served(a_source(file_history, notifications=lambda: {("slack\udcff", "sent"): 1})) as url:
        assert scrape(url).of("ehpc_sync_notifications_total") == {("slack\\udcff", "sent"): 1}


def test_scrapes_at_the_same_time_all_get_everything(history: Database) -> None:
    with served(a_source(history)) as url, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: scrape(url), range(36)))
    assert {frozenset(entry.names) for entry in found} == {frozenset(found[0].names)}
    assert all(entry.of("ehpc_sync_open_intervals")["cn-hangzhou",] == 5 for entry in found)


def test_two_applications_in_one_process_share_nothing(file_history: Database) -> None:
    with (
        served(a_source(file_history, telemetry=busy_telemetry())) as busy,
        served(a_source(file_history)) as idle,
    ):
        assert scrape(busy).of("ehpc_sync_runs_total")["ok",] == 1
        assert scrape(idle).of("ehpc_sync_runs_total")["ok",] == 0
