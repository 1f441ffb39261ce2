"""What the checks of the stored history found: violations with their places, and how much was looked at."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sync.inventory import Target

LISTED = (
    1000  # violations kept of one check: a wrecked history has millions, and the first thousand show what befell it
)


class Check(StrEnum):
    """The invariants of the history, by what they are about."""

    TIMES = "times"
    VIEWS = "views"
    INTERVALS = "intervals"
    CHANGES = "changes"
    DIGESTS = "digests"
    GAPS = "gaps"
    RUNS = "runs"
    HELD = "held removals"


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One place where the history contradicts itself; parts of the place that do not apply are empty."""

    check: str
    region_id: str
    instance_type: str
    base_os_tag_filter: str
    image_id: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: how much was examined, and what is wrong."""

    check: Check
    examined_count: int
    violation_count: int
    violations: tuple[Violation, ...]
    """Sorted; at most the first thousand that were found."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The results of all checks, in their order."""

    results: tuple[CheckResult, ...]

    @property
    def is_sound(self) -> bool:
        """Return whether nothing contradicts itself."""
        return not any(result.violation_count for result in self.results)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """Return the violations that were kept, in the order of the checks."""
        return tuple(entry for result in self.results for entry in result.violations)


@dataclass(slots=True)
class Findings:
    """What has been found so far."""

    image_names: Mapping[int, str] = field(default_factory=dict)
    """What to call an image, by its key."""
    _examined: Counter[Check] = field(default_factory=Counter)
    _counts: Counter[Check] = field(default_factory=Counter)
    _violations: dict[Check, list[Violation]] = field(default_factory=lambda: {check: [] for check in Check})

    def examine(self, check: Check, count: int = 1) -> None:
        """Count what a check has looked at."""
        self._examined[check] += count

    def note(self, check: Check, message: str, place: Target | str = "", image_key: int | None = None) -> None:
        """Note a violation; ``place`` is a target, or a region."""
        self._counts[check] += 1
        if self._counts[check] > LISTED:
            return
        where = place if isinstance(place, Target) else Target(place, "")
        name = "" if image_key is None else self.image_names.get(image_key, f"image {image_key}")
        entry = Violation(check.value, where.region_id, where.instance_type, where.base_os_tag, name, message)
        self._violations[check].append(entry)

    def verdict(self) -> Verdict:
        """Return what was found."""
        return Verdict(
            tuple(
                CheckResult(check, self._examined[check], self._counts[check], tuple(sorted(self._violations[check])))
                for check in Check
            )
        )
