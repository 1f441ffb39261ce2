"""One request of a page: what its address asks, and what it reads with."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from werkzeug.datastructures import MultiDict

from sync.asking import filter_of, past_moment
from sync.config import Settings
from sync.errors import ConfigError
from sync.moments import format_moment
from sync.store.filters import Filter
from sync.store.history import find_known_names

FILTERS = {"region": "regions", "instance_type": "types", "image": "images", "os_tag": "os_tags", "kind": "kinds"}
"""The parameters that filter, spelled as the columns are, and how they are passed on."""

LONGEST = 1024  # characters of one value; no field of the API is longer
MOST = 100  # values of one parameter; databases take expressions of some hundreds of parts


@dataclass(frozen=True)
class Visit:
    """One request of a page."""

    connection: Connection
    settings: Settings
    now: datetime
    page: str
    """The page's path without its leading slash."""
    parameters: "MultiDict[str, str]"

    @cached_property
    def wanted(self) -> Filter:
        """Return the filter that the address asks for.

        Raises:
            ConfigError: the history does not know a name; the message has the nearest ones.
        """
        asked = {keyword: self.all_of(name) for name, keyword in FILTERS.items()}
        return filter_of(self.connection, spelled=str, **asked)

    @cached_property
    def region_ids(self) -> tuple[str, ...]:
        """Return all regions of the history, sorted."""
        return tuple(sorted(find_known_names(self.connection)[0]))

    @cached_property
    def scoped(self) -> Filter:
        """Return the filter; where it names nothing at all the first region, since a page shows one of them.

        All regions are asked for as the glob ``*``.
        """
        wanted = self.wanted
        if any((wanted.region_ids, wanted.instance_types, wanted.images, wanted.os_tags)) or not self.region_ids:
            return wanted
        return replace(wanted, region_ids=self.region_ids[:1])

    def all_of(self, name: str) -> tuple[str, ...]:
        """Return all values of a parameter, without empty ones: a form sends those too."""
        values = [value.strip() for value in self.parameters.getlist(name)]
        if any(len(value) > LONGEST for value in values):
            raise ConfigError(f"{name}: a value is longer than {LONGEST} characters; shorten it")
        found = tuple(dict.fromkeys(value for value in values if value))
        if len(found) > MOST:
            raise ConfigError(f"{name} stands in the address {len(found)} times; {MOST} is the most, or use a glob")
        return found

    def one_of(self, name: str, default: str = "") -> str:
        """Return the only value of a parameter.

        Raises:
            ConfigError: it stands there more than once.
        """
        values = self.all_of(name)
        if len(values) > 1:
            raise ConfigError(f"{name} stands in the address {len(values)} times; leave one of them")
        return values[0] if values else default

    def moment(self, name: str) -> datetime | None:
        """Return the time that a parameter means; None where it is not given.

        Raises:
            ConfigError: it is no time, or one in the future.
        """
        text = self.one_of(name)
        if not text:
            return None
        try:
            return past_moment(text, self.now, self.settings.zone)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None

    def number(self, name: str, default: int, largest: int) -> int:
        """Return the whole number from 1 on that a parameter means.

        Raises:
            ConfigError: it is none, or too large.
        """
        text = self.one_of(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19 and 1 <= int(text) <= largest):
            raise ConfigError(f"{name}: {text!r} is not a number from 1 to {largest:,}")
        return int(text)

    @property
    def show(self) -> Callable[..., str]:
        """Return the function that shows a time in the configured zone."""
        return partial(format_moment, zone=self.settings.zone)

    def here(self, **changes: object) -> dict[str, list[str]]:
        """Return the parameters of this address with some replaced; None takes one away."""
        kept = {name: self.parameters.getlist(name) for name in self.parameters if any(self.parameters.getlist(name))}
        for name, value in changes.items():
            kept.pop(name, None)
            if value is not None:
                kept[name] = [str(entry) for entry in value] if isinstance(value, list | tuple) else [str(value)]
        return kept


Data = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One object, or rows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page shows, and what its twins for programs say."""

    data: Callable[[], Data]
    """Gives the same words as the command line's ``--format json``; not called for the page itself."""
    columns: tuple[str, ...] = ()
    """Those of the rows; pages whose data are one object have no CSV."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """What the page's template is given besides."""
    following: Mapping[str, str] = field(default_factory=dict)
    """Addresses of further rows by their relation: ``next``."""
    statement: str = ""
    """The SQL that gives the same rows, of pages that have it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the dashboard: ``/name``, its twin ``/name.json``, and ``/name.csv`` where its data are rows."""

    name: str
    title: str
    parameters: tuple[str, ...]
    answer: Callable[[Visit], Answer]
    is_rows: bool = False
    has_sql: bool = False
    """Whether ``/name.sql`` gives the statement with the same rows."""

    def check(self, names: Sequence[str]) -> None:
        """Check that the page knows all parameters of an address.

        Raises:
            ConfigError: it does not know one; the message has the nearest, or all.
        """
        for name in names:
            if name in self.parameters:
                continue
            nearest = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.6)
            known = f"it knows {', '.join(self.parameters)}" if self.parameters else "it has none"
            hint = f"did you mean {nearest[0]}?" if nearest else known
            raise ConfigError(f"the page {self.name} has no parameter {name[:LONGEST]!r}; {hint}")


def address(page: str, suffix: str = "", /, **parameters: object) -> str:
    """Return the address of a page; lists repeat a parameter, empty values and None leave it out."""
    pairs = [
        (name, str(value))
        for name, given in parameters.items()
        for value in (given if isinstance(given, list | tuple | frozenset | set) else [given])
        if value is not None and value != ""
    ]
    return f"/{page}{suffix}" + (f"?{urlencode(pairs)}" if pairs else "")
