"""Asks everything about one history at random times and with random filters, and compares with the oracle."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Connection, text

from sync.compare import find_comparison
from sync.store.filters import Filter
from sync.store.history import list_changes, list_intervals
from sync.store.runs import list_run_failures, list_runs
from sync.store.snapshot import list_images_at
from tests.questions import oracle, readme
from tests.questions.expect import is_sorted, mismatch
from tests.questions.identities import broken
from tests.questions.oracle import Rows, Wanted
from tests.questions.stories import BEGIN, IMAGES, MILLISECOND
from tests.questions.world import World

PLACE = ("region_id", "instance_type")
TYPES = ("t.1", "t.2", "u.1", "*", "t.*", "?.1", "T.*")
NAMES = ("m-1", "m-*", "CentOS*", "centos_7*", "*LTS", "*7.6 64*", "100% *", "Ubuntu_22.04_64", "*_*")
TAGS = ("CentOS_7.6_64", "centos_7.6_64", "CentOS_*", "*.6_*", "Ubuntu?22*")
KINDS = ("added", "removed", "changed", "type_added", "type_retired")


def filter_of(wanted: Wanted) -> Filter:
    """Return the filter that the options become."""
    return Filter(wanted.regions, wanted.types, wanted.images, wanted.kinds, wanted.os_tags)


@dataclass(slots=True)
class Inquiry:
    """One history with a connection to it and what is asked of it."""

    world: World
    connection: Connection
    random: Random
    problems: list[str] = field(default_factory=list)
    """What was answered wrongly."""

    def moments(self, *, is_between_runs: bool = False) -> list[datetime]:
        """Return the times worth asking about: every boundary, a millisecond beside it, and others."""
        turns = sorted(set(self.world.moments()))
        found = {BEGIN, datetime(2024, 12, 24, tzinfo=UTC)}
        for turn in turns:
            found |= {turn - MILLISECOND, turn, turn + MILLISECOND}
        found |= {one + (other - one) / 2 for one, other in itertools.pairwise(turns)}
        cut = sorted({moment - timedelta(microseconds=moment.microsecond % 1000) for moment in found})
        if is_between_runs:
            inside = [(run.started_at, run.finished_at) for run in self.world.runs if run.started_at < run.finished_at]
            cut = [moment for moment in cut if not any(one <= moment <= other for one, other in inside)]
        return [moment for moment in cut if not self.world.is_open(moment)]

    def wanted(self, *, kinds: bool = False) -> Wanted:
        """Return a random filter; often an empty one."""
        pick = self._pick
        return Wanted(pick(("aa", "bb")), pick(TYPES), pick(NAMES), pick(TAGS), pick(KINDS) if kinds else ())

    def _pick(self, names: Sequence[str]) -> tuple[str, ...]:
        count = self.random.choice((0, 0, 0, 1, 2))
        return tuple(self.random.sample(names, min(count, len(names))))

    def some(self, moments: Sequence[datetime], count: int) -> list[datetime]:
        """Return so many of the times, in random order."""
        return self.random.sample(moments, min(count, len(moments)))

    # --- commands

    def images(self) -> None:
        """Ask what was available at many times."""
        moments = self.moments()
        for moment in (*moments[-1:], *self.some(moments, 14)):
            wanted = self.wanted() if self.random.random() < 0.6 else Wanted()
            answered = list_images_at(self.connection, moment, filter_of(wanted))
            self._same(f"images at {moment} of {wanted}", oracle.images_at(self.world, moment, wanted), answered)
            is_ordered = is_sorted(answered, *PLACE, "base_os_tag_filter", "os_tag", "image_id")
            self._check(is_ordered, f"images: order of {answered}")

    def comparisons(self) -> None:
        """Ask what differs between times, regions and instance types."""
        known = {key[0] for key in self.world.lives}
        moments = self.moments()
        for _ in range(10):
            first, second = sorted(self.some(moments, 2))
            wanted = self.wanted()
            self._compared(wanted, oracle.compare_times(self.world, first, second, wanted), [first, second], None)
        for moment in self.some(self.moments(is_between_runs=True), 8):
            regions = tuple(self.random.sample(("aa", "bb"), 2))
            wanted = Wanted(regions, ("t.*",) if self.random.random() < 0.3 else (), *self._names())
            if known == {"aa", "bb"}:
                expected = oracle.compare_regions(self.world, moment, (regions[0], regions[1]), wanted)
                self._compared(wanted, expected, [], moment)
            types = tuple(self.random.sample(("t.1", "t.2", "u.1"), 2))
            wanted = Wanted(self._pick(("aa",)), types, *self._names())
            expected = oracle.compare_types(self.world, moment, (types[0], types[1]), wanted)
            self._compared(wanted, expected, [], moment)

    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self._pick(NAMES), self._pick(TAGS)

    def _compared(self, wanted: Wanted, expected: Rows, times: list[datetime], at: datetime | None) -> None:
        found = find_comparison(self.connection, filter_of(wanted), times, at, datetime.now(UTC), str)
        self._same(f"compare {times} at {at} of {wanted}", expected, found.rows)
        is_ordered = is_sorted(found.rows, *PLACE, "base_os_tag_filter", "kind", "os_tag", "image_id")
        self._check(is_ordered, f"compare: order of {found.rows}")

    def lines(self) -> None:
        """Ask for life lines and for changes, whole, in part and page by page."""
        for wanted in (Wanted(), self.wanted(), self.wanted()):
            answered = list_intervals(self.connection, filter_of(wanted))
            self._same(f"history of {wanted}", oracle.history(self.world, wanted), answered)
            is_ordered = is_sorted(answered, *PLACE, "base_os_tag_filter", "os_tag", "image_id", "os_name")
            self._check(is_ordered, f"history: order of {answered}")
        everything = list_changes(self.connection, Filter())
        self._check(everything == oracle.changes(self.world, Wanted()), "changes: not all, or not in their order")
        recorded = [entry.recorded_at for entry in self.world.changes] or [BEGIN]
        for _ in range(6):
            wanted = self.wanted(kinds=True)
            near = [self.random.choice(recorded) + MILLISECOND * self.random.choice((-1, 0, 1)) for _ in range(2)]
            since, until = (self.random.choice((None, moment)) for moment in near)
            answered = list_changes(self.connection, filter_of(wanted), since=since, until=until)
            is_right = answered == oracle.changes(self.world, wanted, since, until)
            self._check(is_right, f"changes from {since} to {until} of {wanted}: {answered}")
        pages: Rows = []
        for _ in everything:
            cursor = pages[-1]["change_id"] if pages else 0
            pages += list_changes(self.connection, Filter(), after_id=cursor)[: self.random.randint(1, 5)]
        self._check(pages == everything, f"changes: pages {pages}")

    def runs(self) -> None:
        """Ask for past runs and for what each of them did not observe."""
        runs = self.world.runs
        limit = self.random.randint(1, len(runs) + 1)
        newest = [run.run_id for run in reversed(runs)][:limit]
        self._check([row["run_id"] for row in list_runs(self.connection, limit)] == newest, f"runs: not {newest}")
        for run in runs:
            told = list_run_failures(self.connection, run.run_id)
            keys = [(row["region_id"], row["instance_type"], row["base_os_tag_filter"]) for row in told]
            targets = {key for key in keys if key[1]}
            must, may = oracle.failures(self.world, run)
            is_right = must <= targets <= must | may
            self._check(is_right, f"failures of {run}: {targets} instead of {must}, perhaps {may}")
            self._check(keys == sorted(set(keys)), f"order of failures: {told}")
            undiscovered = {key[0] for key in keys if not key[1] and key[0]}
            # Where a target of the region failed too, its cause may have been replaced: then nobody can say any more.
            sure = {name for name in run.undiscovered if name not in {key[0] for key in run.failed}}
            is_right = sure <= undiscovered <= run.undiscovered
            self._check(is_right, f"undiscovered in {run}: {told}")

    def identities(self) -> None:
        """Ask for what must hold between the answers themselves."""
        self.problems += broken(self.connection, self.some(self.moments(), 6))

    # --- statements

    def statements(self) -> None:
        """Ask each statement of README with other literals."""
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(text("SET TIME ZONE 'UTC'"))
        for words, statement in readme.STATEMENTS.items():
            for _ in range(4):
                chosen = self._parameters()
                answered = self._rows_of(readme.statement_about(words, chosen))
                self._same(f"{words} ({chosen})", statement.answer(self.world, chosen), answered)
                self._check(is_sorted(answered, *statement.order), f"{words}: order of {answered}")
        chosen = self._parameters()
        answered = self._rows_of(readme.statement_about(readme.LONGEST, chosen))
        problem = readme.longest_problem(self.world, chosen, answered)
        self._check(problem is None, f"{readme.LONGEST}: {problem}")

    def _parameters(self) -> readme.Parameters:
        moments = self.moments(is_between_runs=self.random.random() < 0.5)
        first, moment = sorted(self.some(moments, 2))
        period_from, period_to = sorted(self.some(moments, 2))
        tags = sorted({row[1] for row in IMAGES})
        one, other = self.random.sample(tags, 2)
        return readme.Parameters(
            self.random.choice(("aa", "bb")),
            self.random.choice(("t.1", "t.1", "t.2", "u.1", "*")),
            first,
            moment,
            self.random.choice((BEGIN, period_from)),
            period_to,
            (one, other),
            self.random.choice([0, *(entry.change_id for entry in self.world.changes)]),
            datetime.now(UTC),
        )

    def _rows_of(self, statement: str) -> Rows:
        found = self.connection.exec_driver_sql(statement).mappings()
        return [{name: _value_of(name, value) for name, value in row.items()} for row in found]

    def _same(self, question: str, expected: Rows, answered: Sequence[Any]) -> None:
        problem = mismatch(expected, answered)
        self._check(problem is None, f"{question}: {problem}")

    def _check(self, is_right: bool, problem: str) -> None:
        if not is_right:
            self.problems.append(problem)


def _value_of(name: str, value: Any) -> Any:
    """Return a value of a statement as the oracle has it, whatever the driver gives."""
    if name.endswith(("_at", "_since", "_from", "_to")) or name in {"not_before", "not_after"}:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
    return bool(value) if name == "from_baseline" else value


def ask_all(world: World, connection: Connection, random: Random) -> list[str]:
    """Ask everything, and return what was answered wrongly."""
    inquiry = Inquiry(world, connection, random)
    inquiry.images()
    inquiry.comparisons()
    inquiry.lines()
    inquiry.runs()
    inquiry.identities()
    inquiry.statements()
    return inquiry.problems
