"""Dropping old history: what is asked about the kept time is answered as before, what was before becomes unknown."""

import shutil
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings

from sync.config import Settings
from sync.errors import ConfigError
from sync.inventory import OPEN, PRUNED, Target
from sync.plan import Restriction
from sync.run import RunRequest, run_once
from sync.store import prune as prune_module
from sync.store.alerts import list_untold_changes
from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.prune import LAST_RUNS, prune
from sync.store.runs import find_run_times
from sync.store.schema import availability, change, coverage_gap, held_removal, region_run, run, target
from sync.store.snapshot import UNKNOWN, find_listing
from sync.store.types import to_text
from sync.store.verify import violations
from tests.job.fake import FakeClient, Fault, Ticker, rows
from tests.job.test_properties import STORIES, Story, script_of
from tests.statements import statement_of
from tests.store.builders import contents_of
from tests.store.past import MONTH_S, REGIONS, Past, record_past
from tests.store.witness import INSTANT, Witness, known_at, view


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
