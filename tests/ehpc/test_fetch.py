"""The three actions: what is asked, what is tried again, and what stops a region."""

import json
import logging
import threading
from datetime import timedelta
from email.utils import format_datetime

import pytest

from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client
from sync.errors import CallError, ConfigError, RunInterruptedError
from sync.inventory import ALL_TYPES, Target
from tests.ehpc.conftest import CANARY, NOW, NewClient
from tests.ehpc.server import REQUEST_ID, ScriptedServer, answer, error, images_body, row

TARGET = Target("cn-hangzhou", "ecs.c7.large")


def failure_of(client: Client, target: Target = TARGET) -> CallError:
    with pytest.raises(CallError) as caught:
        client.fetch_images(target)
    return caught.value


def test_the_answer_says_what_came_when_and_under_which_request(server: ScriptedServer, client: Client) -> None:
    server.play(answer(images_body(row(), row(ImageId="m-2"))))
    fetched = client.fetch_images(TARGET)
    assert {image.image_id for image in fetched.value} == {"m-1", "m-2"}
    assert (fetched.request_id, fetched.received_at) == (REQUEST_ID, NOW)


@pytest.mark.parametrize(
    ("target", "query"),
    [
        (TARGET, {"RegionId": "cn-hangzhou", "InstanceType": "ecs.c7.large"}),
        (Target("cn-hangzhou", ALL_TYPES), {"RegionId": "cn-hangzhou"}),
        (Target("r", "t", "CentOS 7~*"), {"RegionId": "r", "InstanceType": "t", "BaseOsTag": "CentOS 7~*"}),
    ],
)
def test_a_target_is_asked_for_with_its_own_parameters(
    server: ScriptedServer, client: Client, target: Target, query: dict[str, str]
) -> None:
    script = server.play(answer())
    client.fetch_images(target)
    assert script.requests[0].query == query
    assert script.requests[0].headers["x-acs-action"] == "ListImages"


def test_instance_types_are_asked_for_with_those_sold_out(server: ScriptedServer, client: Client) -> None:
    families = [{"Types": [{"InstanceTypeId": "ecs.b"}, {"InstanceTypeId": "ecs.a"}]}]
    script = server.play(answer(json.dumps({"RequestId": "R", "InstanceTypeFamilies": families}).encode()))
    assert client.fetch_instance_types("cn-beijing").value == ("ecs.a", "ecs.b")
    assert script.requests[0].query == {"RegionId": "cn-beijing", "ShowSoldOut": "true"}


def test_regions_are_asked_for_in_the_region_that_every_account_has(server: ScriptedServer, client: Client) -> None:
    script = server.play(answer(json.dumps({"RequestId": "R", "Regions": [{"RegionId": "cn-beijing"}]}).encode()))
    assert client.fetch_regions().value == ("cn-beijing",)
    assert script.requests[0].query == {"RegionId": "cn-hangzhou"}


def test_image_not_found_is_an_answer_with_no_images(server: ScriptedServer, client: Client) -> None:
    server.play(error("ImageNotFound", 404))
    assert client.fetch_images(TARGET).value == frozenset()


@pytest.mark.parametrize(
    "reply",
    [
        error("ImageNotFound", 400),
        error("ImageNotFound", 200),
        answer(b'{"Code":"ImageNotFound"}', 404),
        answer(b"<html><code>ImageNotFound</code></html>", 404),
    ],
)
def test_anything_less_than_404_image_not_found_is_a_failure(
    server: ScriptedServer, client: Client, reply: bytes
) -> None:
    server.play(reply)
    assert failure_of(client).code in {"ImageNotFound", "http.404"}


def test_image_not_found_is_no_answer_to_another_action(server: ScriptedServer, client: Client) -> None:
    server.play(error("ImageNotFound", 404))
    with pytest.raises(CallError, match="ImageNotFound"):
        client.fetch_instance_types("cn-hangzhou")


@pytest.mark.parametrize(
    "fault",
    [
        error("EcsError", 406),
        error("ServiceUnavailable", 503),
        answer(b"<html>", 502),
        answer(b"<html>"),
        answer(b"{}"),
    ],
)
def test_a_passing_fault_is_tried_again_with_another_nonce(
    server: ScriptedServer, client: Client, fault: bytes
) -> None:
    script = server.play(fault, fault, answer())
    assert client.fetch_images(TARGET).value
    assert len({request.headers["x-acs-signature-nonce"] for request in script.requests}) == 3


def test_a_lasting_fault_ends_after_the_configured_attempts(server: ScriptedServer, new_client: NewClient) -> None:
    script = server.play(error("DbError", 406, "no database"))
    caught = failure_of(new_client(max_attempts=3))
    assert (caught.code, caught.request_id, caught.stops_region) == ("DbError", REQUEST_ID, False)
    assert "no database" in caught.message
    assert len(script.requests) == 3


@pytest.mark.parametrize("code", ["NotAuthorized", "Forbidden.RAM", "InvalidAccessKeyId.NotFound", "InvalidParameter"])
def test_a_denial_stops_its_region_and_no_other(server: ScriptedServer, client: Client, code: str) -> None:
    script = server.play(error(code, 407), answer())
    assert failure_of(client).stops_region
    assert failure_of(client, Target("cn-hangzhou", "ecs.g7.large")).code == code
    assert client.fetch_images(Target("cn-beijing", "ecs.c7.large")).value
    assert len(script.requests) == 2


def test_a_denial_names_the_missing_ram_action(server: ScriptedServer, client: Client) -> None:
    server.play(error("NotAuthorized", 407))
    assert "ehpc:ListImages" in failure_of(client).message


def test_images_are_still_asked_for_when_listing_instance_types_is_denied(
    server: ScriptedServer, client: Client
) -> None:
    server.play(error("NotAuthorized", 407), answer())
    with pytest.raises(CallError, match="ehpc:ListAvailableEcsTypes") as caught:
        client.fetch_instance_types("cn-hangzhou")
    assert not caught.value.stops_region
    assert client.fetch_images(TARGET).value


def test_an_unknown_instance_type_stops_nothing(server: ScriptedServer, client: Client) -> None:
    script = server.play(error("InvalidInstanceType.NotFound", 400), answer())
    assert not failure_of(client).stops_region
    assert client.fetch_images(TARGET).value
    assert len(script.requests) == 2


def test_a_region_that_never_gets_a_connection_is_given_up(new_client: NewClient) -> None:
    client = new_client(endpoint="https://ehpc.{region}.invalid", max_attempts=1)
    assert [failure_of(client).stops_region for _ in range(4)] == [False, False, True, True]


def test_a_clock_that_is_off_is_learned_once_from_the_answer(server: ScriptedServer, client: Client) -> None:
    late = format_datetime(NOW + timedelta(hours=2), usegmt=True)
    script = server.play(error("InvalidTimeStamp.Expired", Date=late), answer())
    client.fetch_images(TARGET)
    client.fetch_images(TARGET)
    dates = [request.headers["x-acs-date"] for request in script.requests]
    assert dates == ["2026-03-01T12:00:00Z", "2026-03-01T14:00:00Z", "2026-03-01T14:00:00Z"]


@pytest.mark.parametrize("date", ["", "nonsense", "Sun, 01 Mar 2026 14:00:00 GMT"])
def test_a_clock_that_stays_wrong_stops_the_region(server: ScriptedServer, client: Client, date: str) -> None:
    script = server.play(error("IllegalTimestamp", Date=date))
    caught = failure_of(client)
    assert caught.stops_region
    assert "clock" in caught.message
    assert len(script.requests) <= 2


class RenewableKey:
    """Gives token 1 until it is refreshed, then token 2."""

    def __init__(self) -> None:
        self.generation = 1

    def __call__(self) -> Credential:
        return Credential("id", CANARY, f"token-{self.generation}")

    def refresh(self) -> None:
        self.generation += 1


def test_an_expired_token_is_refreshed_once(server: ScriptedServer, new_client: NewClient) -> None:
    script = server.play(error("InvalidSecurityToken.Expired"), answer())
    new_client(RenewableKey()).fetch_images(TARGET)
    assert [request.headers["x-acs-security-token"] for request in script.requests] == ["token-1", "token-2"]


def test_a_token_that_stays_expired_stops_the_region(server: ScriptedServer, new_client: NewClient) -> None:
    script = server.play(error("InvalidSecurityToken.Expired"))
    assert failure_of(new_client(RenewableKey())).stops_region
    assert len(script.requests) == 2


def test_an_expired_token_of_a_plain_source_stops_the_region(server: ScriptedServer, client: Client) -> None:
    server.play(error("InvalidSecurityToken.Expired"))
    assert failure_of(client).stops_region


def test_missing_credentials_are_a_configuration_error(server: ScriptedServer, new_client: NewClient) -> None:
    def nothing() -> Credential:
        raise ConfigError("no credentials")

    script = server.play(answer())
    with pytest.raises(ConfigError, match="no credentials"):
        new_client(nothing).fetch_images(TARGET)
    assert not script.requests


def test_throttling_pauses_the_region_for_as_long_as_the_answer_says(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(error("Throttling.User", x_acs_retry_after="40"), error("Throttling", x_acs_retry_after="0"), answer())
    client = new_client(backoff=BackoffPolicy(0, 0, longest_retry_after_s=60))
    with caplog.at_level(logging.WARNING, "sync"):
        client.fetch_images(TARGET)
    (statistics,) = client.statistics()
    assert (statistics.calls_by_outcome, statistics.retries) == ({"ok": 1}, 2)
    assert 0.03 < statistics.throttled_s <= 0.05
    assert [record.message for record in caplog.records] == [
        "cn-hangzhou is throttled by the API: its calls are slowed down"
    ]


@pytest.mark.parametrize(("retry_after_s", "longest"), [(5.0, 5.0), (3600.0, 60.0), (0.0, 0.0)])
def test_the_wait_that_the_api_asks_for_is_kept_within_reason(retry_after_s: float, longest: float) -> None:
    assert BackoffPolicy().delay_s(1, retry_after_s) == longest


def test_the_back_off_doubles_with_full_jitter_up_to_its_cap() -> None:
    for attempt, longest in ((1, 0.5), (2, 1), (4, 4), (50, 20)):
        delays = [BackoffPolicy().delay_s(attempt, None) for _ in range(300)]
        assert 0 <= min(delays) < longest * 0.2
        assert longest * 0.8 < max(delays) <= longest


def test_stop_wakes_a_call_that_backs_off(server: ScriptedServer, new_client: NewClient) -> None:
    server.play(error("DbError", x_acs_retry_after="600000"))
    client = new_client(backoff=BackoffPolicy(0, 0, 600))
    stopper = threading.Timer(0.1, client.stop)
    stopper.start()
    with pytest.raises(RunInterruptedError):
        client.fetch_images(TARGET)
    stopper.join()


def test_stop_cuts_a_call_in_flight(server: ScriptedServer, new_client: NewClient) -> None:
    client = new_client(read_timeout_s=60)

    def stop_instead(_: object) -> None:
        client.stop()
        server.closing.wait()

    server.play(stop_instead)
    with pytest.raises(RunInterruptedError):
        client.fetch_images(TARGET)


def test_after_stop_nothing_is_asked(server: ScriptedServer, client: Client) -> None:
    script = server.play(answer())
    client.stop()
    with pytest.raises(RunInterruptedError):
        client.fetch_images(TARGET)
    assert not script.requests


def test_no_secret_reaches_an_error_or_the_log(
    server: ScriptedServer, new_client: NewClient, caplog: pytest.LogCaptureFixture
) -> None:
    canonical = f"server string to sign: x-acs-security-token:{CANARY}-token {CANARY}"
    server.play(error("DbError", 500, canonical), error("SignatureDoesNotMatch", 400, canonical))
    with caplog.at_level(logging.DEBUG):
        caught = failure_of(new_client(lambda: Credential("id", CANARY, f"{CANARY}-token")))
    assert CANARY not in caplog.text + repr(caught) + caught.message + repr(caught.__cause__)
    assert "string to sign" in caught.message
