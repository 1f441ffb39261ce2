"""HTTP as it goes wrong: every broken, slow or oversized answer is a failure with its code."""

import gzip
import socket
import time
from collections.abc import Callable
from threading import Event

import pytest

from sync.ehpc.fetch import Client
from sync.ehpc.transport import MAX_BODY_BYTES
from sync.errors import CallError, ConfigError
from sync.inventory import Target
from tests.ehpc.conftest import NewClient
from tests.ehpc.server import Answer, ScriptedServer, answer, images_body, zipped

TARGET = Target("cn-hangzhou", "ecs.c7.large")


def code_of(client: Client) -> str:
    with pytest.raises(CallError) as caught:
        client.fetch_images(TARGET)
    return caught.value.code


def dripping(start: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    """Send ``start`` and then one drop every 50 ms, for ever: each read is quick, the answer never ends."""

    def write(connection: socket.socket) -> None:
        connection.sendall(start)
        while not Event().wait(0.05):
            connection.sendall(drop)

    return write


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
ZIPPED = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nContent-Encoding: gzip\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        dripping(LONG, b" "),
        dripping(CHUNKED, b"1\r\n \r\n"),
        dripping(ZIPPED + gzip.compress(b"x")[:10], b"\0"),
        dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        dripping(b"HTTP/1.1 200", b"O"),
    ],
    ids=["body", "chunks", "gzip", "headers", "status"],
)
def test_an_answer_that_drips_on_beyond_twice_the_read_timeout_times_out(
    server: ScriptedServer, new_client: NewClient, reply: Answer
) -> None:
    server.play(reply)
    started = time.monotonic()
    assert code_of(new_client(read_timeout_s=0.2, max_attempts=1)) == "network.timeout"
    assert time.monotonic() - started < 4


def test_a_server_that_is_silent_times_out(server: ScriptedServer, new_client: NewClient) -> None:
    def be_silent(_: socket.socket) -> None:
        server.closing.wait()

    server.play(be_silent)
    assert code_of(new_client(read_timeout_s=0.1, max_attempts=1)) == "network.timeout"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (LONG.replace(b"OK", b"OK\r\nConnection: close") + images_body(), "network.reset"),
        (CHUNKED.replace(b"OK", b"OK\r\nConnection: close") + b"ff\r\n" + images_body()[:20], "network.reset"),
        (CHUNKED.replace(b"OK", b"OK\r\nConnection: close") + b"zz\r\n" + images_body(), "network.reset"),
        (b"no HTTP at all\r\n\r\n", "network.reset"),
        (answer(gzip.compress(images_body())[:-9], Content_Encoding="gzip"), "answer.unreadable"),
        (answer(gzip.compress(images_body())[:-1], Content_Encoding="gzip"), "answer.unreadable"),
        (answer(images_body(), Content_Encoding="gzip"), "answer.unreadable"),
        (answer(images_body(), Content_Encoding="br"), "answer.unreadable"),
        (answer(b" " * (MAX_BODY_BYTES + 1)), "answer.too_large"),
        (zipped(b" " * (MAX_BODY_BYTES + 1)), "answer.too_large"),
        (answer(b"<html>sign in</html>"), "answer.unreadable"),
        (answer(b"<html>bad gateway</html>", 502), "http.502"),
        (answer(b"", 204), "http.204"),
        (answer(b"", 407), "http.407"),
        (answer(images_body(), 500), "http.500"),
    ],
)
def test_a_broken_answer_is_never_read(server: ScriptedServer, new_client: NewClient, reply: bytes, code: str) -> None:
    server.play(reply)
    assert code_of(new_client(max_attempts=1)) == code


def test_a_connection_closed_without_a_word_is_a_reset(server: ScriptedServer, new_client: NewClient) -> None:
    server.play(lambda connection: None)
    assert code_of(new_client(max_attempts=1)) == "network.reset"


@pytest.mark.parametrize(
    "reply",
    [
        zipped(images_body()),
        answer(images_body(), Content_Type="text/html"),
        answer(b"\xef\xbb\xbf" + images_body()),
        CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(images_body()), images_body()),
        b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n" + images_body(),
    ],
    ids=["gzip", "content-type", "bom", "chunked", "until-close"],
)
def test_a_whole_answer_is_read_however_it_is_wrapped(server: ScriptedServer, client: Client, reply: bytes) -> None:
    server.play(reply)
    assert len(client.fetch_images(TARGET).value) == 1


def test_a_redirect_is_not_followed(server: ScriptedServer, new_client: NewClient) -> None:
    script = server.play(answer(b"", 302, Location=f"{server.url}/elsewhere"))
    assert code_of(new_client(max_attempts=2)) == "http.302"
    assert {request.target.partition("?")[0] for request in script.requests} == {"/"}


def test_connections_are_kept(server: ScriptedServer, client: Client) -> None:
    for _ in range(5):
        client.fetch_images(TARGET)
    assert server.connection_count == 1


def test_a_refused_connection_is_told_apart(new_client: NewClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert code_of(new_client(endpoint=endpoint)) == "network.connect"


def test_a_host_without_an_address_says_to_check_the_region(new_client: NewClient) -> None:
    with pytest.raises(CallError, match="check the region id") as caught:
        new_client(endpoint="https://ehpc.{region}.invalid").fetch_images(TARGET)
    assert caught.value.code == "network.dns"


def test_a_peer_that_speaks_no_tls_is_told_apart(server: ScriptedServer, new_client: NewClient) -> None:
    assert code_of(new_client(endpoint=server.url.replace("http:", "https:"), max_attempts=1)) == "network.tls"


def test_a_ca_bundle_that_cannot_be_read_is_a_configuration_error(
    server: ScriptedServer, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(ConfigError, match=r"/nowhere/bundle\.pem"):
        new_client(endpoint="https://127.0.0.1:1").fetch_images(TARGET)


def test_a_proxy_gets_the_calls_to_other_machines_through_a_tunnel(
    server: ScriptedServer, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = server.play(answer(b"", 407))
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    assert code_of(new_client(endpoint="https://ehpc.{region}.invalid", max_attempts=1)) == "network.connect"
    assert script.requests[0].target == "ehpc.cn-hangzhou.invalid:443"
    assert not any("acs" in name or name == "authorization" for name in script.requests[0].headers)


def test_this_machine_is_never_asked_through_a_proxy(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert client.fetch_images(TARGET).value
