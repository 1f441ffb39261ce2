"""The changes: what was added, removed or changed, run by run, the newest first; twins have every row of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from urllib.parse import urlencode

from sync.errors import ConfigError
from sync.inventory import ChangeKind
from sync.store.filters import Filter
from sync.store.groups import find_run_ids, find_run_ids_from, list_change_groups, list_changes_of_runs
from sync.store.history import Row, columns_of
from sync.store.known import batches_of
from sync.store.schema import image_changes
from sync.web.visit import Answer, Page, Visit, address
from sync.web.words import told_changes

RUNS_PER_PAGE = 20
GROUPS_PER_PAGE = 200  # sentences; more are no longer read, and one run of a large upheaval has hundreds
RUNS_AT_ONCE = 5

LARGEST_RUN = 2**31 - 1

FILTERING = ("region", "instance_type", "image", "os_tag", "kind", "since", "until")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which changes an address asks for."""

    wanted: Filter
    since: datetime | None
    until: datetime | None

    @property
    def period(self) -> tuple[datetime | None, datetime | None]:
        """Return since when and until when they were recorded."""
        return self.since, self.until


def asked_of(visit: Visit) -> Asked:
    """Return which changes an address asks for.

    Raises:
        ConfigError: the history knows no such name, there is no such kind, or the times are reversed.
    """
    for kind in visit.all_of("kind"):
        if kind not in set(ChangeKind):
            raise ConfigError(f"kind {kind}: there is no such kind of change; it is one of {', '.join(ChangeKind)}")
    since, until = visit.moment("since"), visit.moment("until")
    if since and until and until <= since:
        raise ConfigError(
            f"until {visit.one_of('until')} is not after since {visit.one_of('since')}; exchange the two times"
        )
    return Asked(visit.wanted, since, until)


def answer(visit: Visit) -> Answer:
    """Return the newest runs with changes, or those before a run."""
    asked = asked_of(visit)
    before = visit.number("before", 0, LARGEST_RUN) or None
    found = find_run_ids(visit.connection, asked.wanted, RUNS_PER_PAGE + 1, before=before, period=asked.period)
    run_ids, groups = _fitting(visit, asked, found[:RUNS_PER_PAGE])
    has_older = len(run_ids) < len(found)
    shown = {
        "batches": told_changes(groups),
        "newer": _newer(visit, asked, before) if before else None,
        "older": address(visit.page, **visit.here(before=run_ids[-1])) if has_older else None,
        "feed": address(visit.page, ".atom", **visit.here(before=None)),
        "kinds": list(ChangeKind),
        "is_filtered": any(visit.all_of(name) for name in FILTERING),
    }
    rows = partial(list_changes_of_runs, visit.connection, asked.wanted, run_ids, period=asked.period)
    following = {"next": f"?{urlencode(visit.here(before=run_ids[-1]), doseq=True)}"} if has_older else {}
    return Answer(rows, columns_of(image_changes), shown, following)


def _fitting(visit: Visit, asked: Asked, run_ids: Sequence[int]) -> tuple[list[int], list[Row]]:
    """Return the first runs that a page has room for, at least one, and their groups."""
    fitting: list[int] = []
    kept: list[Row] = []
    for batch in batches_of(run_ids, RUNS_AT_ONCE):
        groups = list_change_groups(visit.connection, asked.wanted, batch, period=asked.period)
        for run_id in batch:
            of_run = [row for row in groups if row["run_id"] == run_id]
            if fitting and len(kept) + len(of_run) > GROUPS_PER_PAGE:
                return fitting, kept
            fitting.append(run_id)
            kept += of_run
    return fitting, kept


def _newer(visit: Visit, asked: Asked, before: int) -> str | None:
    """Return the address of the page that ends where this one begins; the first page where it would be that."""
    found = find_run_ids_from(visit.connection, asked.wanted, RUNS_PER_PAGE + 1, before, period=asked.period)
    if not found:
        return None
    run_ids, _ = _fitting(visit, asked, found[:RUNS_PER_PAGE])
    is_first = len(run_ids) == len(found)
    return address(visit.page, **visit.here(before=None if is_first else run_ids[-1] + 1))


PAGE = Page("changes", "Changes", (*FILTERING, "before"), answer, is_rows=True)
