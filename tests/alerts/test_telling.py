"""Telling: every event once, none lost, and nothing twice while all is well; on every database."""

import functools
import threading

import pytest

from sync.accept import accept_removals
from sync.errors import DatabaseError, LeaseLostError
from sync.notify.message import Message
from sync.simulator.catalogue import Catalogue, OfferedType, with_image_added, with_type, without_images
from sync.store.alerts import TellingBook, find_told
from sync.store.database import Database
from sync.store.history import list_held
from sync.store.lease import TELL, Lease
from sync.tell import LINES_TOLD, RUNS_TOLD_APART, Teller
from tests.alerts.scene import ALL_OF_BEIJING, LISTING, ONE_TYPE, Scene
from tests.cli.story import an_image, with_rocky, without_centos
from tests.store.builders import execute

MANY = [an_image(f"m-{number:02}", "Distribution", str(number)) for number in range(30)]


def with_many(now: Catalogue) -> Catalogue:
    return with_type(now, "cn-beijing", OfferedType("ecs.many.large", frozenset(MANY)))


def without_many(now: Catalogue) -> Catalogue:
    return without_images(now, region_id="cn-beijing", instance_type="ecs.many.large")


def test_the_baseline_is_no_news(scene: Scene) -> None:
    assert scene.told() == []


def test_changes_are_told_as_people_think_and_once(scene: Scene) -> None:
    scene.told()
    scene.run(with_rocky)
    assert len(scene.told()) == 1
    assert scene.last_message == (
        "Changed in run 2:\n"
        "- Ubuntu 22.04 64 bit changed on ecs.g7.large in cn-hangzhou\n"
        "- Rocky Linux 9.3 64 bit added to 2 instance types in cn-hangzhou"
    )
    assert scene.told() == []


def test_removals_come_first(one_scene: Scene) -> None:
    one_scene.told()
    one_scene.run(with_rocky)
    one_scene.run(without_centos)
    (_, title) = one_scene.told()
    assert title == "CentOS 7.6 64 bit removed from 2 instance types in cn-hangzhou, and 2 more"
    assert one_scene.last_message.splitlines()[1:] == [
        "- CentOS 7.6 64 bit removed from 2 instance types in cn-hangzhou",
        "- Instance type retired in cn-hangzhou: ecs.g7.large",
        "- Instance type launched in cn-hangzhou: ecs.hpc8.large",
    ]


def test_another_process_tells_nothing_again(scene: Scene) -> None:
    scene.told()
    scene.run(with_rocky)
    scene.told()
    assert scene.told(scene.new_teller()) == []


def test_a_channel_that_was_broken_hears_all_it_missed_run_by_run(scene: Scene) -> None:
    scene.told()
    scene.receiver.status = 500
    scene.run(with_rocky)
    assert not scene.teller.tell()
    scene.run(without_centos)
    assert not scene.teller.tell()
    scene.receiver.status = 200
    scene.told()
    assert [entry["message"].splitlines()[0] for entry in scene.receiver.messages] == [
        "Changed in run 2:",
        "Changed in run 3:",
    ]
    assert scene.told() == []


def test_a_channel_that_was_broken_for_long_gets_one_message(one_scene: Scene) -> None:
    one_scene.told()
    for number in range(RUNS_TOLD_APART + 1):
        new = an_image(f"m-new-{number}", "New", str(number))
        one_scene.run(functools.partial(with_image_added, image=new, instance_type="ecs.c7.large"))
    assert len(one_scene.told()) == 1
    assert one_scene.last_message.startswith(f"Changed in run 2-{RUNS_TOLD_APART + 2}:\n- New 0 64 bit added")


def test_a_broken_channel_keeps_no_other_from_hearing(one_scene: Scene) -> None:
    settings = one_scene.settings.model_copy(
        update={"notify_urls": ("json://127.0.0.1:9/nobody", *one_scene.settings.notify_urls)}
    )
    teller = Teller(settings, one_scene.recording.database, now=lambda: one_scene.recording.now)
    one_scene.run(with_rocky)
    assert not teller.tell()
    assert len(one_scene.receiver.titles) == 1


def test_a_broken_channel_is_logged_once_and_again_when_it_works(
    one_scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    one_scene.told()
    one_scene.receiver.status = 500
    one_scene.run(with_rocky)
    one_scene.teller.tell()
    one_scene.teller.tell()
    one_scene.receiver.status = 200
    one_scene.teller.tell()
    lines = [record.getMessage() for record in caplog.records if record.name == "sync.tell"]
    name = one_scene.teller.channels[0].name
    assert len(lines) == 2
    assert lines[0].startswith(f"{name} did not take a message")
    assert lines[1] == f"{name} takes messages again"


def test_a_patient_teller_leaves_a_broken_channel_alone_for_a_while(one_scene: Scene) -> None:
    one_scene.told()
    one_scene.receiver.status = 500
    one_scene.run(with_rocky)
    one_scene.teller.tell()
    one_scene.receiver.status = 200
    assert not one_scene.teller.tell(is_patient=True)
    assert one_scene.receiver.titles == []
    assert one_scene.teller.tell()
    assert len(one_scene.receiver.titles) == 1


def test_more_changes_than_are_read_at_once_are_told_one_after_the_other(
    one_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_scene.told()
    one_scene.run(with_rocky)
    monkeypatch.setattr("sync.tell.CHANGES_AT_ONCE", 2)
    assert one_scene.teller.tell()
    assert sum(len(str(entry["message"]).splitlines()) - 1 for entry in one_scene.receiver.messages) == 2


def test_a_new_channel_hears_of_the_newest_run_and_not_of_the_whole_past(one_scene: Scene) -> None:
    one_scene.run(with_rocky)
    one_scene.run(without_centos)
    assert len(one_scene.told()) == 1
    assert one_scene.last_message.startswith("Changed in run 3:")


def test_a_death_between_sending_and_noting_repeats_the_message_and_loses_none(scene: Scene) -> None:
    scene.told()
    scene.run(with_rocky)
    other = scene.new_teller()

    def lose_lease(*_: object, **__: object) -> None:
        raise LeaseLostError("the process is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TellingBook, "note_told", lose_lease)
        with pytest.raises(LeaseLostError):
            other.tell()
    (again,) = scene.told()
    assert scene.receiver.titles == [again, again]


def test_while_one_process_tells_the_others_wait_or_leave_it_to_later(scene: Scene) -> None:
    scene.run(with_rocky)
    lease = Lease(scene.recording.database, TELL)
    lease.take()
    assert not scene.teller.tell()
    threading.Timer(0.3, lease.release).start()
    assert scene.teller.tell(wait_s=30)
    assert len(scene.receiver.titles) == 1


def test_who_has_lost_the_lease_of_telling_notes_nothing(scene: Scene) -> None:
    scene.told()
    scene.run(with_rocky)
    lease = Lease(scene.recording.database, TELL)
    lease.take()
    execute(scene.recording.database, "UPDATE lease SET token = token + 1 WHERE name = 'tell'")
    with pytest.raises(LeaseLostError):
        TellingBook(scene.recording.database, lease).note_told(
            scene.teller.channels[0].name, scene.recording.now, change_id=10_000, begun={}, ended=()
        )
    with scene.recording.database.reading() as connection:
        assert find_told(connection)[scene.teller.channels[0].name].change_id == 0


def test_failures_are_told_after_three_runs_in_a_row_and_again_when_they_end(scene: Scene) -> None:
    titles = []
    for _ in range(4):
        scene.run(faults=ONE_TYPE)
        titles.append(scene.told())
    since = "since 2024-03-01 13:00 UTC"  # the last good observation
    failing = f"1 instance type of cn-hangzhou not observed {since}: InvalidInstanceType.Scripted"
    assert titles == [[], [], [failing], []]
    scene.run()
    assert scene.told() == [f"resolved: {failing}"]
    assert scene.told() == []


def test_failures_that_pass_by_themselves_are_not_told(one_scene: Scene) -> None:
    for _ in range(4):
        one_scene.run(faults=ONE_TYPE)
        one_scene.run()
    assert one_scene.told() == []


def test_a_region_whose_listing_fails_is_told_too(one_scene: Scene) -> None:
    for _ in range(3):
        one_scene.run(faults=LISTING)
    (title,) = one_scene.told()
    assert title.startswith("cn-beijing has had failures in the last 3 runs: InvalidParameter.Scripted")


def test_runs_that_observe_nothing_are_told(one_scene: Scene) -> None:
    for _ in range(3):
        one_scene.run(faults="status=400 code=InvalidParameter.Scripted action=ListImages")
    assert "the last 3 runs observed nothing" in one_scene.told()[0] + one_scene.last_message


def test_held_removals_are_told_once_with_the_command_that_accepts_them(scene: Scene) -> None:
    scene.run(with_many)
    scene.told()
    scene.run(without_many)
    assert scene.told() == ["30 removals held in cn-beijing"]
    lines = scene.last_message.splitlines()
    assert lines[1] == "- Distribution 0 64 bit missing from ecs.many.large"
    assert "- … and 22 images more" in lines
    assert lines[-1].endswith("ehpc-image-sync accept-removals --region cn-beijing")
    scene.run(faults="")
    assert scene.told() == []


def test_acceptance_tells_the_removals_and_the_end_in_one_message(scene: Scene) -> None:
    scene.run(with_many)
    scene.run(without_many)
    scene.told()
    database = scene.recording.database
    with database.reading() as connection:
        shown = [(target, image) for target, image, _ in list_held(connection)]
    accept_removals(database, shown, now=lambda: scene.recording.now)
    assert len(scene.told()) == 1
    assert "- Distribution 0 64 bit removed from ecs.many.large in cn-beijing" in scene.last_message
    assert f"… and {len(MANY) - LINES_TOLD} more: ehpc-image-sync changes" in scene.last_message
    assert scene.last_message.endswith("Resolved: 30 removals held in cn-beijing")


def test_images_that_come_back_end_what_was_told_of_them(one_scene: Scene) -> None:
    one_scene.run(with_many)
    one_scene.run(without_many)
    one_scene.told()
    one_scene.run(with_many)
    assert one_scene.told() == ["resolved: 30 removals held in cn-beijing"]


def test_staleness_is_told_and_its_end(scene: Scene) -> None:
    scene.told()
    scene.recording.now += 4 * (scene.recording.now - scene.recording.now.replace(hour=12))
    (title,) = scene.told()
    assert title == "cn-beijing has not been observed for 4 h, since 2024-03-01 13:00 UTC, and 1 more"
    assert scene.told() == []
    scene.run()
    (over,) = scene.told()
    assert over.startswith("resolved: cn-beijing has not been observed")


def test_a_whole_region_that_fails_is_one_line(scene: Scene) -> None:
    for _ in range(3):
        scene.run(faults=ALL_OF_BEIJING)
    assert scene.told() == [
        "1 instance type of cn-beijing not observed since 2024-03-01 13:00 UTC: InvalidParameter.Scripted"
    ]


def test_nothing_is_written_where_nothing_is_new(one_scene: Scene) -> None:
    one_scene.run(with_rocky)
    one_scene.told()
    with one_scene.recording.database.reading() as connection:
        before = connection.exec_driver_sql("SELECT token FROM lease WHERE name = 'tell'").scalar()
    one_scene.run()
    one_scene.told()
    with one_scene.recording.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT token FROM lease WHERE name = 'tell'").scalar() == before


def test_a_database_that_is_away_is_an_error_and_no_silence(one_scene: Scene) -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(DatabaseError):
        Teller(one_scene.settings, away).tell()
    away.close()


def test_a_database_that_is_away_is_no_silence_even_where_all_channels_are_broken(one_scene: Scene) -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    teller = Teller(one_scene.settings, away)
    one_scene.receiver.status = 500
    teller.tell_directly(Message(notes=("the database does not answer",)))
    with pytest.raises(DatabaseError):
        teller.tell(is_patient=True)
    away.close()


def test_before_the_first_run_there_is_nothing_to_tell(one_scene: Scene, postgresql_url: str) -> None:
    empty = Database(postgresql_url)
    assert Teller(one_scene.settings, empty).tell()
    empty.close()
    assert one_scene.receiver.messages == []


def test_what_no_database_stands_behind_is_told_directly(one_scene: Scene) -> None:
    one_scene.teller.tell_directly(Message(recoveries=("the database does not answer",)))
    assert one_scene.receiver.titles == ["resolved: the database does not answer"]
    assert one_scene.teller.outcomes == {(one_scene.teller.channels[0].name, "sent"): 1}
