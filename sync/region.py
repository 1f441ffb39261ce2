"""One region of a run: what was answered so far, and what to write about it once all is answered. Pure.

It holds no connection: the run hands in what the store knows and takes out what the store shall write.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sync.config import Settings
from sync.diff import (
    Comparison,
    ListingVerdict,
    RemovalRules,
    judge_listing,
    judge_region,
    missed_again,
    needs_another_answer,
    not_planned_update,
    retired_update,
)
from sync.errors import CallError
from sync.inventory import (
    NOT_PLANNED,
    Change,
    ChangeKind,
    Counts,
    Failure,
    HeldRemoval,
    Image,
    KnownTarget,
    Observation,
    RunStatus,
    Target,
    TargetUpdate,
    digest_of,
)
from sync.plan import Restriction, exact_names, is_wanted, needs_discovery, planned_types, targets_of
from sync.store.known import KnownRegion
from sync.store.record import ListingUpdate

Stored = tuple[Mapping[Image, datetime], Mapping[Image | None, HeldRemoval]]
"""The open intervals' images with their beginnings, and the held removals, of one target."""


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """What is the same for every region of a run."""

    settings: Settings
    restriction: Restriction
    rules: RemovalRules


class RegionRun:
    """The state of one region in a run, from its discovery to its verdict."""

    def __init__(self, known: KnownRegion, plan: RegionPlan, started_at: datetime) -> None:
        self.region_id = known.region_id
        self.started_at = started_at
        self.plan = plan
        self.known = known
        self.discovery_failure: Failure | None = None
        self.is_discovered = not needs_discovery(plan.settings)
        self.planned: list[Target] = []
        self.asked: list[Target] = []
        self._listed: frozenset[str] | None = None
        self._listed_at = started_at
        self._first_listed_at: dict[str, datetime] = {}
        self._listing_answers = 0
        self._verdict = ListingVerdict()
        self._added_types: frozenset[str] = frozenset()
        self._pending_types: frozenset[str] = frozenset()
        self._waiting: set[Target] = set()
        self._unchanged_count = 0
        self._comparisons: dict[Target, Comparison] = {}
        self._failed: dict[Target, tuple[CallError, datetime]] = {}

    # --- discovery

    def take_listing(self, listed: Iterable[str], received_at: datetime) -> bool:
        """Take one answer of discovery; return whether another is needed to confirm what it misses.

        The listing of a run is the union of its answers, as an observation is.
        """
        names = frozenset(listed)
        # By name: a later answer may lack what an earlier one had, and is no witness of it.
        self._first_listed_at |= dict.fromkeys(names - self._first_listed_at.keys(), received_at)
        self._listed = (self._listed or frozenset()) | names
        self._listed_at = max(self._listed_at, received_at)
        self._listing_answers += 1
        self._verdict = judge_listing(self._missed_types(), len(self.known.listed_types), self.plan.rules)
        return any(not self.plan.rules.is_confirmed(entry) for entry in self._verdict.held.values())

    def fail_listing(self, error: CallError) -> None:
        """Take the failure of discovery; after a first answer it only leaves what that missed unconfirmed."""
        if self._listed is None:
            self.discovery_failure = Failure(self.region_id, "", error.code, error.message, error.request_id)

    def plan_targets(self) -> list[Target]:
        """Decide what to ask, and return it sorted; discovery has ended."""
        self.is_discovered = True
        types = planned_types(self._candidate_types(), self.plan.settings)
        targets = targets_of(self.region_id, types, self.plan.settings)
        # The very objects that the stored ones are keyed by: finding those again compares no fields.
        self.planned = [self._stored_twin(entry) for entry in targets]
        self.asked = [entry for entry in self.planned if self.plan.restriction.admits(entry.instance_type)]
        self._waiting = set(self.asked)
        self._added_types = self._new_types() if self.known.last_listed_at else frozenset()
        self._pending_types = frozenset(name for name in self._held_types() if self._is_discovered_type(name))
        return self.asked

    def _stored_twin(self, entry: Target) -> Target:
        known = self.known.targets.get(entry)
        return known.target if known else entry

    @property
    def seen_types(self) -> frozenset[str]:
        """Return every instance type that this region lists or has ever been asked about."""
        known = {entry.instance_type for entry in self.known.targets}
        return frozenset(known) | self.known.listed_types.keys() | (self._listed or frozenset())

    @property
    def retired_targets(self) -> list[Target]:
        """Return the known targets whose instance type is retired in this run, sorted."""
        if not self.plan.restriction.covers_whole_regions:
            return []
        return sorted(
            entry
            for entry, known in self.known.targets.items()
            if entry.instance_type in self._verdict.retired
            and not known.is_retired
            and self._is_discovered_type(entry.instance_type)
        )

    def _is_discovered_type(self, name: str) -> bool:
        return is_wanted(name, self.plan.settings) and name not in exact_names(self.plan.settings)

    def _missed_types(self) -> dict[str, HeldRemoval]:
        return {
            name: missed_again(self.known.held_types.get(name), self._listed_at, self._listing_answers, last_listed_at)
            for name, last_listed_at in self.known.listed_types.items()
            if name not in (self._listed or ())
        }

    def _candidate_types(self) -> frozenset[str]:
        """Return the types that patterns choose from: the listed and held ones, or the known ones after a failure."""
        if self._listed is None:
            return frozenset(entry.instance_type for entry, known in self.known.targets.items() if not known.is_retired)
        return self._listed | self._verdict.held.keys()

    def _new_types(self) -> frozenset[str]:
        """Return the types that this run lists for the first time, or again after they were retired."""
        observed = {
            entry.instance_type
            for entry, known in self.known.targets.items()
            if not known.is_retired and known.first_observed_at is not None
        }
        fresh = (self._listed or frozenset()) - self.known.listed_types.keys() - observed
        return frozenset(entry.instance_type for entry in self.asked if entry.instance_type in fresh) - frozenset(
            exact_names(self.plan.settings)
        )

    # --- observations

    @property
    def is_answered(self) -> bool:
        """Return whether nothing more will be answered."""
        return self.is_discovered and not self._waiting

    def needs_stored(self, target: Target, images: frozenset[Image]) -> bool:
        """Return whether an answer differs from what the digest says is stored; settle it here if not."""
        known = self.known.targets.get(target)
        if known is None or self._is_first_of(target, known):
            return True
        is_quiet = known.gap_code is None and not known.has_held and not self._is_pending(target)
        if target in self._comparisons or not is_quiet or known.image_digest != digest_of(images):
            return True
        self._unchanged_count += 1
        self._waiting.discard(target)
        return False

    def take_images(
        self, target: Target, images: frozenset[Image], received_at: datetime, stored: Stored | None
    ) -> bool:
        """Take one answer; return whether another is needed to confirm what it misses.

        ``stored`` is what the store holds of the target; it may be None for the second and later answers.
        """
        comparison = self._comparisons.get(target)
        if comparison is None:
            observation = Observation(images, received_at, asked_at=self.started_at)
            comparison = self._comparison_of(target, observation, stored or ({}, {}))
        else:
            earlier = comparison.observation
            together = replace(
                earlier,
                images=earlier.images | images,
                observed_at=max(earlier.observed_at, received_at),
                answer_count=earlier.answer_count + 1,
            )
            comparison = replace(comparison, observation=together)
        self._comparisons[target] = comparison
        needs_another = not comparison.is_first and needs_another_answer(comparison, self.plan.rules)
        if not needs_another:
            self._waiting.discard(target)
        return needs_another

    def has_answer(self, target: Target) -> bool:
        """Return whether an answer of this run waits for a second one."""
        return target in self._comparisons

    def take_failure(self, target: Target, error: CallError, failed_at: datetime) -> None:
        """Take the failure of a call; after a first good answer it only leaves removals unconfirmed."""
        self._waiting.discard(target)
        if target not in self._comparisons:
            self._failed[target] = (error, failed_at)

    def _comparison_of(self, target: Target, observation: Observation, stored: Stored) -> Comparison:
        known = self.known.targets.get(target)
        is_added = target.instance_type in self._added_types and not target.base_os_tag
        return Comparison(
            target,
            known,
            stored[0],
            stored[1],
            observation,
            is_pending_retirement=self._is_pending(target),
            type_added=self._type_added(target) if is_added else None,
        )

    def _type_added(self, target: Target) -> Change:
        return Change(ChangeKind.TYPE_ADDED, self._first_listed_at[target.instance_type])

    def _is_first_of(self, target: Target, known: KnownTarget) -> bool:
        return known.is_unobserved or target.instance_type in self._added_types

    def _is_pending(self, target: Target) -> bool:
        return target.instance_type in self._pending_types

    @property
    def _judges_types(self) -> bool:
        """Return whether this run decides which instance types are gone."""
        return self._listed is not None and self.plan.restriction.covers_whole_regions

    def _held_types(self) -> Collection[str]:
        """Return the types whose retirement is held after this run; those of earlier runs where it decides nothing."""
        return (self._verdict.held if self._judges_types else self.known.held_types).keys()

    # --- the verdict

    def failures(self) -> list[Failure]:
        """Return what could not be observed, sorted; a failed discovery is the entry without instance type."""
        found = [self._failure_of(entry, error) for entry, (error, _) in self._failed.items()]
        return sorted(found + ([self.discovery_failure] if self.discovery_failure else []))

    @property
    def decisive_pair_count(self) -> int:
        """Return how many open pairs prove that what is missing is within the limit; 0 where none need to."""
        missing_count = sum(len(entry.missing) for entry in self._comparisons.values())
        if missing_count <= self.plan.rules.limit_count:
            return 0
        return int(missing_count * 100 / self.plan.rules.limit_percent) + 1 if self.plan.rules.limit_percent else 1

    def updates(
        self, retiring: Mapping[Target, Stored], open_pair_count: int, decided_at: datetime
    ) -> list[TargetUpdate]:
        """Return all that is to be written about the region's targets, sorted.

        ``retiring`` holds what is stored of ``retired_targets``; ``open_pair_count`` counts the pairs open before
        the run, up to ``decisive_pair_count``.
        """
        updates = {
            update.target: update
            for update in judge_region(self._comparisons.values(), open_pair_count, self.plan.rules)
        }
        updates |= {entry: self._failed_update(entry, *failed) for entry, failed in self._failed.items()}
        for entry, (stored, held) in retiring.items():
            missed = self._verdict.retired[entry.instance_type]
            updates[entry] = retired_update(entry, stored, held, missed, decided_at)
        updates |= {entry: not_planned_update(entry, decided_at) for entry in self._unplanned() if entry not in updates}
        self._mark_held_types(updates)
        return [updates[entry] for entry in sorted(updates)]

    def listing_update(self, updates: Iterable[TargetUpdate]) -> ListingUpdate:
        """Return what to note of this run's listing beside what the targets' updates note of it."""
        if self._listed is None or not self._judges_types:
            return ListingUpdate()
        written = {
            update.target.instance_type
            for update in updates
            for change in update.changes
            if change.kind is ChangeKind.TYPE_ADDED
        }
        missed = self.known.listed_types.keys() - self._listed - self._verdict.retired.keys()
        return ListingUpdate(
            listed={
                name: self._first_listed_at[name] for name in self._listed - self.known.listed_types.keys() - written
            },
            unlisted=self.unlisted_types(),
            missed={name: self.known.listed_types[name] for name in missed - self.known.missed_types},
            found=self._listed & self.known.missed_types,
        )

    def unlisted_types(self) -> frozenset[str]:
        """Return the types to forget as listed: those whose absence is believed."""
        if not self.plan.restriction.covers_whole_regions:
            return frozenset()
        return frozenset(self._verdict.retired)

    @property
    def types_listed(self) -> int | None:
        """Return how many instance types discovery listed; None when it did not answer."""
        return None if self._listed is None else len(self._listed)

    @property
    def is_complete(self) -> bool:
        """Return whether every known target of the region was asked."""
        has_asked = bool(self.asked) or self._listed is not None or not needs_discovery(self.plan.settings)
        return has_asked and self.plan.restriction.covers_whole_regions

    @property
    def listing_is_over_limit(self) -> bool:
        """Return whether so many types disappeared from the listing that none is believed gone."""
        return self._verdict.is_over_limit

    def counts(self, updates: Collection[TargetUpdate]) -> Counts:
        """Return the figures of the region run."""
        kinds = [change.kind for update in updates for change in update.changes]
        return Counts(
            targets_ok=self._unchanged_count + len(self._comparisons),
            targets_failed=len(self._failed),
            images_added=kinds.count(ChangeKind.ADDED),
            images_removed=kinds.count(ChangeKind.REMOVED),
            images_changed=kinds.count(ChangeKind.CHANGED),
            removals_held=sum(self._held_pairs_of(update) for update in updates),
        )

    def baseline_count(self, updates: Iterable[TargetUpdate]) -> int:
        """Return how many pairs the first observations of targets opened."""
        first = {target for target, comparison in self._comparisons.items() if comparison.is_first}
        return sum(len(update.opened) for update in updates if update.target in first)

    def status(self, counts: Counts, updates: Iterable[TargetUpdate]) -> RunStatus:
        """Return how the region run ended."""
        is_asked_type_held = any(self._is_pending(entry) for entry in self.asked)
        if is_asked_type_held or any(update.held for update in updates):
            return RunStatus.HELD
        if self.discovery_failure or counts.targets_failed:
            return RunStatus.PARTIAL if counts.targets_ok else RunStatus.FAILED
        return RunStatus.OK

    def _held_pairs_of(self, update: TargetUpdate) -> int:
        """Return how many pairs are held: a held instance type holds all pairs of its targets."""
        comparison = self._comparisons.get(update.target)
        if comparison and self._is_pending(update.target):
            return len((comparison.stored.keys() | frozenset(update.opened)) - update.closed.keys())
        return sum(image is not None for image in update.held)

    def _mark_held_types(self, updates: dict[Target, TargetUpdate]) -> None:
        """Note on each target of a type whose retirement is held, or no longer held, that it is so."""
        for entry, update in updates.items():
            name = entry.instance_type
            if update.retired_at:
                continue
            if self._judges_types and name in self._pending_types:
                updates[entry] = replace(update, held={**update.held, None: self._verdict.held[name]})
            elif self._judges_types and name in self.known.held_types:
                updates[entry] = replace(update, released=[*update.released, None])

    def _unplanned(self) -> list[Target]:
        """Return the known targets, unsorted, that the plan leaves out from now on: unknown, which is not absent."""
        if not self.plan.restriction.covers_whole_regions:
            return []
        known = self.known.targets
        return [
            entry
            for entry in known.keys() - set(self.planned)
            if not known[entry].is_retired and known[entry].gap_code != NOT_PLANNED
        ]

    def _failure_of(self, entry: Target, error: CallError) -> Failure:
        return Failure(
            entry.region_id, entry.instance_type, error.code, error.message, error.request_id, entry.base_os_tag
        )

    def _failed_update(self, entry: Target, error: CallError, failed_at: datetime) -> TargetUpdate:
        is_added = entry.instance_type in self._added_types
        return TargetUpdate(
            entry,
            failed_at,
            failure=self._failure_of(entry, error),
            changes=(self._type_added(entry),) if is_added and not entry.base_os_tag else (),
            listed_at=self._first_listed_at[entry.instance_type] if is_added else None,
        )
