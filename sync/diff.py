"""Observations → changes and held removals: the rules by which a removal is believed. Pure.

Only complete answers come in here. What they miss is believed late and dated early: an image is a candidate when
enough answers in a row missed it, a region with suspiciously many candidates keeps them all, and what is accepted
later is dated to the first observation that missed it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sync.inventory import (
    NOT_PLANNED,
    Change,
    ChangeKind,
    Failure,
    HeldRemoval,
    Image,
    KnownTarget,
    Observation,
    Target,
    TargetUpdate,
    digest_of,
)


@dataclass(frozen=True, slots=True)
class RemovalRules:
    """When a removal is believed; the settings of the same names."""

    confirmations: int = 2
    limit_percent: float = 25
    limit_count: int = 20
    accept_after_runs: int = 3

    def is_confirmed(self, held: HeldRemoval) -> bool:
        """Return whether enough answers in a row missed it."""
        return held.missed_answers >= self.confirmations

    def is_over_limit(self, candidate_count: int, whole_count: int) -> bool:
        """Return whether so many of ``whole_count`` would go at once that an accident is more likely."""
        is_many = candidate_count > self.limit_count
        return is_many and candidate_count * 100 > whole_count * self.limit_percent

    def is_due(self, held: HeldRemoval) -> bool:
        """Return whether enough runs in a row missed it to accept it even beyond the limit."""
        return 0 < self.accept_after_runs <= held.missed_runs


@dataclass(frozen=True, slots=True)
class Comparison:
    """One target's observation against what is stored of it; nothing is decided yet."""

    target: Target
    known: KnownTarget | None
    stored: Mapping[Image, datetime]
    """The open images with the beginning of their intervals."""
    held: Mapping[Image | None, HeldRemoval]
    observation: Observation
    is_pending_retirement: bool = False
    """Discovery no longer lists the type: what its images do is judged together with the type."""
    type_added: Change | None = None
    """Set when the observation is the first of a type that was launched or has returned."""

    @property
    def is_first(self) -> bool:
        """Return whether the observation opens intervals without being a change."""
        return self.known is None or self.known.is_unobserved or self.type_added is not None

    @property
    def missing(self) -> frozenset[Image]:
        """Return the open images that the observation lacks."""
        return frozenset(self.stored) - self.observation.images

    def missed(self, image: Image) -> HeldRemoval:
        """Return how long an image has been missing, this observation included."""
        return missed_again(
            self.held.get(image),
            self.observation.observed_at,
            self.observation.answer_count,
            self.last_seen_at(image),
        )

    def last_seen_at(self, image: Image) -> datetime | None:
        """Return the last moment at which an open image is known to have been there."""
        asked_at = self.known.last_asked_at if self.known else None
        return max(asked_at, self.stored[image]) if asked_at else None


def missed_again(
    earlier: HeldRemoval | None, observed_at: datetime, answer_count: int, last_seen_at: datetime | None
) -> HeldRemoval:
    """Return a held removal with this run's answers counted; a new one where there was none."""
    if earlier is not None:
        return earlier.missed_again(observed_at, answer_count)
    return HeldRemoval(observed_at, observed_at, last_seen_at, missed_runs=1, missed_answers=answer_count)


def needs_another_answer(comparison: Comparison, rules: RemovalRules) -> bool:
    """Return whether an image is missing that another answer in this run could confirm or bring back."""
    return any(not rules.is_confirmed(comparison.missed(image)) for image in comparison.missing)


@dataclass(frozen=True, slots=True)
class _Delta:
    """The differences of one target, sorted by how far they can be believed."""

    comparison: Comparison
    replaced: dict[Image, Image] = field(default_factory=dict)
    """New image by the old image that it replaces: same ImageId, confirmed."""
    candidates: dict[Image, HeldRemoval] = field(default_factory=dict)
    unconfirmed: dict[Image, HeldRemoval] = field(default_factory=dict)


def judge_region(comparisons: Iterable[Comparison], open_pair_count: int, rules: RemovalRules) -> list[TargetUpdate]:
    """Return what to write about the observed targets of one region, sorted by target.

    ``open_pair_count`` are the pairs open in the region before the run, held ones included. When the candidates
    are beyond the limit, all removals of the region are held, except those that enough runs have missed.
    """
    deltas = [_delta_of(comparison, rules) for comparison in comparisons]
    candidate_count = sum(len(delta.candidates) for delta in deltas)
    is_over_limit = rules.is_over_limit(candidate_count, open_pair_count)
    updates = [_update_of(delta, rules, is_over_limit=is_over_limit) for delta in deltas]
    return sorted(updates, key=lambda update: update.target)


def _delta_of(comparison: Comparison, rules: RemovalRules) -> _Delta:
    if comparison.is_first:
        return _Delta(comparison)
    missing = comparison.missing
    delta = _Delta(comparison, replaced=_replaced_in(comparison, missing, rules))
    for image in missing - delta.replaced.keys():
        missed = comparison.missed(image)
        is_candidate = rules.is_confirmed(missed) and not comparison.is_pending_retirement
        (delta.candidates if is_candidate else delta.unconfirmed)[image] = missed
    return delta


def _replaced_in(comparison: Comparison, missing: frozenset[Image], rules: RemovalRules) -> dict[Image, Image]:
    """Pair images that are confirmed missing since this observation with new ones of the same ImageId."""
    new_ones: dict[str, list[Image]] = defaultdict(list)
    for image in sorted(comparison.observation.images - comparison.stored.keys(), reverse=True):
        if image.image_id:
            new_ones[image.image_id].append(image)
    replaced = {}
    for image in sorted(missing - comparison.held.keys()):
        if new_ones[image.image_id] and rules.is_confirmed(comparison.missed(image)):
            replaced[image] = new_ones[image.image_id].pop()
    return replaced


def _update_of(delta: _Delta, rules: RemovalRules, *, is_over_limit: bool) -> TargetUpdate:
    comparison = delta.comparison
    observed_at = comparison.observation.observed_at
    removed = {image: missed for image, missed in delta.candidates.items() if not is_over_limit or rules.is_due(missed)}
    closed = {image: missed.first_missed_at for image, missed in removed.items()}
    closed |= dict.fromkeys(delta.replaced, observed_at)
    opened = comparison.observation.images - comparison.stored.keys()
    kept = [image for image in delta.candidates if image not in removed]
    held: dict[Image | None, HeldRemoval] = {image: comparison.missed(image) for image in [*delta.unconfirmed, *kept]}
    return TargetUpdate(
        comparison.target,
        observed_at,
        is_observed=True,
        asked_at=comparison.observation.asked_at,
        opened=opened,
        closed=closed,
        changes=_changes_of(delta, removed, opened),
        held=held,
        released=[image for image in comparison.held if image is not None and image not in held],
        image_digest=digest_of((comparison.stored.keys() | opened) - closed.keys()),
    )


def _changes_of(delta: _Delta, removed: Mapping[Image, HeldRemoval], opened: Collection[Image]) -> tuple[Change, ...]:
    comparison = delta.comparison
    if comparison.is_first:
        return (comparison.type_added,) if comparison.type_added else ()
    observed_at = comparison.observation.observed_at
    added = sorted(frozenset(opened) - frozenset(delta.replaced.values()))
    return (
        *(Change(ChangeKind.ADDED, observed_at, image=image) for image in added),
        *(
            Change(ChangeKind.CHANGED, observed_at, comparison.last_seen_at(old), image=new, previous_image=old)
            for old, new in sorted(delta.replaced.items())
        ),
        *(
            Change(ChangeKind.REMOVED, missed.first_missed_at, missed.last_seen_at, image=image)
            for image, missed in sorted(removed.items(), key=lambda item: item[0])
        ),
    )


@dataclass(frozen=True, slots=True)
class ListingVerdict:
    """What a region's discovery means for the instance types that it no longer lists."""

    retired: Mapping[str, HeldRemoval] = field(default_factory=dict)
    held: Mapping[str, HeldRemoval] = field(default_factory=dict)
    is_over_limit: bool = False


def judge_listing(missed: Mapping[str, HeldRemoval], known_count: int, rules: RemovalRules) -> ListingVerdict:
    """Return which instance types are retired and which are held, by the same rules as images.

    ``missed`` are the types that were listed before and that every answer of this run lacked; ``known_count`` is
    how many were listed before.
    """
    candidates = {name: entry for name, entry in missed.items() if rules.is_confirmed(entry)}
    is_over_limit = rules.is_over_limit(len(candidates), known_count)
    retired = {name: entry for name, entry in candidates.items() if not is_over_limit or rules.is_due(entry)}
    held = {name: entry for name, entry in missed.items() if name not in retired}
    return ListingVerdict(retired, held, is_over_limit)


def retired_update(
    target: Target,
    stored: Mapping[Image, datetime],
    held: Mapping[Image | None, HeldRemoval],
    missed: HeldRemoval,
    decided_at: datetime,
) -> TargetUpdate:
    """Return the update of one target whose instance type is gone: its intervals end, one change says so.

    They end when discovery first missed the type, each image no later than its own first miss. An interval that
    began after that (the type was held and still answered) ends when the retirement is decided.
    """

    def end_of(image: Image, valid_from: datetime) -> datetime:
        entry = held.get(image)
        first_missed_at = min(missed.first_missed_at, entry.first_missed_at) if entry else missed.first_missed_at
        return first_missed_at if first_missed_at > valid_from else decided_at

    change = Change(ChangeKind.TYPE_RETIRED, missed.first_missed_at, missed.last_seen_at)
    return TargetUpdate(
        target,
        decided_at,
        closed={image: end_of(image, valid_from) for image, valid_from in stored.items()},
        changes=() if target.base_os_tag else (change,),
        released=list(held),
        image_digest=digest_of(()),
        retired_at=missed.first_missed_at,
    )


def accepted_update(
    target: Target,
    stored: Mapping[Image, datetime],
    held: Mapping[Image | None, HeldRemoval],
    decided_at: datetime,
) -> TargetUpdate:
    """Return the update of one target whose held removals a person accepts, dated to the first miss."""
    removed = {image: entry for image, entry in held.items() if image is not None}
    changes = [
        Change(ChangeKind.REMOVED, entry.first_missed_at, entry.last_seen_at, image=image)
        for image, entry in sorted(removed.items(), key=lambda item: item[0])
    ]
    return TargetUpdate(
        target,
        decided_at,
        closed={image: entry.first_missed_at for image, entry in removed.items()},
        changes=tuple(changes),
        released=list(removed),
        image_digest=digest_of(stored.keys() - removed.keys()),
    )


def not_planned_update(entry: Target, decided_at: datetime) -> TargetUpdate:
    """Return the update of a target that the configuration no longer asks: its gap opens."""
    reason = Failure(
        entry.region_id,
        entry.instance_type,
        NOT_PLANNED,
        "the configuration no longer asks this target; what happens to it is unknown",
        "",
        entry.base_os_tag,
    )
    return TargetUpdate(entry, decided_at, failure=reason)
