"""The words of the domain as frozen values: target, image, observation, change, gap and their kin.

Every time in here is an aware UTC datetime cut to milliseconds, the precision that all databases keep.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter

ALL_TYPES = "*"
"""The instance type of the target that is asked without InstanceType."""

OPEN = datetime(9999, 12, 31, tzinfo=UTC)
"""The end of what has not ended; one value instead of NULL, so that a key can hold it."""

NOT_PLANNED = "plan.not_planned"
"""The code of the gap of a target that the configuration no longer asks for."""

PRUNED = "history.pruned"
"""The code of the gap that stands for what ``db prune`` has dropped."""

Clock = Callable[[], datetime]


def to_milliseconds(moment: datetime) -> datetime:
    """Return ``moment`` in UTC, cut (not rounded) to milliseconds."""
    utc = moment.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def utc_now() -> datetime:
    """Return the machine's time, cut to milliseconds; the only place that reads the wall clock."""
    return to_milliseconds(datetime.now(UTC))


class HistoryClock:
    """A clock that never shows a time at or before what the history already holds, and never runs backwards.

    Intervals must not end before they begin, even when the machine's clock is set back between runs. Thread-safe.
    """

    def __init__(self, latest: datetime | None, now: Clock = utc_now) -> None:
        self._now = now
        self._start = latest + timedelta(milliseconds=1) if latest else datetime.min.replace(tzinfo=UTC)
        self._floor = self._start
        self._lock = threading.Lock()

    @property
    def lag(self) -> timedelta:
        """Return how far the machine's time is behind the history; zero or less where it is not."""
        return self._start - self._now() if self._start.year > 1 else timedelta(0)

    def place(self, moment: datetime) -> datetime:
        """Return ``moment``, or the first time after the history if the machine's clock was behind it."""
        return max(to_milliseconds(moment), self._start)

    def __call__(self) -> datetime:
        """Return the present, or the latest time shown before if that is later."""
        with self._lock:
            self._floor = max(self._floor, self._now())
            return self._floor


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """What one ListImages call asks about; instance type ``*`` is the call without InstanceType."""

    region_id: str
    instance_type: str
    base_os_tag: str = ""

    def __str__(self) -> str:
        """Return the target as people write it: ``cn-hangzhou/ecs.c7.large``."""
        tag = f" [{self.base_os_tag}]" if self.base_os_tag else ""
        return f"{self.region_id}/{self.instance_type}{tag}"


@dataclass(frozen=True, slots=True)
class Image:
    """One distinct offer: the whole row of eight fields, each a trimmed text, empty where the API gave none.

    Two rows that differ in any field are two images. Equality and hash use the fingerprint alone, because
    sets of images are compared millions of times in a run. Images sort by their fields in order.
    """

    image_id: str
    os_tag: str
    base_os_tag: str
    platform: str
    version: str
    architecture: str
    os_name: str
    os_name_en: str
    fingerprint: bytes = field(init=False, repr=False, compare=False)
    """SHA-256 (32 bytes) of the eight fields in this order, joined by NUL, which no field can hold."""

    def __post_init__(self) -> None:
        text = "\0".join(getattr(self, name) for name in IMAGE_FIELDS)
        object.__setattr__(self, "fingerprint", hashlib.sha256(text.encode()).digest())

    def __eq__(self, other: object) -> bool:
        """Return whether the other value is the same offer."""
        return self.fingerprint == other.fingerprint if isinstance(other, Image) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the fingerprint, which bytes objects remember."""
        return hash(self.fingerprint)

    def __lt__(self, other: "Image") -> bool:
        """Return whether this sorts before the other; a dataclass would build two tuples of eight each time."""
        if self.image_id != other.image_id:
            return self.image_id < other.image_id
        return _values_of(self) < _values_of(other)


IMAGE_FIELDS = tuple(entry.name for entry in fields(Image) if entry.init)
"""The eight fields of an image, in the order of the tables, views and answers."""

_values_of: Callable[[Image], tuple[str, ...]] = attrgetter(*IMAGE_FIELDS)


def digest_of(images: Iterable[Image]) -> str:
    """Return the digest (64 hexadecimal digits) of a set of images; their order does not matter."""
    return _digest_of_set(frozenset(images))


@lru_cache(maxsize=1000)  # sets of 8 KiB at 80 images; a run meets some hundreds, most of them thousands of times
def _digest_of_set(images: frozenset[Image]) -> str:
    joined = b"".join(sorted([image.fingerprint for image in images]))
    return hashlib.sha256(joined).hexdigest()


class ChangeKind(StrEnum):
    """What happened to an image of a target, or to the instance type itself, between two observations."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    TYPE_ADDED = "type_added"
    TYPE_RETIRED = "type_retired"


class RunStatus(StrEnum):
    """How a run stands or ended; ``held`` wins over ``partial`` because it needs a person."""

    RUNNING = "running"
    OK = "ok"
    PARTIAL = "partial"
    HELD = "held"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A target that could not be observed, or (without instance type) a region whose discovery failed."""

    region_id: str
    instance_type: str
    code: str
    message: str
    request_id: str
    base_os_tag: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target offered at one moment: the union of the complete answers of one run, perhaps empty."""

    images: frozenset[Image]
    observed_at: datetime
    """When its last answer had come: what it lacks was gone by then."""
    answer_count: int = 1
    asked_at: datetime | None = None
    """A moment before its first answer was given: what it has was there at or after it."""


@dataclass(frozen=True, slots=True)
class HeldRemoval:
    """An image (or instance type) that answers miss but whose removal is not, or not yet, believed."""

    first_missed_at: datetime
    last_missed_at: datetime
    last_seen_at: datetime | None
    missed_runs: int
    missed_answers: int

    def missed_again(self, observed_at: datetime, answer_count: int) -> "HeldRemoval":
        """Return this with one more run, and that run's answers, in which the image was missing."""
        return replace(
            self,
            last_missed_at=observed_at,
            missed_runs=self.missed_runs + 1,
            missed_answers=self.missed_answers + answer_count,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two observations of one target; images are None for the type_* kinds."""

    kind: ChangeKind
    detected_at: datetime
    """The first observation that shows the change."""
    last_seen_at: datetime | None = None
    """The last observation that still had what is gone; the true moment lies between the two."""
    image: Image | None = None
    previous_image: Image | None = None


@dataclass(frozen=True, slots=True)
class KnownTarget:
    """What the store knows of a target when a run begins."""

    id: int
    target: Target
    image_digest: str
    """Digest of the open intervals' images, held ones included."""
    first_observed_at: datetime | None
    last_good_at: datetime | None
    """The last good observation; None where there was none since the type was listed."""
    last_asked_at: datetime | None
    """A moment before the answers of that observation were given."""
    is_retired: bool
    gap_code: str | None
    """The error code of the open gap, None while the target is covered."""
    has_held: bool

    @property
    def is_unobserved(self) -> bool:
        """Return whether its next observation is the first since its type was listed."""
        return self.is_retired or self.last_good_at is None


@dataclass(frozen=True, slots=True)
class TargetUpdate:
    """All that one run writes about one target, in one transaction."""

    target: Target
    moment: datetime
    """When the target was observed, failed, or was decided upon."""
    is_observed: bool = False
    asked_at: datetime | None = None
    """A moment before the observation's first answer was given."""
    opened: Collection[Image] = ()
    closed: Mapping[Image, datetime] = field(default_factory=dict)
    """The ends of open intervals, by image."""
    changes: tuple[Change, ...] = ()
    held: Mapping[Image | None, HeldRemoval] = field(default_factory=dict)
    """Held removals to keep, by image; None stands for the instance type itself."""
    released: Collection[Image | None] = ()
    """Held removals that end: accepted, or seen again."""
    image_digest: str | None = None
    """The digest of the open set after this update; None leaves it as it is."""
    failure: Failure | None = None
    retired_at: datetime | None = None
    """Since when the instance type is gone; None where it is not."""
    listed_at: datetime | None = None
    """When the instance type was listed for the first time, or again; None where it was listed before."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The figures of a run or region run; images and held removals count pairs of target and image."""

    targets_ok: int = 0
    targets_failed: int = 0
    images_added: int = 0
    images_removed: int = 0
    images_changed: int = 0
    removals_held: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(
            *(getattr(self, entry.name) + getattr(other, entry.name) for entry in fields(Counts)),
        )
