"""TLS: only a certificate for the host, from a trusted authority, gets to see a request."""

import ipaddress
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sync.errors import CallError
from sync.inventory import Target
from tests.ehpc.conftest import NewClient
from tests.ehpc.server import ScriptedServer, answer

TARGET = Target("cn-hangzhou", "ecs.c7.large")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of its own authority for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scripted")])
    hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("ehpc.cn-hangzhou.invalid")]
    today = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ScriptedServer(context)
    yield server
    server.close()


def https(server: ScriptedServer, host: str = "127.0.0.1") -> str:
    return f"https://{host}:{server.server_address[1]}"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_the_environment_is_trusted(
    tls_server: ScriptedServer,
    new_client: NewClient,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(certificate))
    script = tls_server.play(answer())
    client = new_client(endpoint=https(tls_server))
    assert client.fetch_images(TARGET).value
    assert client.fetch_images(TARGET).value
    assert (len(script.requests), tls_server.connection_count) == (2, 1)


@pytest.mark.parametrize(("host", "is_trusted"), [("127.0.0.1", False), ("localhost", True)], ids=["unknown", "other"])
def test_any_other_certificate_ends_the_call_before_the_request(
    tls_server: ScriptedServer,
    new_client: NewClient,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    is_trusted: bool,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate) if is_trusted else "")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    script = tls_server.play(answer())
    with pytest.raises(CallError) as caught:
        new_client(endpoint=https(tls_server, host), max_attempts=1).fetch_images(TARGET)
    assert caught.value.code == "network.tls"
    assert not script.requests


def test_a_drip_inside_tls_ends_at_the_deadline(
    tls_server: ScriptedServer, new_client: NewClient, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drip(connection: object) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not tls_server.closing.wait(0.05):
            connection.sendall(b" ")

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_server.play(drip)
    with pytest.raises(CallError, match=r"network\.timeout"):
        new_client(endpoint=https(tls_server), read_timeout_s=0.2, max_attempts=1).fetch_images(TARGET)


def tunnel_to(target: ScriptedServer) -> Callable[[socket.socket], None]:
    """What a proxy does after CONNECT: pass the bytes on, both ways, until one side closes."""

    def pass_on(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", target.server_address[1])) as server:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (server if ready is client else client).sendall(data)

    return pass_on


def test_a_proxy_passes_on_what_it_cannot_read(
    server: ScriptedServer,
    tls_server: ScriptedServer,
    new_client: NewClient,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    seen_by_proxy, seen_by_api = server.play(tunnel_to(tls_server)), tls_server.play(answer())
    assert new_client(endpoint="https://ehpc.{region}.invalid").fetch_images(TARGET).value
    assert [request.target for request in seen_by_proxy.requests] == ["ehpc.cn-hangzhou.invalid:443"]
    assert [request.headers["host"] for request in seen_by_api.requests] == ["ehpc.cn-hangzhou.invalid"]


def test_a_host_in_no_proxy_is_asked_directly(
    server: ScriptedServer, new_client: NewClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", ".invalid")
    script = server.play(answer())
    with pytest.raises(CallError, match=r"network\.dns"):
        new_client(endpoint="https://ehpc.{region}.invalid", max_attempts=1).fetch_images(TARGET)
    assert not script.requests
