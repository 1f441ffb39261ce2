import socket
import threading
import time
from collections.abc import Sequence

import pytest

from sync.errors import ConfigError
from sync.simulator.catalogue import Catalogue
from sync.simulator.fault_text import parse_faults
from sync.simulator.server import Simulator
from sync.simulator.timeline import Step
from tests.simulator.client import Signer, call, control, send


def connect(simulator: Simulator) -> socket.socket:
    return socket.create_connection(("127.0.0.1", simulator.port), timeout=5)


def request_of(simulator: Simulator) -> bytes:
    headers = Signer().headers_of("GET", simulator.host_and_port, "ListRegions", "")
    lines = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def receive_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def simulator_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("simulator-")]


@pytest.fixture
def story(catalogue: Catalogue) -> Sequence[Step]:
    return [Step("one", "First.", catalogue), Step("two", "Second.", catalogue), Step("three", "Third.", catalogue)]


def test_it_serves_on_a_free_port_and_says_which(simulator: Simulator) -> None:
    assert simulator.url == f"http://127.0.0.1:{simulator.port}"
    assert (simulator.access_key_id, simulator.access_key_secret) == ("simulator-id", "simulator-secret")
    assert call(simulator, "ListRegions").status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.com", "::", ""])
def test_it_refuses_to_listen_beyond_loopback(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        Simulator(host=host)


def test_a_taken_port_is_refused_with_a_sentence(simulator: Simulator, catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{simulator.port}"):
        Simulator(catalogue, port=simulator.port).start()


def test_a_port_out_of_range_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match="99999"):
        Simulator(catalogue, port=99_999).start()


def test_many_requests_use_one_connection(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        for _ in range(3):
            connection.sendall(request_of(simulator))
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert simulator.call_count(action="ListRegions") == 3


def test_pipelined_requests_are_answered_in_order(simulator: Simulator) -> None:
    last = request_of(simulator).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connect(simulator) as connection:
        connection.sendall(request_of(simulator) + last)
        assert receive_all(connection).count(b"HTTP/1.1 200 OK") == 2


def test_the_connection_closes_when_the_client_asks(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        connection.sendall(request_of(simulator).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert b"Connection: close" in receive_all(connection)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /?" + b"a=1&" * 300 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400_and_a_closed_connection(simulator: Simulator, data: bytes) -> None:
    with connect(simulator) as connection:
        connection.sendall(data)
        assert receive_all(connection).startswith(b"HTTP/1.1 400 Bad Request")
    assert call(simulator, "ListRegions").status == 200


def test_a_client_that_hangs_up_disturbs_nobody(simulator: Simulator) -> None:
    with connect(simulator) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHo")
    assert call(simulator, "ListRegions").status == 200


def test_it_works_as_a_plain_proxy(simulator: Simulator) -> None:
    headers = Signer().headers_of("GET", "ehpc.cn-shanghai.aliyuncs.com", "ListImages", "")
    answer = send(simulator, "GET", "http://ehpc.cn-shanghai.aliyuncs.com/", headers)
    assert answer.status == 200
    assert simulator.calls()[-1].region_id == "cn-shanghai"


def test_stop_ends_idle_connections_and_leaves_no_thread(catalogue: Catalogue) -> None:
    simulator = Simulator(catalogue).start()
    with connect(simulator) as idle, connect(simulator) as used:
        used.sendall(request_of(simulator))
        used.recv(65_536)
        started = time.monotonic()
        simulator.stop()
        assert time.monotonic() - started < 2
        assert (idle.recv(1), used.recv(1)) == (b"", b"")
    assert simulator_threads() == []


@pytest.mark.parametrize("fault", ["delay=60s", "drip=60s"])
def test_stop_does_not_wait_for_slow_answers(catalogue: Catalogue, fault: str) -> None:
    simulator = Simulator(catalogue).start()
    simulator.faults = parse_faults(fault)
    with connect(simulator) as connection:
        connection.sendall(request_of(simulator))
        while simulator.call_count() == 0:
            threading.Event().wait(0.001)
        started = time.monotonic()
        simulator.stop()
    assert time.monotonic() - started < 2
    assert simulator_threads() == []


def test_it_starts_again_after_a_stop_and_keeps_its_place(story: Sequence[Step]) -> None:
    simulator = Simulator(story)
    with simulator:
        simulator.advance()
    with simulator:
        assert call(simulator, "ListRegions").status == 200
    assert simulator.step.name == "two"
    simulator.stop()


def test_the_timeline_advances_to_its_end_and_stays(story: Sequence[Step]) -> None:
    simulator = Simulator(story)
    names = [simulator.step.name, *(simulator.advance().name for _ in range(3))]
    assert names == ["one", "two", "three", "three"]
    assert simulator.is_at_end


def test_a_step_is_reached_by_name_or_index(story: Sequence[Step]) -> None:
    simulator = Simulator(story)
    assert simulator.go_to("three").name == "three"
    assert simulator.go_to(0).name == "one"
    with pytest.raises(ConfigError, match="no step four; it has one, two, three"):
        simulator.go_to("four")


def test_an_empty_timeline_is_refused() -> None:
    with pytest.raises(ConfigError, match="one step or more"):
        Simulator([])


@pytest.mark.parametrize("name", ["", "state"])
def test_the_state_is_read_over_http(story: Sequence[Step], name: str) -> None:
    with Simulator(story) as simulator:
        call(simulator, "ListRegions")
        state = control(simulator, "GET", name).json
    assert (state["name"], state["description"], state["step"], state["is_at_end"]) == ("one", "First.", "0", False)
    assert state["regions"] == {"cn-hangzhou": "7", "cn-shanghai": "1"}
    assert state["calls"] == {"ok": "1"}


def test_the_timeline_is_played_over_http(story: Sequence[Step]) -> None:
    with Simulator(story) as simulator:
        assert control(simulator, "POST", "advance").json["name"] == "two"
        assert simulator.step_index == 1
        assert control(simulator, "POST", "reset").json["name"] == "one"


def test_faults_are_set_and_cleared_over_http(simulator: Simulator) -> None:
    text = "status=503 region=cn-h*; delay=2s first=1"
    assert control(simulator, "POST", "faults", text).json["faults"] == [
        "error region=cn-h* status=503",
        "delay=2s first=1",
    ]
    assert control(simulator, "POST", "faults", "").json["faults"] == []


def test_a_bad_fault_over_http_is_refused_and_changes_nothing(simulator: Simulator) -> None:
    control(simulator, "POST", "faults", "reset")
    answer = control(simulator, "POST", "faults", "rset")
    assert answer.status == 400
    assert "did you mean reset?" in answer.json["error"]
    assert len(simulator.faults) == 1


def test_a_reset_forgets_faults_and_calls(simulator: Simulator) -> None:
    call(simulator, "ListRegions")
    simulator.faults = parse_faults("reset")
    simulator.reset()
    assert (simulator.faults, simulator.calls(), simulator.call_count()) == ((), (), 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example.com"},
        {"Host": "127.0.0.1.evil.example.com"},
        {"Host": "[::1"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
    ],
)
def test_a_foreign_page_cannot_drive_it(story: Sequence[Step], headers: dict[str, str]) -> None:
    with Simulator(story) as simulator:
        answer = control(simulator, "POST", "advance", **headers)
        assert (answer.status, simulator.step_index) == (403, 0)


def test_its_own_page_can_drive_it(story: Sequence[Step]) -> None:
    with Simulator(story) as simulator:
        assert control(simulator, "POST", "advance", Origin=simulator.url).status == 200


def test_unknown_control_addresses_list_the_known_ones(simulator: Simulator) -> None:
    answer = control(simulator, "GET", "advance")
    assert answer.status == 404
    assert "POST /_simulator/advance" in answer.json["error"]


def test_control_requests_are_not_counted_as_calls(simulator: Simulator) -> None:
    control(simulator, "GET", "")
    assert simulator.call_count() == 0
