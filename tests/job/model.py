"""What DESIGN sections 3 to 5 promise, in memory: told what each call got, it knows what the views must say.

Written from the text and not from the code of ``sync``. Exact times are left open: each moment is a span in which
it must lie. Where the text leaves a choice, the comment says which reading stands here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.job.journal import Journal, Key, Reply, Row, Span
from tests.job.rules import (
    admits,
    answers_needed,
    asks_discovery,
    check_call_count,
    exact_names,
    is_due,
    is_over_limit,
    is_wanted,
    leading_answers,
    missed,
    pairs_of,
    when_had,
)
from tests.job.state import Event, Interval, Missing, RegionState, Tally, TargetState, note_failure

NOT_PLANNED = "plan.not_planned"


class Model:
    """The history as it must be after the runs applied so far."""

    def __init__(self) -> None:
        self.targets: dict[Key, TargetState] = {}
        self.regions: dict[str, RegionState] = {}
        self.events: list[Event] = []
        self.tallies: list[Tally | None] = []
        self.journals: list[Journal] = []

    def apply(self, journal: Journal) -> Tally:
        """Take one more run; a run that wrote only its own row is taken by ``skip``."""
        tally = Tally()
        self.tallies.append(tally)
        self.journals.append(journal)
        for region_id in self._regions_of(journal, tally):
            RegionPass(self, self.regions.setdefault(region_id, RegionState()), region_id, journal, tally).make()
        return tally

    def skip(self, journal: Journal) -> None:
        """Take a run that found its configuration unusable."""
        self.tallies.append(None)
        self.journals.append(journal)

    def accept(self, journal: Journal, shown: Iterable[tuple[Key, Row | None]]) -> None:
        """Take a person's word for held removals, dated like the others; row None is the instance type."""
        tally = Tally(is_accepted=True)
        self.tallies.append(tally)
        self.journals.append(journal)
        # Types first: their images go with them and are no removals of their own.
        for key, row in sorted(shown, key=lambda entry: entry[1] is not None):
            judge = RegionPass(self, self.regions[key[0]], key[0], journal, tally)
            if row is None:
                judge.retire(key[1], judge.state.missing.pop(key[1]))
            elif row in self.targets[key].missing:
                judge.remove(key, row)

    def held(self) -> list[tuple[Key, Row | None]]:
        """Return everything that is held: images, and instance types as their own target with None."""
        images = [(key, row) for key, state in self.targets.items() for row in state.missing]
        types = [((region, name, ""), None) for region, state in self.regions.items() for name in state.missing]
        return [*images, *types]

    def known(self, region_id: str) -> list[Key]:
        """Return the known targets of a region, sorted."""
        return sorted(key for key in self.targets if key[0] == region_id)

    def missing_since(self, key: Key, row: Row) -> Span | None:
        """Return since when answers miss an open image, or else the listing its type; None where neither does."""
        own = self.targets[key].missing.get(row)
        of_type = self.regions[key[0]].missing.get(key[1]) if key[0] in self.regions else None
        either = own or of_type
        return either.since if either else None

    def _regions_of(self, journal: Journal, tally: Tally) -> list[str]:
        names = sorted(journal.settings.regions)
        reply = journal.region_list
        if reply is not None:
            tally.has_failure = reply.content is None
            names = sorted(reply.names if reply.content is not None else self._living_regions())
        is_restricted = bool(journal.only_regions or journal.only_types)
        if not is_restricted and not tally.has_failure:
            for key in [key for key in self.targets if key[0] not in names]:
                self.leave(key, journal)
        return [name for name in names if not journal.only_regions or name in journal.only_regions]

    def _living_regions(self) -> set[str]:
        return {key[0] for key, state in self.targets.items() if state.retired is None}

    def leave(self, key: Key, journal: Journal) -> None:
        """Let a target that is no longer planned become unknown, which removes nothing."""
        if self.targets[key].retired is None:
            now = Span(journal.began_at, journal.ended_at)
            note_failure(self.targets[key], Reply(now.earliest, now.latest, None, NOT_PLANNED), now)


class RegionPass:
    """One region in one run."""

    def __init__(self, model: Model, state: RegionState, region_id: str, journal: Journal, tally: Tally) -> None:
        self.model = model
        self.state = state
        self.region_id = region_id
        self.journal = journal
        self.settings = journal.settings
        self.tally = tally
        self.is_whole = not journal.only_types
        self.run = len(model.tallies)
        self.end = Span(journal.began_at, journal.ended_at)
        self.listed: dict[str, Span] | None = None
        self.listed_when = self.end
        self.first_listed: dict[str, datetime] = {}
        self.missing_types: dict[str, Missing] = {}
        self.retired_types: dict[str, Missing] = {}
        self.added_types: frozenset[str] = frozenset()
        self.pair_count = sum(len(model.targets[key].open) for key in model.known(region_id))

    def make(self) -> None:
        """Judge discovery, then every target, then the removals of the region together."""
        if asks_discovery(self.settings):
            self._take_listing(self.journal.listings.get(self.region_id, ()))
        planned = self._plan()
        asked = [key for key in planned if admits(self.journal.only_types, key[1])]
        self.added_types = self._types_added(asked)
        self._write_listing()
        pending = [self._take_target(key) for key in asked]
        self._judge([entry for entry in pending if entry])
        if self.is_whole:
            for key in self.model.known(self.region_id):
                if key not in planned and self.model.targets[key].retired is None:
                    self.model.leave(key, self.journal)

    # --- discovery

    def _take_listing(self, replies: Sequence[Reply]) -> None:
        good = leading_answers(replies)
        if not good:
            self.tally.has_failure = True
            return
        self.listed = {name: when_had(reply, self.journal) for reply in good for name in reply.names}
        self.listed_when = Span(good[0].asked_at, self.journal.ended_at)
        self.first_listed = {name: reply.asked_at for reply in reversed(good) for name in reply.names}
        lost = {
            name: missed(self.state.missing.get(name), self.listed_when, self.state.listed[name], len(good))
            for name in self.state.listed.keys() - self.listed.keys()
        }
        check_call_count(self.region_id, replies, self._listings_needed(good))
        sure = {name for name, entry in lost.items() if entry.answer_count >= self.settings.removal_confirmations}
        is_held = is_over_limit(len(sure), len(self.state.listed), self.settings)
        # Section 3 says that discovery which shrinks beyond the limit "never retires types"; section 4 gives types
        # the rules of images. Read together: not at once, but by the n-th run in a row like a held image.
        gone = {name for name in sure if not is_held or is_due(lost[name], self.settings)}
        self.retired_types = {name: lost[name] for name in gone}
        self.missing_types = {name: lost[name] for name in lost.keys() - gone}

    def _listings_needed(self, good: Sequence[Reply]) -> int:
        before = {name: self._answers_before(name) for name in self.state.listed}
        return answers_needed(before, [reply.names for reply in good], self.settings)

    def _answers_before(self, name: str) -> int:
        entry = self.state.missing.get(name)
        return entry.answer_count if entry else 0

    def _plan(self) -> list[Key]:
        offered = self._types_known()
        if self.listed is not None:
            offered = {*self.listed, *self.missing_types}
        types = {name for name in offered if is_wanted(name, self.settings)} | exact_names(self.settings)
        types |= {"*"} if self.settings.all_types_target else set()
        return sorted((self.region_id, name, tag) for name in types for tag in ("", *self.settings.base_os_tags))

    def _types_known(self) -> set[str]:
        """Return what patterns choose from when discovery failed: all known types, even those that had been left."""
        living = {key[1] for key in self.model.known(self.region_id) if self.model.targets[key].retired is None}
        return living - {"*"}

    def _types_added(self, asked: Iterable[Key]) -> frozenset[str]:
        if self.listed is None or not self.state.was_listed:
            return frozenset()
        fresh = self.listed.keys() - self.state.listed.keys() - exact_names(self.settings)
        return frozenset(key[1] for key in asked if key[1] in fresh and not self._is_observed(key))

    def _is_observed(self, key: Key) -> bool:
        """Return whether the type has answered, with any BaseOsTag, and is not gone: then it is not new."""
        states = [state for other, state in self.model.targets.items() if other[:2] == key[:2]]
        return any(state.first_observed is not None and state.retired is None for state in states)

    def _write_listing(self) -> None:
        if self.listed is None:
            return
        added = self.listed if self.is_whole else {name: self.listed[name] for name in self.added_types}
        seen = {name: span for name, span in self.listed.items() if name in self.state.listed} | dict(added)
        for name, span in seen.items():
            before = self.state.listed.get(name, span)
            earliest = span.earliest if self.is_whole else before.earliest
            self.state.listed[name] = Span(earliest, span.latest)
        if self.is_whole:
            self.state.was_listed = True
            self._retire()
            self.tally.is_held |= any(self._is_discovered(name) for name in self.missing_types)
            # A type that is not planned is not judged: its row begins anew when it is planned again.
            self.state.missing = {
                name: entry for name, entry in self.missing_types.items() if self._is_discovered(name)
            }

    def _is_discovered(self, name: str) -> bool:
        return is_wanted(name, self.settings) and name not in exact_names(self.settings)

    def _retire(self) -> None:
        for name, entry in self.retired_types.items():
            if self._is_discovered(name):
                self.retire(name, entry)
            else:
                del self.state.listed[name]

    def retire(self, name: str, entry: Missing) -> None:
        """Let a type be gone: all its targets, whatever their BaseOsTag."""
        del self.state.listed[name]
        for key in self.model.known(self.region_id):
            state = self.model.targets[key]
            if key[1] == name and state.retired is None:
                self._retire_target(key, state, entry)

    def _retire_target(self, key: Key, state: TargetState, entry: Missing) -> None:
        for row, interval in state.open.items():
            own = state.missing.get(row)
            since = own.since if own and own.since.earliest < entry.since.earliest else entry.since
            interval.until = since if interval.since.earliest < since.earliest else self.end
        if state.gap:
            state.gap.until = self.end
        state.retired, state.missing, state.is_begun, state.relisted_at = entry.since, {}, False, None
        if not key[2]:
            self._note("type_retired", key, None, entry.since, entry.last_had)

    # --- targets

    def _take_target(self, key: Key) -> "Pending | None":
        state = self.model.targets.setdefault(key, TargetState())
        if key[1] in self.added_types:
            self._take_return(key, state)
        replies = self.journal.images.get(key, ())
        good = leading_answers(replies)
        if not good:
            self._fail(state, replies)
            return None
        self.tally.ok += 1
        when = Span(good[0].asked_at, self.journal.ended_at)
        is_first = not state.is_begun
        check_call_count(key, replies, 1 if is_first else self._answers_needed(state, good))
        pending = None if is_first else self._compare(key, state, good, when)
        if is_first:
            self._open(state, good[0].rows, when, good, is_baseline=state.first_observed is None)
            pending = Pending(key, state, set(), self._is_waiting(key))
        self._cover(state, when, good)
        return pending

    def _take_return(self, key: Key, state: TargetState) -> None:
        """Note that a type is new or back, whether it can be observed yet or not."""
        if not key[2]:
            self._note("type_added", key, None, self.listed_when, None)
        if state.retired:
            state.relisted_at = self.first_listed[key[1]]
        if state.retired and state.last_observed:
            # Which of the two is told as last is open: it was absent for a time after it had been observed.
            state.last_observed = Span(state.last_observed.earliest, self.listed_when.latest)
        state.retired, state.is_begun = None, False

    def _answers_needed(self, state: TargetState, good: Sequence[Reply]) -> int:
        before = {row: state.missing[row].answer_count if row in state.missing else 0 for row in state.open}
        return answers_needed(before, [reply.rows for reply in good], self.settings)

    def _fail(self, state: TargetState, replies: Sequence[Reply]) -> None:
        if state.retired and state.last_observed:
            # As of a type that returns: it was absent for a time after it had been observed.
            state.last_observed = Span(state.last_observed.earliest, self.end.latest)
        for reply in replies[:1] or self.journal.refusals[self.region_id]:
            note_failure(state, reply, self.end)
        self.tally.failed += 1
        self.tally.has_failure = True

    def _cover(self, state: TargetState, when: Span, good: Sequence[Reply]) -> None:
        if state.gap:
            state.gap.until = when
        state.first_observed = state.first_observed or when
        # Nothing is written of a restricted run that finds nothing new, so it need not move the moment forward.
        before = state.last_observed.earliest if state.last_observed else when.earliest
        earliest = self.journal.began_at if self.is_whole else before
        state.last_observed = Span(earliest, self.journal.ended_at)
        state.retired, state.is_begun, state.relisted_at = None, True, None
        for row, interval in state.open.items():
            for reply in good:
                if row in reply.rows:
                    start = earliest if self.is_whole else interval.last_had.earliest
                    # What one observation only had was last seen at its moment, never before it was first seen.
                    interval.last_had = Span(start, max(reply.true_until, interval.since.latest))

    def _open(
        self, state: TargetState, rows: Iterable[Row], when: Span, good: Sequence[Reply], *, is_baseline: bool
    ) -> None:
        for row in rows:
            true_until = max(reply.true_until for reply in good if row in reply.rows)
            state.intervals.append(Interval(row, when, is_baseline, Span(self.journal.began_at, true_until)))

    def _compare(self, key: Key, state: TargetState, good: Sequence[Reply], when: Span) -> "Pending":
        union = frozenset[Row]().union(*(reply.rows for reply in good))
        lost = {
            row: missed(state.missing.get(row), when, interval.last_had, len(good))
            for row, interval in state.open.items()
            if row not in union
        }
        new = union - state.open.keys()
        sure = {row for row, entry in lost.items() if entry.answer_count >= self.settings.removal_confirmations}
        replaced = pairs_of(sure - state.missing.keys(), new)
        for old, young in sorted(replaced.items()):
            state.open[old].until = when
            self._note("changed", key, young, when, lost[old].last_had)
        for row in sorted(new - set(replaced.values())):
            self._note("added", key, row, when, None)
        self._open(state, new, when, good, is_baseline=False)
        state.missing = {row: entry for row, entry in lost.items() if row not in replaced}
        is_waiting = self._is_waiting(key)
        return Pending(key, state, set() if is_waiting else sure - replaced.keys(), is_waiting)

    def _is_waiting(self, key: Key) -> bool:
        """Return whether the type's own retirement is held: what its images do is judged together with it."""
        return key[1] in self.state.missing and self._is_discovered(key[1])

    # --- the verdict

    def _judge(self, pending: Sequence["Pending"]) -> None:
        count = sum(len(entry.candidates) for entry in pending)
        is_held = is_over_limit(count, self.pair_count, self.settings)
        for entry in pending:
            for row in sorted(entry.candidates):
                if not is_held or is_due(entry.state.missing[row], self.settings):
                    self.remove(entry.key, row)
            self.tally.held += len(entry.state.open) if entry.is_waiting else len(entry.state.missing)
            self.tally.is_held |= entry.is_waiting or bool(entry.state.missing)

    def remove(self, key: Key, row: Row) -> None:
        """Let an image be gone since the first observation that missed it."""
        state = self.model.targets[key]
        missing = state.missing.pop(row)
        state.open[row].until = missing.since
        self._note("removed", key, row, missing.since, missing.last_had)

    def _note(self, kind: str, key: Key, row: Row | None, detected: Span, last_had: Span | None) -> None:
        self.model.events.append(Event(self.run, kind, key, row, detected, last_had, self.end))
        if kind in {"added", "removed", "changed"}:
            setattr(self.tally, kind, getattr(self.tally, kind) + 1)


@dataclass(frozen=True, slots=True)
class Pending:
    """A target whose confirmed removals wait for the region's verdict."""

    key: Key
    state: TargetState
    candidates: set[Row]
    is_waiting: bool


# --- the rules
