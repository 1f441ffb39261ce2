"""What a run was asked to do and what each of its calls got: the only thing the model is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sync.config import Settings

Row = tuple[str, ...]
"""The eight fields of an image in the order of the views."""

Key = tuple[str, str, str]
"""A target: region, instance type, BaseOsTag."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How one call ended: ``content`` (rows or names) is None for a failure, which has a code instead."""

    asked_at: datetime
    true_until: datetime
    """Until when what it says stayed true at the endpoint: what is gone later was gone after this moment."""
    content: frozenset[Row] | frozenset[str] | None
    code: str = ""
    request_id: str = ""

    @property
    def rows(self) -> frozenset[Row]:
        """Return the images of the answer."""
        return frozenset(entry for entry in self.content or () if isinstance(entry, tuple))

    @property
    def names(self) -> frozenset[str]:
        """Return the instance types or regions of the answer."""
        return frozenset(entry for entry in self.content or () if isinstance(entry, str))


@dataclass(frozen=True, slots=True)
class Journal:
    """One run: its settings, its limits in time, and the calls in the order in which they ended."""

    settings: Settings
    began_at: datetime
    ended_at: datetime
    region_list: Reply | None = None
    listings: Mapping[str, Sequence[Reply]] = field(default_factory=dict)
    images: Mapping[Key, Sequence[Reply]] = field(default_factory=dict)
    only_regions: tuple[str, ...] = ()
    only_types: tuple[str, ...] = ()
    refusals: Mapping[str, Sequence[Reply]] = field(default_factory=dict)
    """The failures that stopped a region, by region: what was not asked there fails like one of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time in which a moment must lie, both ends included."""

    earliest: datetime
    latest: datetime

    def __contains__(self, moment: datetime) -> bool:
        """Return whether the moment, which the product cuts to milliseconds, lies in here."""
        cut = self.earliest.replace(microsecond=self.earliest.microsecond // 1000 * 1000)
        return cut <= moment <= self.latest
