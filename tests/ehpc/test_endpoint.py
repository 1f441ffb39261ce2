"""Which endpoints are accepted, and the hosts they give."""

import pytest

from sync.ehpc.endpoint import Endpoint
from sync.errors import CallError, ConfigError


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://ehpc.{region}.aliyuncs.com", "ehpc.cn-hangzhou.aliyuncs.com"),
        ("https://EHPC-vpc.{region}.aliyuncs.com:443/", "ehpc-vpc.cn-hangzhou.aliyuncs.com"),
        ("https://gateway.example:8443", "gateway.example:8443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://localhost", "localhost"),
    ],
)
def test_an_endpoint_gives_the_host_of_a_region(url: str, host: str) -> None:
    assert Endpoint.of(url).host_for("cn-hangzhou") == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ehpc.aliyuncs.com",
        "ftp://ehpc.aliyuncs.com",
        "https://",
        "https://host/path",
        "https://host?query",
        "https://host#part",
        "https://user:canary@host",
        "https://host:port",
        "http://ehpc.{region}.aliyuncs.com",
        "http://127.0.0.1.example.com",
        "http://{region}",
        "https://[::1",
    ],
)
def test_any_other_endpoint_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match="endpoint") as caught:
        Endpoint.of(url)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("region_id", ["", "cn hangzhou", "evil.example/", "-a", "a" * 64, "cn@host"])
def test_what_cannot_be_a_region_id_is_never_part_of_a_host(region_id: str) -> None:
    with pytest.raises(CallError) as caught:
        Endpoint.of("https://ehpc.{region}.aliyuncs.com").host_for(region_id)
    assert (caught.value.code, caught.value.stops_region) == ("network.dns", True)
