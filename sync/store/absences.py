"""Spans in which an instance type was known to be gone, told from the changes that retired it and had it back."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from sync.inventory import OPEN, ChangeKind
from sync.store.filters import Filter, targets_wanted
from sync.store.known import batches_of
from sync.store.schema import change, coverage_gap, listed_type, run, target


@dataclass(frozen=True, slots=True)
class Absence:
    """From when to when discovery no longer listed an instance type."""

    gone_at: datetime
    back_at: datetime
    """OPEN while it lasts."""
    retired_in: tuple[datetime, datetime]
    """The run that decided so, perhaps later than ``gone_at``; in it the type's targets were not observed."""

    def covers(self, moment: datetime) -> bool:
        """Return whether the type was gone at a time."""
        return self.gone_at <= moment < self.back_at


Absences = Mapping[tuple[str, str], Sequence[Absence]]
"""By region and instance type, in the order of time; only types that were ever retired."""


def find_absences(connection: Connection, wanted: Filter) -> Absences:
    """Return when the instance types of a filter were gone."""
    places = _find_gone(connection, wanted)
    found: dict[tuple[str, str], list[Absence]] = defaultdict(list)
    for batch in batches_of(sorted(places)):
        finished_at = sa.func.coalesce(run.c.finished_at, change.c.recorded_at, type_=run.c.finished_at.type)
        query = (
            sa.select(change.c.target_id, change.c.kind, change.c.detected_at, run.c.started_at, finished_at)
            .select_from(change.join(run, run.c.id == change.c.run_id))
            .where(change.c.target_id.in_(batch))
            .where(change.c.kind.in_((ChangeKind.TYPE_RETIRED, ChangeKind.TYPE_ADDED)))
            .order_by(change.c.id)
        )
        for key, kind, detected_at, *decided in connection.execute(query).all():
            spans = found[places[key]]
            if kind == ChangeKind.TYPE_RETIRED:
                spans.append(Absence(detected_at, OPEN, (decided[0], decided[1])))
            elif spans and spans[-1].back_at == OPEN:
                spans[-1] = replace(spans[-1], back_at=detected_at)
    return found


def _find_gone(connection: Connection, wanted: Filter) -> dict[int, tuple[str, str]]:
    """Return the region and instance type of the targets without BaseOsTag whose type may ever have been gone, by id.

    These are retired, not listed, or older than their listing. Their changes are looked up by id: a look through all
    changes, which databases choose for one question of both, would take longer than the question that needs this.
    """
    listed, gap = listed_type.c, coverage_gap.c
    is_listed = sa.and_(listed.region_id == target.c.region_id, listed.instance_type == target.c.instance_type)
    # Of a target that was asked in vain until its type went only the gap is left, which ended then.
    failed_before = sa.exists().where(gap.target_id == target.c.id, gap.gap_to <= listed.first_listed_at)
    was_gone = sa.or_(
        target.c.retired_at != OPEN,
        listed.first_listed_at > target.c.first_observed_at,
        listed.first_listed_at.is_(None),
        failed_before,
    )
    query = (
        sa.select(target.c.id, target.c.region_id, target.c.instance_type)
        .select_from(target.outerjoin(listed_type, is_listed))
        .where(target.c.base_os_tag == "", was_gone, *targets_wanted(wanted))
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(query)}
