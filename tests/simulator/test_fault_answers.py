import gzip
import http.client
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from tests.simulator.client import Answer, Signer, call


def ask(simulator: Simulator, action: str = "ListImages", signer: Signer | None = None) -> Answer:
    return call(simulator, action, signer, InstanceType="ecs.c7.large", RegionId="cn-hangzhou")


def strike(simulator: Simulator, text: str) -> None:
    simulator.faults = parse_faults(text)


def test_throttling_comes_as_400_with_the_time_to_wait(simulator: Simulator) -> None:
    strike(simulator, "throttle retry_after=700ms")
    answer = ask(simulator)
    assert (answer.status, answer.code) == (400, "Throttling.User")
    assert answer.headers["x-acs-retry-after"] == "700"


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("status=503", 503, "ServiceUnavailable"),
        ("code=EcsError", 406, "EcsError"),
        ("error", 500, "InternalError"),
        ("status=599 code=Odd.Code", 599, "Odd.Code"),
    ],
)
def test_an_error_answer_has_the_status_and_code_that_were_asked_for(
    simulator: Simulator, text: str, status: int, code: str
) -> None:
    strike(simulator, text)
    answer = ask(simulator)
    assert (answer.status, answer.code) == (status, code)
    assert simulator.calls()[-1].code == code


def test_an_error_can_be_xml(simulator: Simulator) -> None:
    strike(simulator, "xml status=503")
    answer = ask(simulator)
    assert answer.headers["content-type"].startswith("text/xml")
    assert b"<Code>ServiceUnavailable</Code>" in answer.body


@pytest.mark.parametrize("status", [200, 502])
def test_a_proxy_can_answer_html(simulator: Simulator, status: int) -> None:
    strike(simulator, f"html status={status}")
    answer = ask(simulator)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html")
    assert b"<html>" in answer.body


def test_a_body_can_be_empty(simulator: Simulator) -> None:
    strike(simulator, "empty")
    assert ask(simulator).body == b""


def test_garbage_is_complete_but_no_json(simulator: Simulator) -> None:
    strike(simulator, "garbage")
    with pytest.raises(json.JSONDecodeError):
        _ = ask(simulator).json


@pytest.mark.parametrize(("action", "key"), [("ListImages", "OsTags"), ("ListRegions", "Regions")])
def test_a_wrong_shape_stands_where_the_list_belongs(simulator: Simulator, action: str, key: str) -> None:
    strike(simulator, "shape")
    answer = ask(simulator, action)
    assert answer.json[key] == "x"


def test_a_huge_body_has_the_size_that_was_asked_for(simulator: Simulator) -> None:
    strike(simulator, "huge=2MB")
    answer = ask(simulator)
    assert len(answer.body) == 2_097_152
    assert answer.json["OsTags"] == {}


def test_a_connection_is_reset_before_the_answer(simulator: Simulator) -> None:
    strike(simulator, "reset")
    with pytest.raises(ConnectionResetError):
        ask(simulator)


def test_a_connection_is_reset_inside_the_body(simulator: Simulator) -> None:
    strike(simulator, "cut")
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(simulator)


def test_a_truncated_body_is_shorter_than_its_content_length(simulator: Simulator) -> None:
    strike(simulator, "truncate")
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(simulator)
    assert cut.value.expected is not None
    assert cut.value.expected > 0


def test_a_truncated_body_can_be_compressed(simulator: Simulator) -> None:
    strike(simulator, "truncate")
    with pytest.raises(http.client.IncompleteRead) as cut:
        call(simulator, "ListAvailableEcsTypes", Signer(headers={"accept-encoding": "gzip"}), RegionId="cn-hangzhou")
    with pytest.raises(EOFError):
        gzip.decompress(cut.value.partial)


def test_a_dripping_answer_is_slow_but_complete(simulator: Simulator) -> None:
    strike(simulator, "drip=0.1ms")
    assert ask(simulator).json["OsTags"]


def test_a_delayed_answer_is_late_and_good(simulator: Simulator) -> None:
    strike(simulator, "delay=50ms")
    started = time.monotonic()
    assert ask(simulator).status == 200
    assert time.monotonic() - started >= 0.05


def test_a_delay_goes_together_with_another_fault(simulator: Simulator) -> None:
    strike(simulator, "delay=20ms; throttle; html")
    started = time.monotonic()
    assert ask(simulator).code == "Throttling.User"
    assert time.monotonic() - started >= 0.02


def test_a_skewed_server_tells_its_time_and_wants_it_signed(simulator: Simulator) -> None:
    strike(simulator, "skew=20m")
    refused = ask(simulator)
    offset = parsedate_to_datetime(refused.headers["date"]) - datetime.now(UTC)
    assert refused.code == "InvalidTimeStamp.Expired"
    assert abs(offset - timedelta(minutes=20)) < timedelta(seconds=5)
    assert ask(simulator, signer=Signer(skew=offset)).status == 200


def test_a_fault_ends_with_its_count(simulator: Simulator) -> None:
    strike(simulator, "status=503 first=1")
    assert [ask(simulator).status for _ in range(2)] == [503, 200]


def test_a_bad_signature_is_refused_before_any_fault(simulator: Simulator) -> None:
    strike(simulator, "status=503")
    assert ask(simulator, signer=Signer(secret="wrong")).code == "SignatureDoesNotMatch"


def test_the_log_names_the_fault(simulator: Simulator) -> None:
    strike(simulator, "garbage type=ecs.c7*")
    ask(simulator)
    call(simulator, "ListRegions")
    assert [known.fault for known in simulator.calls()] == ["garbage", ""]
