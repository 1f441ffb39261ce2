"""Configuration: ``ehpc-image-sync.toml``, overridden by EHPC_SYNC_* variables, overridden by flags."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from sync.errors import ConfigError
from sync.inventory import utc_now
from sync.ticks import GOOD_EXPRESSION, Schedule, parse_schedule, parse_span

DEFAULT_FILE = "ehpc-image-sync.toml"
ENVIRONMENT_PREFIX = "EHPC_SYNC_"
_ENVIRONMENT = "the environment"
CONFIG_VARIABLE = "EHPC_SYNC_CONFIG"
DISCOVER = "discover"
ALL_REGIONS = "all"


def _as_tuple(value: Any) -> Any:
    """Split a comma-separated text, as the environment and flags give lists; other values stay as they are."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _as_urls(value: Any) -> Any:
    """Split a text where a next URL begins: commas may stand inside a URL too."""
    if isinstance(value, str):
        return tuple(
            part.strip(", \t\n") for part in re.split(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", value) if part.strip()
        )
    return value


SECRET_KEYS = frozenset({"database_url", "notify_urls", "ping_url", "http_token"})
"""Keys whose values may hold passwords or tokens and are never shown."""

SHORTEST_TOKEN = 16  # characters; fewer can be guessed over a network

MAKE_ONE = "make one with: openssl rand -hex 32"

_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")

STALE_INTERVALS = 3
"""How many of the schedule's intervals may pass without an observation until data are stale."""

Names = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], BeforeValidator(_as_tuple)]


class Settings(BaseModel):
    """All configuration keys with their defaults and meaning; frozen, checked, without secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    database_url: str = Field(
        "sqlite:///ehpc-images.db", description="SQLAlchemy URL of SQLite, PostgreSQL, MariaDB or MySQL"
    )
    regions: Names = Field((), description="region ids, or all")
    instance_types: Names = Field((DISCOVER,), description="exact names, globs, or discover for all types")
    all_types_target: bool = Field(default=False, description="also ask once per region without InstanceType")
    exclude_instance_types: Names = Field((), description="globs of instance types to leave out")
    base_os_tags: Names = Field((), description="also ask each instance type with these BaseOsTags")
    endpoint: str = Field("https://ehpc.{region}.aliyuncs.com", description="API endpoint; plain http only to loopback")
    calls_per_second: float = Field(10, gt=0, le=10_000, description="calls per second and region")
    workers: int = Field(16, ge=1, le=256, description="requests in flight")
    connect_timeout_s: float = Field(5, gt=0, le=600, description="seconds to connect")
    read_timeout_s: float = Field(30, gt=0, le=3600, description="seconds without data")
    max_attempts: int = Field(5, ge=1, le=20, description="attempts per call")
    removal_confirmations: int = Field(
        2, ge=1, le=100, description="answers in a row that must miss an image before its removal is believed"
    )
    removal_limit_percent: float = Field(
        25, ge=0, le=100, description="hold a region's removals beyond this share of its pairs..."
    )
    removal_limit_count: int = Field(20, ge=0, description="...and beyond this number")
    removal_accept_after_runs: int = Field(
        3, ge=0, description="accept held removals when this many runs in a row missed them; 0 = never"
    )
    schedule: str = Field("*/30 * * * *", description="crontab expression, or every 15m")
    timezone: str = Field("UTC", description="time zone of the schedule, and of times typed and shown")
    schedule_jitter_s: float = Field(
        5, ge=0, le=3600, description="the daemon begins up to so many seconds late, at random"
    )
    stale_after: str | None = Field(
        None, description="age from which data are stale, such as 90m or 2d; without it 3 intervals of the schedule"
    )
    notify_urls: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_urls)] = Field(
        (), description="Apprise URLs of the channels that hear of changes and trouble"
    )
    notify_failures_after: int = Field(
        3, ge=1, le=1000, description="runs in a row that must fail until channels hear of it"
    )
    notify_template_dir: str | None = Field(None, description="folder of templates that replace those of messages")
    ping_url: str | None = Field(
        None, description="dead man's switch: asked at start (/start), end, and failure (/fail)"
    )
    http_listen: str | None = Field(
        None, description="address on which the daemon serves dashboard, health and metrics, such as 127.0.0.1:9321"
    )
    http_hosts: Names = Field(
        (), description="further names under which the server is reached, such as images.example.com"
    )
    http_token: str | None = Field(
        None,
        repr=False,
        description="token that pages and metrics ask for; from the environment alone, else from http_token_file",
    )
    http_token_file: str | None = Field(
        None, description="file that holds that token and nothing else; only who serves pages reads it"
    )
    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="text on a terminal and json elsewhere, or always one"
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{name!r} is not a time zone; write for example UTC or Asia/Shanghai") from None
        return name

    @field_validator("base_os_tags", "regions", "instance_types", "exclude_instance_types", "http_hosts")
    @classmethod
    def _no_repetition(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in names))

    @field_validator("stale_after")
    @classmethod
    def _is_span(cls, text: str | None) -> str | None:
        if text is not None and not parse_span(text):
            raise ValueError(f"{text!r} has no length")
        return text

    @field_validator("ping_url")
    @classmethod
    def _is_web_address(cls, url: str | None) -> str | None:
        if url is not None and (urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname):
            raise ValueError("it is not a web address; write for example https://hc-ping.com/your-uuid")
        return url

    @field_validator("http_listen")
    @classmethod
    def _is_address(cls, text: str | None) -> str | None:
        if text is not None:
            address_of(text)
        return text

    @field_validator("http_hosts")
    @classmethod
    def _are_host_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST_NAME.fullmatch(name.lower().removesuffix(".")):
                raise ValueError(f"{name!r} is not a name; write it as in images.example.com: no scheme, port or path")
        return names

    @field_validator("http_token")
    @classmethod
    def _is_token(cls, token: str | None) -> str | None:
        return None if token is None else _good_token(token)

    @model_validator(mode="after")
    def _is_schedule(self) -> "Settings":
        try:
            parse_schedule(self.schedule, self.zone)
        except ValueError as error:
            good = parse_schedule(GOOD_EXPRESSION, self.zone)
            times = ", ".join(format(tick.astimezone(self.zone), "%H:%M") for tick in next_ticks(good, utc_now()))
            hint = f"a good one is '{GOOD_EXPRESSION}', whose next three times are {times} {self.timezone}"
            raise ValueError(f"schedule: {error}; {hint}") from None
        return self

    @property
    def zone(self) -> ZoneInfo:
        """Return the time zone of times that are typed or shown."""
        return ZoneInfo(self.timezone)

    @cached_property
    def due(self) -> Schedule:
        """Return when runs are due."""
        return parse_schedule(self.schedule, self.zone)

    def stale_span(self, now: datetime) -> timedelta:
        """Return the age from which data are stale."""
        if self.stale_after:
            return parse_span(self.stale_after)
        return STALE_INTERVALS * self.due.longest_interval(now)

    @property
    def listen_address(self) -> tuple[str, int] | None:
        """Return host and port of the daemon's HTTP server; None where there is none."""
        return address_of(self.http_listen) if self.http_listen else None


def next_ticks(schedule: Schedule, now: datetime, count: int = 3) -> list[datetime]:
    """Return the next ticks of a schedule, as sentences about it show them."""
    return list(islice(schedule.ticks_after(now), count))


def address_of(text: str, *, lowest_port: int = 1) -> tuple[str, int]:
    """Return host and port; a port alone is one on loopback.

    Raises:
        ValueError: it is no address; the message has one that is.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and len(port) < 6 and lowest_port <= int(port) < 65536):
        raise ValueError(f"{text!r} is not an address; write for example 127.0.0.1:9321, or 0.0.0.0:9321 for all")
    return host, int(port)


KEYS: Mapping[str, FieldInfo] = Settings.model_fields


def load_settings(
    path: str | None,
    overrides: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
    *,
    has_file: bool = True,
) -> Settings:
    """Return the settings of a file, the environment and flags, each overriding the one before.

    ``path`` None means the file ``ehpc-image-sync.toml`` of the working folder, which may be missing; a file that
    is named must exist. Without ``has_file`` no file is looked for.

    Raises:
        ConfigError: a key is unknown or a value cannot be used; the message names the source and the remedy.
    """
    environment = os.environ if environment is None else environment
    path = path or environment.get(CONFIG_VARIABLE)
    values: dict[str, object] = {}
    source: dict[str, str] = {}
    for name, found in (
        (path or DEFAULT_FILE, _read_file(path) if has_file else {}),
        (_ENVIRONMENT, _read_environment(environment)),
        ("the command line", dict(overrides)),
    ):
        _refuse_unknown_keys(found, name)
        # An empty text switches off what a file has switched on.
        values |= {key: None if value == "" and KEYS[key].default is None else value for key, value in found.items()}
        source |= dict.fromkeys(found, name)
    _check_source_of_token(source, environment)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, source)) from None


def _check_source_of_token(source: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Refuse a token where others can read it, and an empty one, which would let everybody in by mistake."""
    if source.get("http_token", _ENVIRONMENT) != _ENVIRONMENT:
        raise ConfigError(
            f"{source['http_token']}: http_token does not belong there; put it into the variable "
            "EHPC_SYNC_HTTP_TOKEN, or into a file that http_token_file names"
        )
    if "http_token" in source and not environment.get(f"{ENVIRONMENT_PREFIX}HTTP_TOKEN"):
        raise ConfigError(f"{_ENVIRONMENT}: EHPC_SYNC_HTTP_TOKEN is empty; {MAKE_ONE}, or remove the variable")


def with_token(settings: Settings) -> Settings:
    """Return the settings of who serves pages: with the token of ``http_token_file``.

    Whoever does not serve needs no right to read that file.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    path = settings.http_token_file
    if settings.http_token or not path:
        return settings
    try:
        return settings.model_copy(update={"http_token": _good_token(_read_token(path))})
    except ValueError as error:
        raise ConfigError(f"http_token_file: {path}: {error}") from None


def _good_token(token: str) -> str:
    if len(token) < SHORTEST_TOKEN or any(not " " < mark <= "~" for mark in token):
        raise ValueError(f"a token has at least {SHORTEST_TOKEN} ASCII characters and no blanks; {MAKE_ONE}")
    return token


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text("utf-8-sig").strip()
    except OSError as error:
        raise ConfigError(
            f"http_token_file: {path} cannot be read: {error.strerror}; write a token into it: {MAKE_ONE}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"http_token_file: {path} is not UTF-8 text; save it as UTF-8") from None
    if not token:
        raise ConfigError(f"http_token_file: {path} is empty; write a token into it: {MAKE_ONE}")
    return token


def _read_file(path: str | None) -> dict[str, object]:
    file = Path(path or DEFAULT_FILE)
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        if path is None:
            return {}
        raise ConfigError(f"there is no configuration file {file}; create it, or name another with --config") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8 text; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}; texts need quotes, lists need brackets") from None


def _read_environment(environment: Mapping[str, str]) -> dict[str, object]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != CONFIG_VARIABLE
    }


def _refuse_unknown_keys(found: Mapping[str, object], source: str) -> None:
    for key, value in found.items():
        if key in KEYS:
            continue
        if isinstance(value, dict):
            raise ConfigError(f"{source}: keys stand at the top level; remove the section [{key}]")
        if any(word in key for word in ("secret", "access_key", "password", "token")):
            raise ConfigError(
                f"{source}: {key} does not belong there; credentials come from ALIBABA_CLOUD_ACCESS_KEY_ID and "
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET, ~/.aliyun/config.json or a RAM role"
            )
        nearest = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the keys are: {', '.join(KEYS)}"
        raise ConfigError(f"{source}: unknown key {key}; {hint}")


def _sentence(error: ValidationError, source: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    reason = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:  # what only all keys together can tell names its key itself
        key, _, reason = reason.partition(": ")
    else:
        key = str(first["loc"][0])
    is_hidden = key in SECRET_KEYS or first["type"] == "value_error"
    shown = "" if is_hidden else f", not {first['input']!r}"
    return f"{source.get(key, 'the configuration')}: {key}: {reason[:1].lower()}{reason[1:]}{shown}"
