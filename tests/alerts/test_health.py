"""What counts as fresh, stale, failing and well; on every database."""

from datetime import timedelta

from sync.health import Health
from sync.simulator.catalogue import without_type
from sync.store.condition import count_changes_after, count_open_intervals, list_last_runs
from tests.alerts.scene import ALL_OF_BEIJING, HOUR, LISTING, ONE_TYPE, Scene
from tests.cli.story import with_rocky, without_centos
from tests.store.builders import execute


def regions_of(health: Health) -> dict[str, tuple[int, int, int, int]]:
    return {
        entry.region_id: (entry.observed_count, entry.unknown_count, entry.retired_count, entry.held_count)
        for entry in health.regions
    }


def test_fresh_and_complete_data_are_well(scene: Scene) -> None:
    health = scene.health(hours_later=0.5)
    assert health.is_well
    assert health.outage == ()
    assert regions_of(health) == {"cn-beijing": (1, 0, 0, 0), "cn-hangzhou": (4, 0, 0, 0)}
    assert [entry.age for entry in health.regions] == [timedelta(minutes=30)] * 2


def test_data_are_stale_after_three_intervals_of_the_schedule(one_scene: Scene) -> None:
    assert one_scene.health(hours_later=3).is_well
    stale = one_scene.health(hours_later=3.01)
    assert [entry.is_stale for entry in stale.regions] == [True, True]
    assert stale.outage[0] == "cn-beijing has not been observed for 3 h, since 2024-03-01 13:00 UTC"


def test_the_age_from_which_data_are_stale_can_be_set(one_scene: Scene) -> None:
    assert one_scene.health(hours_later=20, stale_after="1d").is_well
    assert not one_scene.health(hours_later=0.2, stale_after="10m").is_well


def test_a_region_that_fails_grows_stale_alone(scene: Scene) -> None:
    for _ in range(4):
        scene.run(faults=ALL_OF_BEIJING)
    health = scene.health()
    assert {entry.region_id: entry.is_stale for entry in health.regions} == {"cn-beijing": True, "cn-hangzhou": False}
    assert regions_of(health)["cn-beijing"] == (0, 1, 0, 0)


def test_a_failing_target_says_since_when_and_why(scene: Scene) -> None:
    scene.run(faults=ONE_TYPE)
    health = scene.health()
    (failing,) = health.failing
    assert (failing.region_id, failing.code) == ("cn-hangzhou", "InvalidInstanceType.Scripted")
    assert failing.instance_types == ("ecs.c1.large",)
    assert failing.since == scene.recording.now - HOUR
    assert not failing.is_lasting
    assert not health.is_well
    assert health.outage == ()


def test_targets_that_failed_one_after_the_other_have_no_common_begin(one_scene: Scene) -> None:
    one_scene.run(faults=ONE_TYPE)
    (failing,) = one_scene.health().failing
    assert failing.words == "not observed since"
    one_scene.run(faults=f"{ONE_TYPE.replace('c1', 'c*')} region=cn-hangzhou")
    (failing,) = one_scene.health().failing
    assert len(failing.instance_types) > 1
    assert failing.words == "not observed, the first of them since"
    assert failing.since == one_scene.recording.now - 2 * HOUR


def test_a_failure_lasts_after_as_many_whole_runs_as_are_set(one_scene: Scene) -> None:
    one_scene.run(faults=ONE_TYPE)
    one_scene.run(faults=ONE_TYPE)
    assert [entry.is_lasting for entry in one_scene.health(notify_failures_after=2).failing] == [True]
    assert [entry.is_lasting for entry in one_scene.health(notify_failures_after=3).failing] == [False]


def test_a_region_that_was_never_observed_is_no_healthy_one(one_scene: Scene) -> None:
    health = one_scene.health(regions=("cn-beijing", "cn-hangzhou", "cn-shanghai"))
    assert not health.is_well
    assert health.outage == ("cn-shanghai has never been observed",)


def test_a_region_that_is_no_longer_configured_grows_stale_without_alarm(one_scene: Scene) -> None:
    assert list(regions_of(one_scene.health(hours_later=2, regions=("cn-hangzhou",)))) == ["cn-hangzhou"]


def test_a_region_of_which_everything_is_retired_is_observed_by_its_listing(one_scene: Scene) -> None:
    one_scene.run(lambda now: without_type(now, "ecs.c7.large", region_id="cn-beijing"))
    for _ in range(3):
        one_scene.run()
    health = one_scene.health()
    assert regions_of(health)["cn-beijing"] == (0, 0, 1, 0)
    assert health.is_well


def test_runs_that_observed_nothing_or_died_are_counted_from_the_last(one_scene: Scene) -> None:
    one_scene.run(faults="status=400 code=InvalidParameter.Scripted action=ListImages")
    one_scene.run(faults="status=400 code=InvalidParameter.Scripted action=ListImages")
    health = one_scene.health(notify_failures_after=2)
    assert health.outage == ("the last 2 runs observed nothing: " + str(health.last_runs[0]["error"]),)
    execute(one_scene.recording.database, "UPDATE run SET status = 'interrupted' WHERE id = 3")
    health = one_scene.health(notify_failures_after=2)
    assert health.lost_runs == 2
    assert health.outage[0].startswith("the last 2 runs did not get to an end: the process was killed")


def test_a_listing_that_fails_troubles_its_region_though_all_targets_are_observed(one_scene: Scene) -> None:
    one_scene.run(faults=LISTING)
    health = one_scene.health()
    assert list(health.troubled_regions) == ["cn-beijing"]
    assert (health.failing, health.is_well, dict(health.lastingly_troubled)) == ((), False, {})
    one_scene.run(faults=LISTING)
    one_scene.run(faults=LISTING)
    assert list(one_scene.health().lastingly_troubled) == ["cn-beijing"]
    one_scene.run()
    assert one_scene.health().is_well


def test_observations_of_the_future_are_no_proof_of_freshness(one_scene: Scene) -> None:
    assert one_scene.health(hours_later=-1).is_well
    (reason,) = one_scene.health(hours_later=-24 * 365).outage
    assert reason.startswith("the newest observation is 365 d ahead of this machine's clock")


def test_a_restricted_run_is_no_whole_one(scene: Scene) -> None:
    execute(scene.recording.database, "UPDATE run SET scheduled_at = NULL")
    with scene.recording.database.reading() as connection:
        assert list_last_runs(connection, 5) == []


def test_changes_are_counted_by_region_and_kind_as_they_come(scene: Scene) -> None:
    database = scene.recording.database
    scene.run(with_rocky)
    with database.reading() as connection:
        latest, counts = count_changes_after(connection, 0)
    assert counts == {("cn-hangzhou", "added"): 2, ("cn-hangzhou", "changed"): 1}
    scene.run(without_centos)
    with database.reading() as connection:
        _, counts = count_changes_after(connection, latest)
        assert counts == {
            ("cn-hangzhou", "removed"): 2,
            ("cn-hangzhou", "type_added"): 1,
            ("cn-hangzhou", "type_retired"): 1,
        }
        assert count_open_intervals(connection) == {"cn-beijing": 1, "cn-hangzhou": 5}


def test_targets_that_are_no_longer_planned_are_no_failures(scene: Scene) -> None:
    scene.run(faults=ONE_TYPE)
    execute(scene.recording.database, "UPDATE coverage_gap SET error_code = 'plan.not_planned'")
    health = scene.health()
    assert (health.failing, regions_of(health)["cn-hangzhou"]) == ((), (3, 0, 0, 0))


def test_runs_that_asked_less_do_not_count_as_failures_in_a_row(scene: Scene) -> None:
    for _ in range(3):
        scene.run(faults=ONE_TYPE)
    assert [entry.is_lasting for entry in scene.health().failing] == [True]
    execute(scene.recording.database, "UPDATE run SET scheduled_at = NULL WHERE id = 3")
    assert [entry.is_lasting for entry in scene.health().failing] == [False]
