"""Dropping old history: what is asked about the kept time is answered as before, what was before becomes unknown."""

import itertools
import shutil
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import Connection, event

from sync.config import Settings
from sync.errors import ConfigError, LeaseLostError, LeaseTakenError
from sync.inventory import OPEN, PRUNED, Target
from sync.plan import Restriction
from sync.run import RunRequest, run_once
from sync.store import prune as prune_module
from sync.store.alerts import list_untold_changes
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import list_changes, list_held, list_intervals
from sync.store.known import find_latest_moment, find_region
from sync.store.lease import Lease, find_holder
from sync.store.prune import LAST_RUNS, Pruned, _Cut, _Pruner, count_prunable, prune
from sync.store.runs import find_run_times
from sync.store.schema import availability, change, coverage_gap, held_removal, metadata, region_run, run, target, views
from sync.store.snapshot import UNKNOWN, find_listing, find_snapshot, list_images_at
from sync.store.types import to_text
from sync.store.verify import violations
from tests.job.fake import FakeClient, Fault, Ticker, rows
from tests.job.test_properties import STORIES, Story, script_of
from tests.statements import statement_of
from tests.store.builders import contents_of, expire_lease
from tests.store.past import MONTH_S, REGIONS, Past, record_past

ALL = Filter()
INSTANT = timedelta(milliseconds=1)
Answers = dict[str, Any]


class KilledError(Exception):
    """What stands for a kill: nothing of ours handles it."""


def times_of(connection: Connection) -> list[datetime]:
    """Return all times of the history, and the instants beside each."""
    found: set[datetime] = set()
    columns = [column for table in metadata.sorted_tables if table.name != "lease" for column in table.c]
    for column in columns:
        if column.name.endswith(("_at", "_from", "_to")):
            moments = connection.execute(sa.select(column).distinct()).scalars()
            found.update(moment for moment in moments if moment and moment.year < 9999)
    return sorted({moment + step for moment in found for step in (-INSTANT, timedelta(0), INSTANT)})


def view(connection: Connection, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(views.tables[name])).mappings()]


def answers_of(
    connection: Connection, cutoff: datetime, cuts: Mapping[str, datetime], times: list[datetime]
) -> Answers:
    """Return everything that is answered about the kept time: since ``cuts`` in each region."""

    def is_kept(row: Mapping[str, Any], moment: datetime | None) -> bool:
        return moment is None or row["region_id"] not in cuts or moment >= cuts[row["region_id"]]

    history = [row for row in list_intervals(connection, ALL) if is_kept(row, row["valid_to"])]
    starts = find_run_times(connection)
    answers: Answers = {
        "changes": list_changes(connection, ALL, since=cutoff),
        "history": history,
        "shown with": [
            (starts.run_start_of(row["valid_from"]), starts.run_start_of(row["valid_to"])) for row in history
        ],
        "held": list_held(connection),
        "held since": [starts.run_start_of(row["first_missed_at"]) for _, _, row in list_held(connection)],
        "gaps": [
            row
            for row in view(connection, "observation_gaps")
            if row["error_code"] != PRUNED and (row["gap_to"] is None or is_kept(row, row["gap_to"] - INSTANT))
        ],
        "runs": [row for row in view(connection, "sync_runs") if row["started_at"] >= cutoff],
        "region runs": [row for row in view(connection, "region_runs") if is_kept(row, row["started_at"])],
        "known to the next run": [find_region(connection, name) for name in REGIONS],
        "the latest time": find_latest_moment(connection),
    }
    for name in ("gaps", "runs", "region runs"):
        answers[name].sort(key=repr)
    for name in ("available_images", "target_status"):
        answers[name] = sorted(view(connection, name), key=repr)
    for moment in times:
        at = [row for row in list_images_at(connection, moment, ALL) if is_kept(row, moment)]
        listings = [find_listing(connection, moment, name) for name in REGIONS if is_kept({"region_id": name}, moment)]
        answers[f"at {moment}"] = at, listings
    return answers


def known_at(connection: Connection, times: list[datetime]) -> dict[Any, tuple[str, frozenset[Any]]]:
    """Return the state and the images of each target at each time."""
    found = {}
    for moment in times:
        snapshot = find_snapshot(connection, moment, ALL)
        for asked, coverage in snapshot.coverage.items():
            found[moment, asked] = coverage.state, frozenset(snapshot.images.get(asked, ()))
    return found


class Witness:
    """What a history answered before it was pruned."""

    def __init__(self, database: Database, every: int = 1) -> None:
        self.database = database
        with database.reading() as connection:
            self.times = times_of(connection)[::every]
            self.known = known_at(connection, self.times)
            self.end = find_latest_moment(connection) or self.times[-1]

    def answers(self, cutoff: datetime, cuts: Mapping[str, datetime]) -> Answers:
        with self.database.reading() as connection:
            return answers_of(connection, cutoff, cuts, self.times)

    def expect_nothing_wrong(self) -> None:
        """Check that whatever is answered now is what was answered before, or unknown; and that all is sound."""
        with self.database.reading() as connection:
            now = known_at(connection, self.times)
        assert now.keys() == self.known.keys()
        wrong = {key for key, (state, images) in now.items() if state != UNKNOWN and (state, images) != self.known[key]}
        assert not wrong
        assert violations(self.database) == []

    def prune(self, cutoff: datetime) -> Pruned:
        """Prune, and check all that is promised of it."""
        expected = count_prunable(self.database, cutoff, self.end)
        before = self.answers(cutoff, expected.kept_from)
        pruned = prune(self.database, cutoff, self.end)
        assert pruned == expected
        assert self.answers(cutoff, pruned.kept_from) == before
        self.expect_nothing_wrong()
        return pruned


@pytest.mark.parametrize("number", [3, 5, 8])
def test_answers_about_the_kept_time_stay_and_those_before_become_unknown(database: Database, number: int) -> None:
    _, began = record_past(database)
    witness = Witness(database, every=11)
    pruned = witness.prune(began[number] + timedelta(days=2))
    assert pruned.interval_count + pruned.change_count > 0
    assert set(states_before_the_kept_history(database, witness.times)) == {UNKNOWN}


def states_before_the_kept_history(database: Database, times: list[datetime]) -> list[str]:
    """Return the states of the targets of which something was dropped, at times before what is kept of them."""
    gap = coverage_gap.c
    joined = target.join(coverage_gap, gap.target_id == target.c.id)
    columns = (target.c.region_id, target.c.instance_type, target.c.base_os_tag, gap.gap_to)
    with database.reading() as connection:
        rows = connection.execute(sa.select(*columns).select_from(joined).where(gap.error_code == PRUNED)).all()
        known = known_at(connection, times)
    kept_from = {Target(*row[:3]): row[3] for row in rows}
    return [state for (moment, asked), (state, _) in known.items() if moment < kept_from.get(asked, moment)]


def test_a_history_can_be_pruned_again_and_again(database: Database) -> None:
    _, began = record_past(database)
    witness = Witness(database, every=29)
    for moment in (began[2], began[5], began[5], began[3], began[9]):
        witness.prune(moment + INSTANT * 200)
    with database.reading() as connection:
        of = coverage_gap.c
        gaps = connection.execute(sa.select(of.target_id).where(of.error_code == PRUNED)).scalars().all()
    assert len(gaps) == len(set(gaps)) > 5


def test_the_second_prune_of_two_finds_nothing_to_do(database: Database) -> None:
    _, began = record_past(database)
    prune(database, began[6], began[-1])
    contents = contents_of(database)
    again = prune(database, began[6], began[-1] + timedelta(days=5))
    assert (again.row_count, contents_of(database)) == (0, contents)


def test_a_region_without_a_complete_run_before_is_left_alone(database: Database) -> None:
    past = Past(database)
    past.run()
    for _ in range(3):
        past.offer("aa", "t.1", rows())
        started_at = past.run(only=Restriction((), ("t.1",)))
    with database.writing() as connection:
        connection.execute(sa.update(region_run).where(region_run.c.region_id == "aa").values(is_complete=False))
    contents = contents_of(database)
    pruned = prune(database, started_at, started_at)
    assert "aa" not in pruned.kept_from
    assert contents_of(database)["change"] == contents["change"]


def test_the_run_after_a_prune_writes_nothing_new(database: Database) -> None:
    past, began = record_past(database)
    past.offer("bb", "t.2", rows("a", "b", "c", "e"))
    past.run()
    prune(database, began[8], began[-1])
    before = contents_of(database)
    past.run()
    after = contents_of(database)
    kept = ("target", "image", "availability", "change", "coverage_gap", "listed_type")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert violations(database) == []


def test_runs_go_on_as_if_nothing_had_been_dropped(database: Database) -> None:
    past, began = record_past(database)
    prune(database, began[9], began[-1])
    past.offer("aa", "t.1", rows("a", "new"))
    past.listed["bb"].add("u.1")
    past.listed["aa"].remove("u.1")
    past.run()
    past.accept("t.2")
    past.run()
    witness = Witness(database, every=17)
    witness.prune(began[-1] + timedelta(days=32))


def test_runs_that_nothing_refers_to_any_more_are_dropped_but_for_the_newest(database: Database) -> None:
    past = Past(database)
    began = [past.run() for _ in range(2)]
    past.offer("aa", "t.1", rows("a"))
    began += [past.run(after_s=60) for _ in range(2)]
    old = began[-1] + timedelta(days=1)
    with database.writing() as connection:
        values = {"status": "ok", "trigger": "test"}
        moments = [old + timedelta(minutes=number) for number in range(LAST_RUNS + 40)]
        connection.execute(sa.insert(run), [{**values, "started_at": at, "finished_at": at} for at in moments])
    past.clock.advance(10 * MONTH_S)
    last = past.run()
    pruned = prune(database, moments[-1], last)
    with database.reading() as connection:
        ids = set(connection.execute(sa.select(run.c.id)).scalars())
        cut = connection.execute(sa.select(region_run.c.started_at).where(region_run.c.run_id == 4)).scalars().all()
    # The first run opened what is still available, the fourth is the one of the cut.
    assert set(pruned.kept_from.values()) == set(cut)
    assert ids == {1, 4, *range(46, LAST_RUNS + 46)}
    assert violations(database) == []


def test_a_prune_may_be_killed_before_any_write(database: Database) -> None:
    _, began = record_past(database)
    cutoff, now = began[7] + timedelta(days=1), began[-1]
    witness = Witness(database, every=31)
    cuts = count_prunable(database, cutoff, now).kept_from
    expected = witness.answers(cutoff, cuts)
    for death in itertools.count(1):
        if is_pruned_but_for(database, death, cutoff, now):
            break
        witness.expect_nothing_wrong()
        assert witness.answers(cutoff, cuts) == expected
    assert death > 5
    witness.expect_nothing_wrong()
    assert witness.answers(cutoff, cuts) == expected


def is_pruned_but_for(database: Database, write_number: int, cutoff: datetime, now: datetime) -> bool:
    """Prune until the n-th write, and return whether it came to its end before."""
    numbers = itertools.count(1)

    def snap(_: Connection, __: object, statement: str, *___: object) -> None:
        if statement.split(maxsplit=1)[0] in {"INSERT", "DELETE"} and next(numbers) == write_number:
            raise KilledError

    event.listen(database.engine, "before_cursor_execute", snap)
    try:
        prune(database, cutoff, now)
    except KilledError:
        return False
    finally:
        event.remove(database.engine, "before_cursor_execute", snap)
    return True


def test_a_prune_waits_for_no_run_and_writes_nothing_beside_one(database: Database) -> None:
    _, began = record_past(database)
    running = Lease(database)
    running.acquire()
    before = contents_of(database)
    with pytest.raises(LeaseTakenError, match="another run is under way"):
        prune(database, began[6], began[-1])
    running.release()
    assert contents_of(database) == before


def test_a_prune_whose_lease_was_taken_over_writes_nothing_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, began = record_past(database)
    find_targets = _Pruner._find_targets

    def stall(pruner: _Pruner, cut: _Cut) -> Any:
        found = find_targets(pruner, cut)
        if cut.region_id == "bb":
            expire_lease(database)
            Lease(database).take()
        return found

    monkeypatch.setattr(_Pruner, "_find_targets", stall)
    before = contents_of(database)
    with pytest.raises(LeaseLostError):
        prune(database, began[8], began[-1])
    after = contents_of(database)
    assert len(after["change"]) < len(before["change"])
    assert rows_of_region(database, after, "bb") == rows_of_region(database, before, "bb")


def rows_of_region(database: Database, contents: Mapping[str, Any], region_id: str) -> list[Any]:
    with database.reading() as connection:
        keys = set(connection.execute(sa.select(target.c.id).where(target.c.region_id == region_id)).scalars())
    of_targets = [
        row
        for table in (availability, change, coverage_gap)
        for row in contents[table.name]
        if row[list(table.c.keys()).index("target_id")] in keys
    ]
    return [*of_targets, *(row for row in contents["region_run"] if region_id in row)]


def test_a_prune_holds_its_lease_however_long_the_rows_are_counted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, began = record_past(database)
    count, write = prune_module._find_target_cuts, _Pruner._prune_targets
    holders = []

    def count_slowly(*arguments: Any) -> Any:
        expire_lease(database)
        return count(*arguments)

    def look(pruner: _Pruner, *arguments: Any) -> None:
        with database.reading() as connection:
            holders.append(find_holder(connection))
        write(pruner, *arguments)

    monkeypatch.setattr(prune_module, "_find_target_cuts", count_slowly)
    monkeypatch.setattr(_Pruner, "_prune_targets", look)
    prune(database, began[8], began[-1])
    assert holders
    assert None not in holders


def test_counting_writes_nothing(database: Database) -> None:
    _, began = record_past(database)
    before = contents_of(database)
    assert count_prunable(database, began[6], began[-1]).row_count > 0
    assert contents_of(database) == before


def test_the_id_of_a_dropped_change_is_never_given_again(database: Database) -> None:
    past, _ = record_past(database)
    past.offer("aa", "t.1", rows("a", "c", "d", "f", "late"))
    past.run()
    with database.reading() as connection:
        newest = connection.execute(sa.select(sa.func.max(change.c.id))).scalar_one()
    last = past.run()
    prune(database, last + timedelta(seconds=1), last + timedelta(seconds=2))
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.max(change.c.id))).scalar_one() < newest
    database.close()
    past.offer("aa", "t.1", rows("a", "c", "d", "f", "late", "g"))
    past.run()
    with database.reading() as connection:
        told = list_untold_changes(connection, newest, 10)
    assert [(row["instance_type"], row["image_id"]) for row in told] == [("t.1", "g")]


def test_a_gap_that_covers_the_cut_and_what_is_open_stay(database: Database) -> None:
    past = Past(database)
    began = [past.run(), past.run()]
    began += [past.run(failing=[("aa", "t.1", "")]) for _ in range(3)]
    past.run()
    prune(database, began[3], began[-1])
    with database.reading() as connection:
        gaps = [row for row in view(connection, "observation_gaps") if row["instance_type"] == "t.1"]
        spans = connection.execute(sa.select(availability.c.valid_from).distinct()).scalars().all()
        first = connection.execute(sa.select(sa.func.min(target.c.first_observed_at))).scalar_one()
    of_target = [row for row in gaps if (row["region_id"], row["base_os_tag_filter"]) == ("aa", "")]
    dropped, failing = sorted(of_target, key=lambda row: row["gap_from"])
    assert (dropped["error_code"], failing["error_code"]) == (PRUNED, Fault().code)
    assert dropped["gap_to"] == failing["gap_from"]
    assert min(spans) == first


def test_what_a_type_still_offered_while_its_end_was_doubted_does_not_look_gone(database: Database) -> None:
    past = Past(database)
    past.run()
    past.listed["aa"].clear()  # so many that their end is not believed
    past.run()
    past.offer("aa", "u.1", rows("a", "b", "c", "new"))
    past.run()
    past.accept("u.1")
    past.listed["aa"] |= {"t.1", "t.2", "u.1"}
    past.run()
    past.run()
    past.run()
    Witness(database).prune(past.clock())


def test_a_type_that_ended_before_an_earlier_cut_brings_nothing_back(database: Database) -> None:
    past = Past(database)
    past.run()
    past.listed["aa"].clear()  # so many that their end is not believed
    past.run()
    past.run()
    prune(database, past.clock(), past.clock())
    past.accept("u.1")
    past.listed["aa"] |= {"t.1", "t.2"}
    witness = Witness(database)
    past.run()
    witness.prune(past.clock())
    with database.reading() as connection:
        of = coverage_gap.c
        ends = connection.execute(sa.select(of.gap_to).where(of.error_code == PRUNED)).scalars().all()
        gone = connection.execute(sa.select(target.c.retired_at).where(target.c.retired_at < OPEN)).scalars().all()
    assert gone
    assert min(ends) > max(gone)


def test_the_last_listing_of_a_region_is_known_however_old_it_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune_module, "LAST_RUNS", 1)
    past = Past(database)
    for _ in range(4):
        past.run()
    with database.writing() as connection:
        connection.execute(sa.update(region_run).where(region_run.c.run_id > 1).values(types_listed=None))
    assert prune(database, past.clock(), past.clock()).region_run_count == 2 * len(REGIONS)
    with database.reading() as connection:
        assert [find_listing(connection, past.clock(), name).is_known for name in REGIONS] == [True, True]


def test_the_run_that_first_missed_what_is_held_stays(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune_module, "LAST_RUNS", 1)
    past = Past(database)
    past.run()
    past.offer("bb", "t.1", rows())
    for _ in range(4):
        past.run()
    prune(database, past.clock(), past.clock())
    with database.reading() as connection:
        ids = set(connection.execute(sa.select(run.c.id)).scalars())
        missed = connection.execute(sa.select(sa.func.min(held_removal.c.first_missed_at))).scalar_one()
        starts = find_run_times(connection)
        first_run = connection.execute(sa.select(run.c.started_at).where(run.c.id == 2)).scalar()
    assert 2 in ids
    assert starts.run_start_of(missed) == first_run


def test_what_comes_after_a_gap_over_the_cut_still_came_after_the_run_before_it(database: Database) -> None:
    past, failing = Past(database), [("aa", "t.1", "")]
    began = [past.run(), past.run(), *(past.run(failing=failing) for _ in range(3))]
    past.offer("aa", "t.1", rows("a", "b", "c", "x"))
    last = [past.run() for _ in range(LAST_RUNS + 1)][-1]
    statement = statement_of("Between which two moments").replace("cn-hangzhou", "aa")
    query = sa.text(statement.replace("2026-11-22 00:00:00.000", to_text(began[3])).replace(":", r"\:"))
    with database.reading() as connection:
        before = connection.execute(query).all()
    assert [row.not_before is None for row in before if row.instance_type == "t.1"] == [False]
    assert prune(database, began[3], last).region_run_count
    with database.reading() as connection:
        assert connection.execute(query).all() == before


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with tables, to copy."""
    path = tmp_path_factory.mktemp("template") / "history.db"
    database = Database(f"sqlite:///{path}")
    lease = Lease(database)
    lease.acquire()
    lease.release()
    database.close()
    return path


@pytest.mark.slow
@settings(
    deadline=None,
    database=None,
    max_examples=25,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(STORIES)
def test_random_histories_keep_their_answers(
    template: Path, tmp_path_factory: pytest.TempPathFactory, story: Story
) -> None:
    path = shutil.copy(template, tmp_path_factory.mktemp("random"))
    database = Database(f"sqlite:///{path}")
    clock, images, listed = Ticker(), story.images, story.listed
    for turn in story.turns:
        clock.advance(60)
        images = frozenset(pair for pair in images ^ turn.toggled if pair[0][0] not in turn.emptied)
        listed = listed ^ turn.toggled_types
        client: Any = FakeClient(script_of(turn, images, listed), clock)
        chosen = Settings.model_validate({"workers": 2, **story.rules, **story.configs[turn.config]})
        request = RunRequest("test", turn.only, scheduled_at=clock())
        try:
            run_once(chosen, database, client, request, interrupt=threading.Event(), now=clock)
        except ConfigError:
            continue
        began = clock()
        if turn.config:
            Witness(database, every=4).prune(began - timedelta(seconds=70))
    database.close()
