"""The public views as plain values, and how they differ from what the model predicts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from sync.store.database import Database
from tests.job.journal import Key, Row, Span
from tests.job.model import Model
from tests.job.state import Event, Gap, Interval

FIELDS = ("image_id", "os_tag", "base_os_tag", "platform", "version", "architecture", "os_name", "os_name_en")
OPEN_YEAR = 9999

Record = Mapping[str, Any]


def read_view(database: Database, name: str) -> list[Record]:
    """Return the rows of a view in no order, with aware times on every database."""
    with database.reading() as connection:
        return [
            {column: _value_of(column, value) for column, value in row.items()}
            for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()
        ]


def _value_of(column: str, value: Any) -> Any:
    if column.endswith(("_at", "_since", "_from", "_to", "_seen_at")) or column in {"valid_from", "valid_to"}:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
    return bool(value) if column == "from_baseline" else value


def differences(model: Model, database: Database) -> list[str]:
    """Return one sentence for each way in which the views are not what the model says; empty is right."""
    found: list[str] = []
    for compare in (_available, _history, _changes, _status, _gaps, _runs):
        found += compare(model, database)
    return found


def _key_of(record: Record) -> Key:
    return record["region_id"], record["instance_type"], record["base_os_tag_filter"]


def _row_of(record: Record) -> Row | None:
    return None if record["image_id"] is None else tuple(record[name] for name in FIELDS)


def _matched(
    name: str, expected: Sequence[Any], records: Iterable[Record], problem_of: Callable[[Any, Record], str | None]
) -> list[str]:
    """Pair what is expected with what is there, in order; both sides are sorted by the caller."""
    there = list(records)
    if len(expected) != len(there):
        return [f"{name}: {len(there)} rows instead of {len(expected)}: {there} instead of {list(expected)}"]
    problems = [(problem_of(one, other), one, other) for one, other in zip(expected, there, strict=True)]
    return [f"{name}: {problem}: {other} instead of {one}" for problem, one, other in problems if problem]


def is_in(moment: datetime | None, span: Span | None) -> bool:
    """Return whether a moment is where it must be; neither exists, or one within the other."""
    return moment is None and span is None if moment is None or span is None else moment in span


def _first_wrong(checks: Mapping[str, bool]) -> str | None:
    return next((name for name, is_right in checks.items() if not is_right), None)


def _available(model: Model, database: Database) -> list[str]:
    expected = [
        (key, entry, model.missing_since(key, entry.row))
        for key, state in model.targets.items()
        for entry in state.open.values()
    ]

    def problem_of(one: tuple[Key, Interval, Span | None], record: Record) -> str | None:
        key, entry, missing_since = one
        return _first_wrong(
            {
                "identity": (key, entry.row) == (_key_of(record), _row_of(record)),
                "available_since": is_in(record["available_since"], entry.since),
                "from_baseline": record["from_baseline"] == entry.is_baseline,
                "missing_since": is_in(record["missing_since"], missing_since),
            }
        )

    records = sorted(read_view(database, "available_images"), key=lambda record: (_key_of(record), _row_of(record)))
    return _matched("available_images", sorted(expected, key=lambda one: (one[0], one[1].row)), records, problem_of)


def _history(model: Model, database: Database) -> list[str]:
    expected = [(key, entry) for key, state in model.targets.items() for entry in state.intervals]

    def problem_of(one: tuple[Key, Interval], record: Record) -> str | None:
        key, entry = one
        return _first_wrong(
            {
                "identity": (key, entry.row) == (_key_of(record), _row_of(record)),
                "valid_from": is_in(record["valid_from"], entry.since),
                "valid_to": is_in(record["valid_to"], entry.until),
                "from_baseline": record["from_baseline"] == entry.is_baseline,
                "order": record["valid_to"] is None or record["valid_from"] < record["valid_to"],
            }
        )

    records = sorted(
        read_view(database, "image_history"),
        key=lambda record: (_key_of(record), _row_of(record), record["valid_from"]),
    )
    expected.sort(key=lambda one: (one[0], one[1].row, one[1].since.earliest))
    return _matched("image_history", expected, records, problem_of)


def _changes(model: Model, database: Database) -> list[str]:
    records = sorted(read_view(database, "image_changes"), key=lambda record: record["change_id"])
    ordered = [record["recorded_at"] for record in records]
    if ordered != sorted(ordered):
        return ["image_changes: recorded_at does not follow change_id"]
    numbers = {record["run_id"]: number for number, record in enumerate(_ordered_runs(database), 1)}

    def problem_of(event: Event, record: Record) -> str | None:
        return _first_wrong(
            {
                "identity": (event.run, event.kind, event.key, event.row) == _identity_of(record, numbers),
                "detected_at": is_in(record["detected_at"], event.detected),
                "last_seen_at": is_in(record["last_seen_at"], event.last_had),
                "recorded_at": record["recorded_at"] in event.recorded,
                "order": record["last_seen_at"] is None or record["last_seen_at"] < record["detected_at"],
            }
        )

    records.sort(key=lambda record: _sortable(_identity_of(record, numbers)))
    events = sorted(model.events, key=lambda event: _sortable((event.run, event.kind, event.key, event.row)))
    return _matched("image_changes", events, records, problem_of)


def _identity_of(record: Record, numbers: Mapping[int, int]) -> tuple[int, str, Key, Row | None]:
    return numbers[record["run_id"]], record["kind"], _key_of(record), _row_of(record)


def _sortable(identity: tuple[int, str, Key, Row | None]) -> tuple[int, str, Key, Row]:
    run, kind, key, row = identity
    return run, kind, key, row or ()


def _status(model: Model, database: Database) -> list[str]:
    def problem_of(key: Key, record: Record) -> str | None:
        state = model.targets[key]
        gap = state.gap
        return _first_wrong(
            {
                "identity": key == _key_of(record),
                "first_observed_at": is_in(record["first_observed_at"], state.first_observed),
                "last_observed_at": is_in(record["last_observed_at"], state.last_observed),
                "retired_at": is_in(record["retired_at"], state.retired),
                "image_count": record["image_count"] == len(state.open),
                "unknown_since": is_in(record["unknown_since"], gap.since if gap else None),
                "error_code": record["error_code"] == (gap.code if gap else None),
            }
        )

    records = sorted(read_view(database, "target_status"), key=_key_of)
    return _matched("target_status", sorted(model.targets), records, problem_of)


def _gaps(model: Model, database: Database) -> list[str]:
    expected = [(key, gap) for key, state in model.targets.items() for gap in state.gaps]

    def problem_of(one: tuple[Key, Gap], record: Record) -> str | None:
        key, gap = one
        return _first_wrong(
            {
                "identity": key == _key_of(record),
                "gap_from": is_in(record["gap_from"], gap.since),
                "gap_to": is_in(record["gap_to"], gap.until),
                "error_code": record["error_code"] == gap.code,
                "request_id": record["request_id"] in gap.request_ids,
                "order": record["gap_to"] is None or record["gap_from"] < record["gap_to"],
            }
        )

    records = sorted(
        read_view(database, "observation_gaps"),
        key=lambda record: (_key_of(record), record["gap_to"] or datetime(OPEN_YEAR, 1, 1, tzinfo=UTC)),
    )
    return _matched("observation_gaps", sorted(expected, key=lambda one: one[0]), records, problem_of)


def _ordered_runs(database: Database) -> list[Record]:
    return sorted(read_view(database, "sync_runs"), key=lambda record: record["run_id"])


def _runs(model: Model, database: Database) -> list[str]:
    def problem_of(number: int, record: Record) -> str | None:
        journal, tally = model.journals[number], model.tallies[number]
        if tally is None:
            return None if record["status"] == "failed" else "status"
        span = Span(journal.began_at, journal.ended_at)
        names = ("targets_ok", "targets_failed", "images_added", "images_removed", "images_changed", "removals_held")
        counts = (tally.ok, tally.failed, tally.added, tally.removed, tally.changed, tally.held)
        return _first_wrong(
            {
                "time": record["started_at"] in span and record["finished_at"] in span,
                f"counts {counts}": tuple(record[name] for name in names) == counts,
                f"status {tally.status}": record["status"] == tally.status,
            }
        )

    return _matched("sync_runs", range(len(model.journals)), _ordered_runs(database), problem_of)
