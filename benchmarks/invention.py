"""A history of years at scale, made up the same from the same seed; ``benchmarks.history`` writes it.

A region has some tens of lists of images; the types of a family share one. Every few days a list replaces some images
by newer builds, and now and then an older build comes back. Some targets have gaps, some types were launched later,
some are retired, and the last run holds the removals of two images.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from operator import itemgetter

from sync.inventory import Image

REGION_IDS = (
    "cn-hangzhou",
    "cn-beijing",
    "cn-shanghai",
    "cn-shenzhen",
    "cn-zhangjiakou",
    "cn-huhehaote",
    "cn-wulanchabu",
    "cn-qingdao",
    "cn-chengdu",
    "cn-guangzhou",
    "cn-heyuan",
    "cn-nanjing",
    "cn-hongkong",
    "ap-southeast-1",
    "ap-southeast-3",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ap-northeast-1",
    "ap-northeast-2",
    "us-east-1",
    "us-west-1",
    "eu-central-1",
    "eu-west-1",
    "me-east-1",
)
KINDS = ("c", "g", "r", "hfc", "hfg", "hfr", "ebmc", "ebmg", "sccc", "gn")
FAMILIES = tuple(f"{kind}{generation}" for generation in "7865" for kind in KINDS)
SYSTEMS = (("CentOS", "CentOS"), ("Ubuntu", "Ubuntu"), ("RockyLinux", "Rocky Linux"), ("Aliyun", "Alibaba Cloud Linux"))
TAG_COUNT = 400  # OS tags of all regions together; a list has 80 of them

DAYS_BETWEEN_EVENTS = 5  # on average; a list then replaces two or three images
RETURNING = 0.1  # share of replacements that bring an older build back
LATE_EVERY = 33  # every so many types one was launched later
RETIRED_EVERY = 50  # for every so many types there is one more that is retired
GAPS_PER_TARGET = 2
OPEN_GAPS = 0.005  # share of the targets that are unknown at the end
LONGEST_GAP_RUNS = 48
HELD_IMAGES = 2

Span = tuple[int, int, int]
"""The run that ended it, the image's key, the run that began it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much history there shall be."""

    regions: int = 25
    types: int = 1000
    """Instance types that a region has at the end."""
    images: int = 80
    """Images that a target has at any time."""
    intervals: int = 400
    """Intervals, open and closed, of a target that was there from the beginning."""
    days: int = 730
    hours_between_runs: float = 0.5
    """The default schedule: what reads the runs has 876,000 region runs before it."""
    seed: int = 1
    end: datetime = datetime(2026, 11, 23, tzinfo=UTC)

    @property
    def run_count(self) -> int:
        """Return how many runs there are."""
        return int(self.days * 24 / self.hours_between_runs)

    @property
    def never(self) -> int:
        """Return the run that ends what has not ended: one after the last."""
        return self.run_count


@dataclass(frozen=True, slots=True)
class ImageList:
    """What the types of one family offer in one region; spans and events are sorted."""

    spans: tuple[Span, ...]
    events: tuple[tuple[int, int], ...]
    """The runs that replaced images, and how many."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A target was not observed between two runs; both of them had observed it."""

    after_run: int
    until_run: int


@dataclass(frozen=True, slots=True)
class Offer:
    """One target with all that befell it."""

    id: int
    region_id: str
    instance_type: str
    images: ImageList
    first_run: int
    retired_run: int
    gaps: tuple[Gap, ...]
    held: tuple[int, ...]
    """Keys of images whose removal the last run held."""

    @property
    def spans(self) -> list[Span]:
        """Return the intervals, sorted by end and image."""
        lived = [
            (min(until, self.retired_run), key, max(since, self.first_run))
            for until, key, since in self.images.spans
            if until > self.first_run and since < self.retired_run
        ]
        return sorted(lived)

    @property
    def events(self) -> list[tuple[int, int]]:
        """Return the runs that replaced images of this target, and how many."""
        return [event for event in self.images.events if self.first_run < event[0] < self.retired_run]


@dataclass(frozen=True, slots=True)
class Change:
    """What a run found; without image it concerns the whole type."""

    run: int
    offer: Offer
    kind: str
    image_key: int | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """One region: its targets, and per run what its row counts."""

    region_id: str
    offers: tuple[Offer, ...]
    targets: tuple[int, ...]
    failed: tuple[int, ...]
    replaced: tuple[int, ...]
    held: tuple[int, ...]


class History:
    """All of it, made up at once but for the rows; ``scale.never`` is the end of what is open."""

    def __init__(self, scale: Scale) -> None:
        """Make it up.

        Raises:
            ValueError: so few days cannot hold so many intervals.
        """
        self.scale = scale
        self._image_keys: dict[tuple[int, int], int] = {}
        first = 1
        regions = []
        for region_id in _region_ids(scale.regions):
            region = self._region(region_id, first)
            first += len(region.offers)
            regions.append(region)
        self.regions = tuple(regions)

    @cached_property
    def images(self) -> dict[int, Image]:
        """Return the images by key."""
        return {key: _image(tag, build) for (tag, build), key in self._image_keys.items()}

    def started_at(self, run: int) -> datetime:
        """Return when a run began: at a full minute."""
        return self.scale.end - timedelta(hours=self.scale.hours_between_runs) * (self.scale.run_count - run)

    def _region(self, region_id: str, first_id: int) -> Region:
        scale = self.scale
        rng = random.Random(f"{scale.seed} {region_id}")
        lists = [self._image_list(rng) for _ in range(min(len(FAMILIES), scale.types))]
        retired_count = -(-scale.types // RETIRED_EVERY)
        offers = []
        for number in range(scale.types + retired_count):
            family = number % len(lists)
            is_held = region_id == REGION_IDS[0] and not family
            offers.append(self._offer(rng, region_id, first_id, number, lists[family], is_held=is_held))
        return _counted(scale, region_id, tuple(offers))

    def _offer(
        self, rng: random.Random, region_id: str, first_id: int, number: int, images: ImageList, *, is_held: bool
    ) -> Offer:
        scale, never = self.scale, self.scale.never
        is_retired = number >= scale.types
        is_late = not is_retired and number % LATE_EVERY == LATE_EVERY - 1
        first_run = rng.randrange(1, scale.run_count // 2) if is_late else 0
        retired_run = rng.randrange(scale.run_count // 2, scale.run_count) if is_retired else never
        held = [key for until, key, _ in images.spans if until == never][:HELD_IMAGES]
        is_held = is_held and not is_retired
        return Offer(
            first_id + number,
            region_id,
            _type_name(number),
            images,
            first_run,
            retired_run,
            () if is_late or is_retired else _gaps(rng, scale, images, is_held=is_held),
            tuple(held) if is_held else (),
        )

    def _image_list(self, rng: random.Random) -> ImageList:
        scale = self.scale
        current = [(tag, 0) for tag in rng.sample(range(max(TAG_COUNT, scale.images)), scale.images)]
        since = [0] * scale.images
        spans: list[Span] = []
        events = _events(rng, scale)
        for run, count in events:
            for slot in rng.sample(range(scale.images), count):
                spans.append((run, self._key_of(*current[slot]), since[slot]))
                current[slot] = _successor(rng, *current[slot])
                since[slot] = run
        spans += [(scale.never, self._key_of(*entry), begun) for entry, begun in zip(current, since, strict=True)]
        return ImageList(tuple(sorted(spans)), tuple(events))

    def _key_of(self, tag: int, build: int) -> int:
        return self._image_keys.setdefault((tag, build), len(self._image_keys) + 1)


def _region_ids(count: int) -> list[str]:
    more = [f"xx-region-{number}" for number in range(len(REGION_IDS), count)]
    return [*REGION_IDS, *more][:count]


def _type_name(number: int) -> str:
    family, size = FAMILIES[number % len(FAMILIES)], number // len(FAMILIES)
    return f"ecs.{family}.{'large' if not size else 'xlarge' if size == 1 else f'{size}xlarge'}"


def _events(rng: random.Random, scale: Scale) -> list[tuple[int, int]]:
    """Return the runs that replace images, and how many: as many in all as intervals shall end."""
    closed = scale.intervals - scale.images
    count = min(closed, max(1, scale.days // DAYS_BETWEEN_EVENTS))
    if closed > count * scale.images or count >= scale.run_count:
        raise ValueError(f"{scale.days} days cannot hold {scale.intervals} intervals of {scale.images} images")
    counts = [1] * count
    for _ in range(closed - count):
        place = rng.choice([place for place in range(count) if counts[place] < scale.images])
        counts[place] += 1
    return list(zip(sorted(rng.sample(range(1, scale.run_count), count)), counts, strict=True))


def _successor(rng: random.Random, tag: int, build: int) -> tuple[int, int]:
    """Return the build that replaces one: the next, or an older one that comes back."""
    return (tag, rng.randrange(build)) if build and rng.random() < RETURNING else (tag, build + 1)


def _gaps(rng: random.Random, scale: Scale, images: ImageList, *, is_held: bool) -> tuple[Gap, ...]:
    """Return gaps in which the list did not change: at most one between two events."""
    runs = [0, *(run for run, _ in images.events)]
    places = rng.sample(range(len(runs) - 1), min(GAPS_PER_TARGET, len(runs) - 1))
    gaps = []
    for place in sorted(places):
        begin, end = runs[place], runs[place + 1]
        if end - begin > 2:
            after = rng.randrange(begin, end - 2)
            gaps.append(Gap(after, min(end, after + rng.randint(2, LONGEST_GAP_RUNS))))
    last = runs[-1]
    if not is_held and last < scale.run_count - 2 and rng.random() < OPEN_GAPS:
        gaps.append(Gap(rng.randrange(last, scale.run_count - 2), scale.never))
    return tuple(gaps)


def _counted(scale: Scale, region_id: str, offers: tuple[Offer, ...]) -> Region:
    """Return the region with the counts of each of its runs."""
    targets, failed = [0] * (scale.run_count + 1), [0] * (scale.run_count + 1)
    replaced, held = [0] * scale.run_count, [0] * scale.run_count
    for offer in offers:
        targets[offer.first_run] += 1
        targets[offer.retired_run] -= 1
        for gap in offer.gaps:
            failed[gap.after_run + 1] += 1
            failed[gap.until_run] -= 1
        for run, count in offer.events:
            replaced[run] += count
        held[-1] += len(offer.held)
    return Region(
        region_id, offers, tuple(accumulate(targets)), tuple(accumulate(failed)), tuple(replaced), tuple(held)
    )


def _image(tag: int, build: int) -> Image:
    (name, platform), number = SYSTEMS[tag % len(SYSTEMS)], tag // len(SYSTEMS)
    version = f"{7 + number // 10}.{number % 10}"
    return Image(
        f"m-{name.lower()}-{version.replace('.', '-')}-{build:03}",
        f"{name}_{version}_64",
        f"{name}_{version}_64",
        platform,
        version,
        "x86_64",
        f"{platform}  {version} 64位",
        f"{platform} {version} 64 bit",
    )


def changes_since(history: History, region: Region, first_run: int) -> Iterator[Change]:
    """Yield the changes of a region from a run on, sorted by run and target."""
    found: list[tuple[int, int, Change]] = []
    for offer in region.offers:
        begun = max(first_run, offer.first_run + 1)
        if offer.first_run >= max(first_run, 1):
            found.append((offer.first_run, offer.id, Change(offer.first_run, offer, "type_added")))
        if first_run <= offer.retired_run < history.scale.never:
            found.append((offer.retired_run, offer.id, Change(offer.retired_run, offer, "type_retired")))
        for until, key, since in offer.images.spans:
            if begun <= until < min(offer.retired_run, history.scale.never):
                found.append((until, offer.id, Change(until, offer, "removed", key)))
            if begun <= since < offer.retired_run:
                found.append((since, offer.id, Change(since, offer, "added", key)))
    return (change for _, _, change in sorted(found, key=itemgetter(0, 1)))
