"""Configuration and discovered instance types → what a run asks. Pure."""

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sync.config import DISCOVER, Settings
from sync.errors import ConfigError
from sync.inventory import ALL_TYPES, Target

_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Restriction:
    """What the options ``--region`` and ``--instance-type`` leave of the plan; empty means everything."""

    region_ids: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    """Exact names or globs."""

    @property
    def covers_whole_regions(self) -> bool:
        """Return whether every target of the asked regions is asked."""
        return not self.instance_types

    @property
    def covers_everything(self) -> bool:
        """Return whether nothing is left out."""
        return not self.instance_types and not self.region_ids

    def admits(self, instance_type: str) -> bool:
        """Return whether the restriction leaves this instance type in."""
        return not self.instance_types or _matches_any(instance_type, self.instance_types)


def needs_discovery(settings: Settings) -> bool:
    """Return whether the plan depends on what a region lists; exact names do not."""
    return any(entry == DISCOVER or is_glob(entry) for entry in settings.instance_types)


def is_glob(entry: str) -> bool:
    """Return whether an entry of ``instance_types`` is a pattern; ``*`` alone is the pattern of every type."""
    return not _GLOB_CHARACTERS.isdisjoint(entry)


def exact_names(settings: Settings) -> tuple[str, ...]:
    """Return the instance types that are asked as they are, whatever discovery lists; sorted."""
    names = (entry for entry in settings.instance_types if entry != DISCOVER and not is_glob(entry))
    return tuple(sorted(name for name in names if not _is_excluded(name, settings)))


def is_wanted(instance_type: str, settings: Settings) -> bool:
    """Return whether a listed instance type belongs to the plan by a pattern; ``*`` is none that is listed."""
    if instance_type == ALL_TYPES or _is_excluded(instance_type, settings):
        return False
    if DISCOVER in settings.instance_types:
        return True
    return _matches_any(instance_type, [entry for entry in settings.instance_types if is_glob(entry)])


def planned_types(listed: Iterable[str], settings: Settings) -> list[str]:
    """Return the instance types to ask in a region that lists ``listed``, sorted; without ``*``."""
    wanted = (name for name in listed if is_wanted(name, settings))
    return sorted({*exact_names(settings), *wanted})


def targets_of(region_id: str, instance_types: Iterable[str], settings: Settings) -> list[Target]:
    """Return the targets of one region, sorted: each type alone and with each configured BaseOsTag.

    The target of the call without InstanceType is among them where ``all_types_target`` is set.
    """
    types = [*instance_types, *([ALL_TYPES] if settings.all_types_target else [])]
    return sorted(Target(region_id, name, tag) for name in types for tag in ("", *settings.base_os_tags))


def unmatched_patterns(settings: Settings, seen_types: Collection[str]) -> list[str]:
    """Return the configured patterns that match none of the instance types seen anywhere, in their order."""
    return [
        entry
        for entry in settings.instance_types
        if is_glob(entry) and not any(fnmatchcase(name, entry) for name in seen_types)
    ]


def check_patterns(settings: Settings, seen_types: Collection[str]) -> None:
    """Check that each pattern matches a type that some region lists or has listed before.

    Raises:
        ConfigError: a pattern matches none; the message names the nearest types.
    """
    for pattern in unmatched_patterns(settings, seen_types):
        raise ConfigError(
            f"instance_types: the pattern {pattern!r} matches no instance type; {nearest_hint(pattern, seen_types)}"
        )


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return words that name the known instance types nearest to ``name``."""
    choices = sorted(known)
    nearest = difflib.get_close_matches(name.replace("*", ""), choices, n=3, cutoff=0.4) or choices[:3]
    return f"the nearest are {', '.join(nearest)}" if nearest else "no instance type is known yet"


def check_restriction(restriction: Restriction, region_ids: Sequence[str]) -> None:
    """Check that the regions to which a run is restricted belong to the plan.

    Raises:
        ConfigError: one does not; the message names the ones that do.
    """
    for region_id in restriction.region_ids:
        if region_id not in region_ids:
            raise ConfigError(
                f"--region {region_id}: the configuration does not plan it; it plans {', '.join(region_ids)}"
            )


def check_restricted_types(restriction: Restriction, planned: Collection[str]) -> None:
    """Check that each instance type to which a run is restricted is planned somewhere.

    Raises:
        ConfigError: one is not; the message names the nearest ones that are.
    """
    for entry in restriction.instance_types:
        if not any(_matches_any(name, [entry]) for name in planned):
            raise ConfigError(
                f"--instance-type {entry}: no region of this run plans it; {nearest_hint(entry, planned)}"
            )


def _is_excluded(instance_type: str, settings: Settings) -> bool:
    return _matches_any(instance_type, settings.exclude_instance_types)


def _matches_any(name: str, entries: Iterable[str]) -> bool:
    # "*" names the target of the call without InstanceType, which is no pattern there: nothing else equals it.
    return any(name == entry or fnmatchcase(name, entry) for entry in entries)
