"""A job: what the dead man's switch hears where no run is made, or where one breaks off."""

import threading

import pytest

from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import Client, ClientSettings
from sync.errors import LeaseTakenError, RunInterruptedError, RunNotDueError
from sync.job import Workshop, make_job, scheduled_request
from sync.run import RunResult
from sync.store.lease import Lease
from tests.alerts.receiver import Receiver
from tests.alerts.scene import Scene


def made_by(scene: Scene, *, is_interrupted: bool = False, only_if_due: bool = False) -> RunResult:
    """Make a job as the daemon does."""
    recording = scene.recording
    url = recording.simulator.url
    settings = scene.settings.model_copy(update={"endpoint": url, "ping_url": scene.receiver.ping_url})
    workshop = Workshop(settings, recording.database, scene.teller, lambda: recording.now)
    request = scheduled_request(settings, "test", recording.now, only_if_due=only_if_due)
    interrupt = threading.Event()
    if is_interrupted:
        interrupt.set()
    account = recording.simulator
    credential = Credential(account.access_key_id, account.access_key_secret)
    limits = ClientSettings(url, 2, 10_000, max_attempts=1)
    with Client(limits, lambda: credential, now=lambda: recording.now) as client:
        return make_job(workshop, client, request, interrupt=interrupt)


def test_the_switch_hears_nothing_where_another_process_makes_the_run(one_scene: Scene) -> None:
    lease = Lease(one_scene.recording.database)
    lease.acquire()
    with pytest.raises(LeaseTakenError):
        made_by(one_scene)
    assert one_scene.receiver.signals == []


def test_the_switch_hears_nothing_where_the_tick_is_served(one_scene: Scene) -> None:
    with pytest.raises(RunNotDueError):
        made_by(one_scene, only_if_due=True)
    assert one_scene.receiver.signals == []


def test_an_interrupted_run_is_no_failure(one_scene: Scene) -> None:
    with pytest.raises(RunInterruptedError):
        made_by(one_scene, is_interrupted=True)
    assert one_scene.receiver.signals == ["/start"]


def test_a_crash_is_a_failure(one_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync.job.run_once", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made_by(one_scene)
    assert one_scene.receiver.signals == ["/fail"]


def test_the_switch_hears_how_a_run_ended(one_scene: Scene, receiver: Receiver) -> None:
    made_by(one_scene)
    assert receiver.signals == ["/start", ""]
    assert receiver.requests[-1][1].startswith("run 2: ok in 0.0 s, 5 targets observed, 0 failed")
