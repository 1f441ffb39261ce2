"""Pruning beside others and between two writes: what was killed can be repeated, and nobody writes twice."""

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, event

from sync.errors import LeaseLostError, LeaseTakenError
from sync.store import prune as prune_module
from sync.store.database import Database
from sync.store.lease import Lease, find_holder
from sync.store.prune import _Cut, _Pruner, count_prunable, prune
from sync.store.schema import availability, change, coverage_gap, target
from tests.store.builders import contents_of, expire_lease
from tests.store.past import record_past
from tests.store.witness import Witness


class KilledError(Exception):
    """What stands for a kill: nothing of ours handles it."""


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
