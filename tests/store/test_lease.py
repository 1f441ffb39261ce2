"""The lease: one of many gets it, on the database's clock, and a stalled owner can never write again."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, select, update

from sync.errors import DatabaseError, LeaseLostError, LeaseTakenError
from sync.inventory import Counts, RunStatus, utc_now
from sync.store.database import Database, require_history
from sync.store.lease import LEASE_S, Lease, _is_dead, _process_scope
from sync.store.schema import lease
from tests.store.builders import (
    NOON,
    Writer,
    a_target,
    an_image,
    at,
    contents_of,
    expire_lease,
    observed,
    writer_of,
)

REPOSITORY = Path(__file__).parents[2]
CONTENDERS = 3


def row_of(database: Database) -> tuple[str | None, int, datetime]:
    with database.reading() as connection:
        row = connection.execute(select(lease)).one()
    return row.owner, row.token, row.expires_at


def remaining_of(database: Database) -> timedelta:
    """Return how long the lease still lasts by the clock of the database."""
    now = Lease(database)._now
    with database.reading() as connection:
        row = connection.execute(select(lease.c.expires_at, now.label("moment"))).one()
    expires_at: datetime = row.expires_at
    moment: datetime = row.moment
    return expires_at - moment


def race(database_url: str, start: threading.Barrier) -> str:
    database = Database(database_url)
    start.wait()
    try:
        Lease(database).acquire()
    except LeaseTakenError:
        return "taken"
    else:
        return "won"
    finally:
        database.close()


def test_one_of_many_threads_wins_on_an_empty_database(database_url: str, database: Database) -> None:
    start = threading.Barrier(CONTENDERS)
    with ThreadPoolExecutor(CONTENDERS) as pool:
        racers = [pool.submit(race, database_url, start) for _ in range(CONTENDERS)]
    assert sorted(racer.result() for racer in racers) == ["taken"] * (CONTENDERS - 1) + ["won"]
    require_history(database)


@pytest.fixture(scope="module")
def contenders() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that race for leases; started once, because a start costs more than a race."""
    command = [sys.executable, "-m", "tests.store.contender"]
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(CONTENDERS)
        ]


def said_to_all(contenders: list[subprocess.Popen[str]], word: str) -> list[str]:
    """Say a word to all of them at once and return what each answers, sorted."""
    for process in contenders:
        print(word, file=process.stdin, flush=True)
    return sorted(process.stdout.readline().strip() for process in contenders if process.stdout)


def test_one_of_many_processes_wins_on_an_empty_database(
    database_url: str, database: Database, contenders: list[subprocess.Popen[str]]
) -> None:
    assert said_to_all(contenders, database_url) == ["ready"] * CONTENDERS
    assert said_to_all(contenders, "go") == ["taken"] * (CONTENDERS - 1) + ["won"]
    for process in contenders:
        print("done", file=process.stdin, flush=True)
    require_history(database)


def test_two_never_hold_it_at_once(database_url: str, database: Database) -> None:
    Lease(database).acquire()
    expire_lease(database)
    holders: list[int] = []
    most: list[int] = []

    def take_often(number: int) -> None:
        mine = Database(database_url)
        for _ in range(8):
            taken = Lease(mine)
            with contextlib.suppress(LeaseTakenError):
                taken.acquire()
                holders.append(number)
                most.append(len(holders))
                holders.remove(number)
                taken.release()
        mine.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(take_often, range(3)))
    assert set(most) == {1}
    assert row_of(database)[:2] == (None, len(most) + 1)


def test_who_finds_it_taken_is_told_whose_it_is_and_until_when(database: Database) -> None:
    first = Lease(database)
    first.acquire()
    owner, _, expires_at = row_of(database)
    with pytest.raises(LeaseTakenError) as caught:
        Lease(database).acquire()
    assert owner == first.owner
    assert first.owner in str(caught.value)
    assert f"until {expires_at:%Y-%m-%d %H:%M:%S} UTC" in str(caught.value)


def test_who_finds_it_taken_changes_nothing(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), [an_image()]))
    before, held = contents_of(database), row_of(database)
    with pytest.raises(LeaseTakenError):
        Lease(database).acquire()
    assert (contents_of(database), row_of(database)) == (before, held)


def test_a_lease_that_was_given_back_is_free_at_once(database: Database) -> None:
    first, second = Lease(database), Lease(database)
    first.acquire()
    first.release()
    second.acquire()
    assert row_of(database)[:2] == (second.owner, 2)


def test_giving_it_back_twice_does_not_take_it_from_the_next_owner(database: Database) -> None:
    first, second = Lease(database), Lease(database)
    first.acquire()
    first.release()
    second.acquire()
    held = row_of(database)
    first.release()
    assert row_of(database) == held


def test_an_expired_lease_is_taken_over_with_a_higher_token(database: Database) -> None:
    stalled, successor = Lease(database), Lease(database)
    stalled.acquire()
    expire_lease(database)
    successor.acquire()
    assert row_of(database)[:2] == (successor.owner, 2)


KILLED_OWNER = """
import os, signal, sys
from sync.store.database import Database
from sync.store.lease import Lease
Lease(Database(sys.argv[1])).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_process_that_was_killed_on_this_machine_is_free_at_once(
    database_url: str, database: Database
) -> None:
    subprocess.run([sys.executable, "-c", KILLED_OWNER, database_url], cwd=REPOSITORY, check=False)
    assert remaining_of(database) > timedelta(seconds=30)
    successor = Lease(database)
    successor.acquire()
    assert row_of(database)[:2] == (successor.owner, 2)


@pytest.mark.parametrize("change", ["the process lives", "another machine"])
def test_the_lease_of_a_process_that_may_live_is_not_taken(database: Database, change: str) -> None:
    Lease(database).acquire()
    owner = row_of(database)[0] or ""
    dead = re.sub(r" process \d+ ", f" process {2**22 + 1} ", owner)  # beyond the largest process id of Linux
    other = re.sub(r"\([0-9a-f]{8}-", "(0123abcd-", dead)
    with database.writing() as connection:
        connection.execute(update(lease).values(owner=owner if change == "the process lives" else other))
    with pytest.raises(LeaseTakenError):
        Lease(database).acquire()


WRITES: dict[str, Callable[[Writer], object]] = {
    "targets": lambda stalled: stalled.write(observed(a_target(), [an_image("m-2")], at(1), stored=[an_image()])),
    "a new run": lambda stalled: stalled.recorder.open_run("test", at(1)),
    "a region": lambda stalled: stalled.recorder.open_regions(["cn-beijing"], at(1)),
    "the end": lambda stalled: stalled.recorder.close_run(at(1), RunStatus.OK, Counts()),
    "a renewal": lambda stalled: stalled.lease.renew(),
}


def test_a_stalled_owner_can_write_nothing_after_its_successor(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), [an_image()]))
    expire_lease(database)
    with writer_of(database):
        before, held = contents_of(database), row_of(database)
        for write in WRITES.values():
            with pytest.raises(LeaseLostError, match="another run took over"):
                write(writer)
        assert (contents_of(database), row_of(database)) == (before, held)


def test_a_stalled_owner_cannot_write_after_its_successor_has_ended(database: Database, writer: Writer) -> None:
    expire_lease(database)
    with writer_of(database):
        pass
    with pytest.raises(LeaseLostError):
        writer.write(observed(a_target(), [an_image()]))
    assert contents_of(database)["target"] == []


def test_an_expired_lease_that_nobody_took_is_still_its_owners(database: Database, writer: Writer) -> None:
    expire_lease(database)
    writer.write(observed(a_target(), [an_image()]))
    assert writer.open_images() == {a_target(): {an_image(): NOON}}
    with pytest.raises(LeaseTakenError):
        Lease(database).acquire()


def test_a_renewal_prolongs_it_by_its_whole_length(database: Database) -> None:
    taken = Lease(database)
    taken.acquire()
    with database.writing() as connection:
        connection.execute(update(lease).values(expires_at=NOON))
    taken.renew()
    assert timedelta(seconds=LEASE_S - 10) < remaining_of(database) <= timedelta(seconds=LEASE_S)


def test_renewals_within_one_millisecond_count_as_renewals(database: Database) -> None:
    taken = Lease(database)
    taken.acquire()
    with database.writing() as connection:
        for _ in range(50):
            taken.guard(connection)
    assert row_of(database)[:2] == (taken.owner, 1)


def test_it_lasts_a_minute_by_the_clock_of_the_database(database: Database) -> None:
    Lease(database).acquire()
    assert timedelta(seconds=LEASE_S - 10) < remaining_of(database) <= timedelta(seconds=LEASE_S)


def test_no_time_of_this_machine_enters_the_lease(database: Database) -> None:
    texts: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "lease" in statement:
            texts.append(f"{statement} {parameters}")

    Lease(database).acquire()
    expire_lease(database)
    event.listen(database.engine, "before_cursor_execute", note)
    taken = Lease(database)
    taken.acquire()
    taken.renew()
    taken.release()
    assert len(texts) >= 5
    assert not [entry for entry in texts if "datetime" in entry or "'20" in entry]


def test_a_dead_process_whose_parent_took_no_note_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert _is_dead(f"host process {child.pid} ({_process_scope()}-00000000)")
    assert not _is_dead(f"host process {os.getppid()} ({_process_scope()}-00000000)")


def test_a_lease_that_was_taken_while_the_clock_was_ahead_blocks_nobody(database: Database) -> None:
    ahead = Lease(database)
    ahead.acquire()
    set_expiry(database, timedelta(hours=2))
    successor = Lease(database)
    successor.acquire()
    with pytest.raises(LeaseLostError):
        ahead.renew()


def test_a_run_of_this_process_that_could_not_give_its_lease_back_blocks_nobody(database: Database) -> None:
    lost = Lease(database)
    lost.acquire()
    expiry = row_of(database)
    database.close()
    lost._database = Database("sqlite:////nowhere/history.db")
    with pytest.raises(DatabaseError):
        lost.release()
    assert row_of(database) == expiry
    successor = Lease(database)
    successor.acquire()
    with pytest.raises(LeaseTakenError):
        Lease(database).acquire()
    successor.release()


def set_expiry(database: Database, from_now: timedelta) -> None:
    """Let the lease end that long after the machine's present."""
    with database.writing() as connection:
        connection.execute(update(lease).values(expires_at=utc_now() + from_now))
