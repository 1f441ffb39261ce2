"""Proves the invariants of the stored history by reading it, in one snapshot and with little memory.

``surface`` looks at what reading needs, ``reading`` brings the rows; ``target`` says what is demanded of one target's
rows, ``runs`` what is demanded of runs.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from sync.store.database import Database
from sync.store.verify.reading import HistoryReader, read_inventory
from sync.store.verify.runs import judge_runs
from sync.store.verify.surface import has_times, judge_views
from sync.store.verify.target import JUDGES, judge_digest, observed_ends
from sync.store.verify.verdict import Check, CheckResult, Findings, Verdict, Violation

__all__ = ["Check", "CheckResult", "Verdict", "Violation", "verify", "violations"]


def verify(connection: Connection, on_progress: Callable[[int, int], None] = lambda _, __: None) -> Verdict:
    """Return whether the history is sound, and where it is not.

    ``connection`` must give one snapshot for all statements. ``on_progress`` is told how many targets of how many are
    done. Where a time cannot be read nothing else is looked at. A sound history never has a violation; a damaged one
    has one wherever the rest of it tells of the damage.

    Raises:
        DatabaseError: the database cannot be read.
    """
    findings = Findings()
    judge_views(connection, findings)
    if not has_times(connection, findings):
        return findings.verdict()
    inventory = read_inventory(connection, findings)
    reader = HistoryReader(connection, inventory, findings)
    done_count = 0
    for batch in reader.batches():
        findings.examine(Check.DIGESTS, len(batch))
        for history in batch.values():
            for judge in JUDGES:
                for check, key, message in judge(history):
                    findings.note(check, message, history.target, key)
            reader.gap_times.expect(history.target, observed_ends(history))
            for check, key, message in judge_digest(history, inventory.fingerprints):
                findings.note(check, message, history.target, key)
        done_count += len(batch)
        on_progress(done_count, len(inventory.targets))
    judge_runs(connection, inventory, reader, findings)
    return findings.verdict()


def violations(database: Database) -> list[Violation]:
    """Return where the history contradicts itself; nothing in a sound one."""
    with database.reading() as connection:
        return list(verify(connection).violations)
