"""What people type or put into an address → filters and times, checked against the history."""

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from heapq import nlargest
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from sync.errors import ConfigError
from sync.moments import parse_moment
from sync.store.filters import Filter, is_glob
from sync.store.history import find_image_names, find_known_names, find_os_tags

CANDIDATES = 200  # names that share most with a text; to compare it with tens of thousands takes seconds
SHARED = 3  # characters in a row that two names should share
FEW = 5  # names that a sentence can list
LONGEST = 128  # characters of a text that are compared; names of images have some sixty

Spelling = Callable[[str], str]
"""How whoever asks writes the name of a filter: ``instance_type`` is ``--instance-type`` on the command line."""


def filter_of(
    connection: Connection,
    *,
    regions: Sequence[str] = (),
    types: Sequence[str] = (),
    images: Sequence[str] = (),
    os_tags: Sequence[str] = (),
    kinds: Sequence[str] = (),
    spelled: Spelling = str,
) -> Filter:
    """Return the filter of what was asked; names may be globs.

    Raises:
        ConfigError: the history does not know a name; the message has the nearest ones.
    """
    known_regions, known_types = find_known_names(connection)
    _check_names(spelled("region"), regions, known_regions)
    _check_names(spelled("instance_type"), types, known_types)
    if images:
        _check_names(spelled("image"), images, find_image_names(connection))
    if os_tags:
        _check_names(spelled("os_tag"), os_tags, find_os_tags(connection))
    return Filter(tuple(regions), tuple(types), tuple(images), tuple(kinds), tuple(os_tags))


def _check_names(option: str, names: Sequence[str], known: frozenset[str]) -> None:
    for name in names:
        if name in known or is_glob(name):
            continue
        longer = [other for other in sorted(known) if name and other.lower().startswith(name.lower())]
        nearest = list(dict.fromkeys(longer + nearest_names(name, known, 3)))[:3]
        hint = f"the nearest are {', '.join(nearest)}" if nearest else f"it knows {_few(known)}"
        raise ConfigError(f"{option} {name}: the history does not know it; {hint}")


def _few(names: Collection[str]) -> str:
    """Return the names where they are few, else how many there are."""
    if not names:
        return "none yet"
    return ", ".join(sorted(names)) if len(names) <= FEW else f"{len(names):,} others"


def nearest_names(text: str, known: Collection[str], count: int) -> list[str]:
    """Return at most ``count`` names that are most like a text, the nearest first; letter case and globs do not matter.

    Of many names only those are compared that share most parts of it: it takes milliseconds whatever their number.
    """
    by_lower = {name.lower(): name for name in sorted(known)}
    wanted = text.lower().replace("*", "").replace("?", "")[:LONGEST]
    candidates = _sharing(wanted, by_lower) if len(by_lower) > CANDIDATES else list(by_lower)
    return [by_lower[name] for name in difflib.get_close_matches(wanted, candidates, n=count, cutoff=0.4)]


def _sharing(text: str, names: Iterable[str]) -> list[str]:
    """Return the names that share most parts of a text."""
    size = min(SHARED, max(len(text) - 1, 1))
    parts = {text[start : start + size] for start in range(len(text) - size + 1)}
    counted = ((sum(part in name for part in parts), name) for name in names)
    return [name for count, name in nlargest(CANDIDATES, counted) if count]


def past_moment(text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the time that a text means.

    Raises:
        ConfigError: it is no time, or one in the future.
    """
    moment = parse_moment(text, now, zone)
    if moment > now:
        raise ConfigError(f"{text!r} is in the future; the history ends now")
    return moment
