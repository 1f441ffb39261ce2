"""Who may look: under which names the server answers, with which token, and that the token stays where it is."""

import base64
import http.client
import logging
import re
import socket
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from sync.config import Settings
from sync.store.database import Database
from sync.web.access import Gate, is_own_host
from sync.web.app import Source, create_app
from tests.web.stage import REGIONS, a_source, get, served

TOKEN = "canary-token-4f1c88e0"

FILE = "/static/icon.svg"
"""What needs no database."""


def settings(**keys: object) -> Settings:
    return Settings.model_validate({"regions": REGIONS, **keys})


def asked_raw(url: str, *lines: str) -> tuple[int, str]:
    """Return status and body of the answer to a request as it stands."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=30) as client:
        client.sendall("".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode("latin-1"))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        return answer.status, answer.read().decode()


def asked_under(url: str, host: str, *lines: str, path: str = FILE) -> tuple[int, str]:
    return asked_raw(url, f"GET {path} HTTP/1.1", f"Host: {host}", *lines)


@pytest.fixture
def source(empty_file: Database) -> Source:
    """A server that is reached under one more name, and whose database is of no interest."""
    return a_source(empty_file, settings=settings(http_hosts=["Images.Example.com."]))


OWN = [
    "127.0.0.1",
    "127.0.0.1:9322",
    "10.1.2.3:80",
    "[::1]",
    "[2001:DB8::7]:9322",
    "localhost",
    "LOCALHOST:1",
    "localhost.:9322",
    "dashboard.localhost",
    "headnode",
    socket.gethostname(),
    "images.example.com",
    "IMAGES.example.com.:443",
]


def test_names_that_no_foreign_page_can_have_are_answered(source: Source) -> None:
    with served(source) as url:
        assert {host: asked_under(url, host)[0] for host in OWN} == dict.fromkeys(OWN, 200)


FOREIGN = [
    "evil.example",
    "evil.example:9322",
    "evil.example.",
    "images.example.com.evil.example",
    "notimages.example.com",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evillocalhost.example",
    "evil.evillocalhost",
    ".localhost.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost evil.example",
    "localhost, evil.example",
    "evil.example,localhost",
    "localhost#.evil.example",
    "localhost/",
    "http://localhost",
    "localhost:",
    "localhost:80:80",
    "localhost:999999",
    "localhost:٣".encode().decode("latin-1"),
    "l\xf6calhost",
    "",
    ".",
    "..",
    ":9322",
    "::1",
    "[::1",
    "[evil.example]",
    "[]",
    "%31",
    "evil.example" + "x" * 8000,
]


def test_all_other_names_are_refused(source: Source) -> None:
    with served(source) as url:
        told = {host: asked_under(url, host) for host in FOREIGN}
    assert {host: code for host, (code, _) in told.items()} == dict.fromkeys(FOREIGN, 421)
    assert told["evil.example"][1] == (
        "this server does not answer under the name 'evil.example'; use its IP address, "
        "or add the name to http_hosts in its configuration\n"
    )
    assert max(len(text) for _, text in told.values()) < 600


@given(st.text())
def test_no_text_before_a_foreign_name_makes_it_ours(text: str) -> None:
    assert not is_own_host(f"{text}.evil.example", {"images.example.com"})
    assert is_own_host(f"{text}.evil.example:80", {"images.example.com"}) is False


def test_a_request_with_two_names_is_refused(source: Source) -> None:
    with served(source) as url:
        assert asked_under(url, "localhost", "Host: evil.example")[0] == 421
        assert asked_under(url, "evil.example", "Host: localhost")[0] == 421


def test_a_request_without_a_name_gets_the_probes_alone(source: Source) -> None:
    with served(source) as url:
        codes = {path: asked_raw(url, f"GET {path} HTTP/1.0")[0] for path in (FILE, "/metrics", "/livez")}
    assert codes == {FILE: 421, "/metrics": 421, "/livez": 200}


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-Host", "X-Forwarded-Server"])
def test_what_a_proxy_says_of_the_name_is_not_believed(source: Source, name: str) -> None:
    with served(source) as url:
        foreign = "host=localhost" if name == "Forwarded" else "localhost"
        assert asked_under(url, "evil.example", f"{name}: {foreign}")[0] == 421
        assert asked_under(url, "localhost", f"{name}: evil.example")[0] == 200


def test_the_name_in_an_absolute_address_does_not_count(source: Source) -> None:
    with served(source) as url:
        asked = "GET http://localhost/static/icon.svg HTTP/1.1"
        assert asked_raw(url, asked, "Host: evil.example")[0] == 421


def test_the_name_that_it_listens_on_is_known(empty_file: Database) -> None:
    with served(a_source(empty_file, settings=settings(http_listen="images.corp.example:9321"))) as url:
        assert asked_under(url, "images.corp.example:9321")[0] == 200


def test_a_method_that_writes_is_refused_everywhere(source: Source) -> None:
    secured = replace(source, settings=settings(http_token=TOKEN))
    methods = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
    with served(secured) as url:
        told = [
            requests.request(method, f"{url}{path}", timeout=30)
            for method in methods
            for path in ("/", "/overview", FILE, "/metrics", "/livez", "/nothing")
        ]
    assert {(answer.status_code, answer.headers["Allow"]) for answer in told} == {(405, "GET, HEAD")}


@pytest.fixture
def secured(file_history: Database) -> Source:
    """A history that asks for the token."""
    return a_source(file_history, settings=settings(http_token=TOKEN))


def paths_of(source: Source) -> list[str]:
    """Return the address of everything that is served but the probes."""
    rules = create_app(source).url_map.iter_rules()
    return sorted(
        rule.rule.replace("<path:filename>", "style.css") for rule in rules if rule.rule not in {"/livez", "/healthz"}
    )


def test_everything_but_the_probes_asks_for_the_token(secured: Source) -> None:
    paths = [*paths_of(secured), "/nothing", "/static/nothing", "/livez/", "//livez/.", "/overview?x=1"]
    assert {"/overview", "/overview.json", "/metrics", "/plotly.min.js", "/static/style.css"} <= set(paths)
    with served(secured) as url:
        told = {path: get(url, path) for path in paths}
    assert {path: answer.status_code for path, answer in told.items()} == dict.fromkeys(paths, 401)
    for answer in told.values():
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')
        assert "Authorization: Bearer TOKEN" in answer.text


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode("latin-1")).decode()


@pytest.mark.parametrize(
    "given",
    [f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(f"anybody:{TOKEN}"), basic(f":{TOKEN}"), basic(f"é:{TOKEN}")],
)
def test_the_token_opens_everything(secured: Source, given: str) -> None:
    with served(secured) as url:
        codes = {get(url, path, Authorization=given).status_code for path in ("/", FILE, "/metrics", "/overview.json")}
    assert codes == {200}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Token {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer \xe9\xff",
        "Basic",
        "Basic %%%",
        "Basic \xe9",
        basic(TOKEN),
        basic(f"{TOKEN}:"),
        basic(f"user:{TOKEN}:"),
        basic("user:"),
        basic("user:\xff\xfe"),
        basic(f"user:{TOKEN}")[:-1],
    ],
)
def test_anything_else_does_not_open_it(secured: Source, given: str) -> None:
    with served(secured) as url:
        assert asked_under(url, "localhost", f"Authorization: {given}")[0] == 401


@pytest.mark.parametrize("place", [f"?token={TOKEN}", f"?access_token={TOKEN}", f"?http_token={TOKEN}"])
def test_a_token_in_an_address_opens_nothing(secured: Source, place: str) -> None:
    with served(secured) as url:
        assert get(url, f"/overview{place}").status_code == 401


def test_a_foreign_name_is_refused_with_the_token_too(secured: Source) -> None:
    with served(secured) as url:
        assert asked_under(url, "evil.example", f"Authorization: Bearer {TOKEN}")[0] == 421


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_probes_need_no_token(secured: Source, path: str) -> None:
    with served(secured) as url:
        assert get(url, path).status_code == 200


def test_health_tells_its_reasons_only_to_who_may_look(secured: Source) -> None:
    never = replace(secured, settings=settings(regions=["cn-shanghai"], http_token=TOKEN))
    with served(never) as url:
        plain, full = get(url, "/healthz"), get(url, "/healthz", Authorization=f"Bearer {TOKEN}")
        foreign = asked_under(url, "evil.example", f"Authorization: Bearer {TOKEN}", path="/healthz")
    assert (plain.status_code, plain.json()) == (503, {"status": "unhealthy"})
    assert full.json() == {"status": "unhealthy", "reasons": ["cn-shanghai has never been observed"]}
    assert foreign == (503, plain.text)


def test_health_without_a_token_tells_its_reasons_under_names_that_are_ours(file_history: Database) -> None:
    never = a_source(file_history, settings=settings(regions=["cn-shanghai"]))
    with served(never) as url:
        assert "cn-shanghai" in asked_under(url, "127.0.0.1", path="/healthz")[1]
        assert "cn-shanghai" not in asked_under(url, "evil.example", path="/healthz")[1]


def test_nobody_on_the_way_keeps_what_needed_a_token(secured: Source) -> None:
    with served(secured) as url:
        told = {path: get(url, path, Authorization=f"Bearer {TOKEN}") for path in paths_of(secured)}
        (style,) = re.findall(r'href="(/static/style\.css\?v=[^"]+)"', told["/overview"].text)
        told[style] = get(url, style, Authorization=f"Bearer {TOKEN}")
    assert "private, max-age=31536000" in told[style].headers["Cache-Control"]
    assert [path for path, answer in told.items() if "public" in answer.headers["Cache-Control"]] == []


def test_the_token_stands_in_no_answer_and_in_no_log(secured: Source, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        raise RuntimeError("broken")

    given = basic(f"user:{TOKEN}")
    source = replace(secured, is_alive=broken)
    paths = [*paths_of(source), "/livez", "/healthz", "/nothing", "/overview?x=1", "/overview.json?region=x"]
    with caplog.at_level(logging.DEBUG), served(source) as url:
        told = [get(url, path, Authorization=given, Accept="text/html") for path in paths]
        told += [requests.post(f"{url}/overview", headers={"Authorization": given}, timeout=30)]
        shown = "".join(f"{answer.status_code}{answer.headers}{answer.text}" for answer in told)
    assert {answer.status_code for answer in told} >= {200, 400, 404, 405, 500}
    assert "'/livez' could not be answered" in caplog.text
    for secret in (TOKEN, given.partition(" ")[2]):
        assert secret not in shown + caplog.text + repr(source.settings)


def test_without_a_token_in_the_configuration_nobody_is_asked(file_history: Database) -> None:
    with served(a_source(file_history)) as url:
        assert get(url, "/overview").status_code == 200
        assert get(url, "/overview", Authorization="Bearer whatever").status_code == 200


def test_the_full_name_of_this_machine_is_learnt() -> None:
    full_name = socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)[0][3].lower()
    gate = Gate(settings())
    gate.learning.join(30)
    assert full_name in gate.names
    assert is_own_host(f"{full_name}:9322", gate.names)
