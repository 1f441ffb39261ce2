"""Where the API is: one host per region, checked before any credential is sent there."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from sync.errors import CallError, ConfigError

_REGION_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API is; ``{region}`` in the host stands for the region id."""

    scheme: str
    host: str

    @classmethod
    def of(cls, url: str) -> "Endpoint":
        """Return the endpoint of a configured URL.

        Raises:
            ConfigError: it is no plain https URL of a host, or http to another machine.
        """
        parts = _split(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"endpoint {_shown(url)}: write it as https://host or https://host:port")
        if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ConfigError(f"endpoint {_shown(url)}: only scheme, host and port can be set")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigError(f"endpoint {_shown(url)}: use https, plain http is for 127.0.0.1 and localhost only")
        default_port = {"http": ":80", "https": ":443"}[parts.scheme]
        return cls(parts.scheme, parts.netloc.lower().removesuffix(default_port))

    def host_for(self, region_id: str) -> str:
        """Return the host, with its port where it is not the default one.

        Raises:
            CallError: the region id cannot be a part of a host's name.
        """
        if not _REGION_ID.fullmatch(region_id):
            raise CallError("network.dns", f"{region_id[:80]!r} is no region id: check `regions`", stops_region=True)
        return self.host.replace("{region}", region_id.lower())


def _shown(url: str) -> str:
    """Return the URL without what may be a password."""
    return repr(re.sub(r"//[^/]*@", "//***@", url))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.replace("{region}", "region-placeholder"))
        _ = parts.port
    except ValueError as error:
        raise ConfigError(f"endpoint {_shown(url)}: is no URL ({error})") from error
    return parts._replace(netloc=parts.netloc.replace("region-placeholder", "{region}"))


def is_loopback(host: str) -> bool:
    """Return whether the host is this machine, by its address or as ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
