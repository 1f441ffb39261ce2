"""Compares the views with what the catalogue had: every span and every change, in order, each where its runs put it.

A date is bounded by runs and not by the clock, because clocks jump: the program never lets the times of its records run
backwards, so after a jump ahead its dates are late for as long as the jump was, but their order and their place between
two runs hold always. Where no clock was wrong, dates are compared with the true clock as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.chaos.evidence import Evidence, Offered, View
from tests.chaos.expected import Change, History, Span, history_of
from tests.chaos.offers import Key, Row
from tests.chaos.watcher import Sighting, moment_of

FIELDS = ("image_id", "os_tag", "base_os_tag", "platform", "version", "architecture", "os_name", "os_name_en")
ROUNDING = timedelta(milliseconds=2)  # records have whole milliseconds, and two processes read the clock


@dataclass(frozen=True, slots=True)
class Bracket:
    """The runs around one edit of the catalogue, none of which was under way when it was made."""

    name: str
    last_before: Sighting | None
    """The last run that was finished before."""
    last_clean_before: Sighting | None
    first_after: Sighting | None
    """The first run that began afterwards."""
    first_clean_after: Sighting | None
    """The first of those that was answered everything: it must have found the edit."""

    def problem_of(self, moment: datetime | None) -> str | None:
        """Return why an edit cannot have this date; None where it can."""
        if self.first_clean_after is None or self.first_clean_after.finished_at is None:
            return "no later run was answered everything"
        if moment is None:
            return "has no date"
        if self.last_before and self.last_before.finished_at and moment <= self.last_before.finished_at:
            return f"is dated {moment}, but run {self.last_before.run_id} still saw it otherwise"
        if moment > self.first_clean_after.finished_at:
            return f"is dated {moment}, but run {self.first_clean_after.run_id} must have seen it"
        return None

    def problem_of_last_seen(self, moment: datetime | None) -> str | None:
        """Return why what an edit ended cannot have been seen last at this moment; None where it can."""
        if moment is None:
            return "does not say when it was seen last"
        if self.last_clean_before and moment < self.last_clean_before.started_at:
            return f"was seen last at {moment}, but run {self.last_clean_before.run_id} saw it later"
        if self.first_after and moment >= self.first_after.started_at:
            return f"was seen last at {moment}, but run {self.first_after.run_id} cannot have seen it"
        return None


def judged_history(evidence: Evidence) -> list[str]:
    """Return one sentence for each way in which the views are not the catalogue's history."""
    expected = history_of([entry.offer for entry in evidence.offered])
    brackets = [_bracket_of(evidence, number) for number in range(len(evidence.offered))]
    return [
        *_span_problems(expected, evidence, brackets),
        *_available_problems(expected, evidence.available_images),
        *_change_problems(expected, evidence, brackets),
    ]


def _bracket_of(evidence: Evidence, number: int) -> Bracket:
    entry = evidence.offered[number]
    runs = [run for run in evidence.sightings if run.trigger != "accept-removals"]
    before = [run for run in runs if run.finished_by and run.finished_by <= entry.begun_at]
    after = [run for run in runs if run.unseen_until >= entry.done_at]
    return Bracket(
        entry.name,
        before[-1] if before else None,
        next((run for run in reversed(before) if run.is_clean), None),
        after[0] if after else None,
        next((run for run in after if run.is_clean and run.finished_at), None),
    )


def _key_of(row: Mapping[str, Any]) -> Key:
    return row["region_id"], row["instance_type"]


def _row_of(row: Mapping[str, Any]) -> Row | None:
    return None if row["image_id"] is None else tuple(row[name] for name in FIELDS)


def _named(key: Key, row: Row | None) -> str:
    return f"{row[0] if row else 'the type'} of {key[0]}/{key[1]}"


# --- spans


def _span_problems(expected: History, evidence: Evidence, brackets: list[Bracket]) -> list[str]:
    wanted: dict[tuple[Key, Row | None], list[Span]] = defaultdict(list)
    there: dict[tuple[Key, Row | None], list[Mapping[str, Any]]] = defaultdict(list)
    for span in sorted(expected.spans, key=lambda span: span.begun_by):
        wanted[span.key, span.row].append(span)
    for row in sorted(evidence.image_history, key=lambda row: str(row["valid_from"])):
        there[_key_of(row), _row_of(row)].append(row)
    problems = []
    for pair in sorted(wanted.keys() | there.keys(), key=repr):
        name = _named(*pair)
        if len(wanted[pair]) != len(there[pair]):
            problems.append(f"history: {name} has {len(there[pair])} spans instead of {len(wanted[pair])}")
            continue
        for span, row in zip(wanted[pair], there[pair], strict=True):
            problems += [f"history: {name} {text}" for text in _wrong_in_span(span, row, brackets)]
    return problems


def _wrong_in_span(span: Span, row: Mapping[str, Any], brackets: list[Bracket]) -> Iterable[str]:
    begun, ended = moment_of(row["valid_from"]), moment_of(row["valid_to"])
    if problem := brackets[span.begun_by].problem_of(begun):
        yield f"(begin) {problem}"
    if bool(row["from_baseline"]) != span.is_baseline:
        yield f"has from_baseline {row['from_baseline']}"
    if span.ended_by is None:
        if ended is not None:
            yield f"ended at {ended}, but is still offered"
    elif problem := brackets[span.ended_by].problem_of(ended):
        yield f"(end, {brackets[span.ended_by].name}) {problem}"
    if ended is not None and begun >= ended:
        yield f"ends at {ended} before it begins"


def _available_problems(expected: History, rows: View) -> list[str]:
    wanted = {(span.key, span.row) for span in expected.spans if span.ended_by is None}
    there = [(_key_of(row), _row_of(row)) for row in rows]
    return [
        *(f"available: {_named(*pair)} is missing" for pair in sorted(wanted - set(there))),
        *(f"available: {_named(*pair)} is not offered" for pair in sorted(set(there) - wanted, key=repr)),
        *(f"available: {_named(*pair)} stands there twice" for pair in sorted(set(there)) if there.count(pair) > 1),
        *(f"available: {_named(_key_of(row), _row_of(row))} is still held" for row in rows if row["missing_since"]),
    ]


# --- changes


def _change_problems(expected: History, evidence: Evidence, brackets: list[Bracket]) -> list[str]:
    rows = sorted(evidence.image_changes, key=lambda row: row["change_id"])
    recorded = [moment_of(row["recorded_at"]) for row in rows]
    problems = [] if recorded == sorted(recorded) else ["changes: recorded_at does not follow change_id"]
    early = emptied_early(evidence)
    rows = [row for row in rows if row not in early]
    there: dict[tuple[str, Key, Row | None], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        there[row["kind"], _key_of(row), _row_of(row)].append(row)
    wanted: dict[tuple[str, Key, Row | None], list[Change]] = defaultdict(list)
    for change in sorted(expected.changes, key=lambda change: change.by):
        wanted[change.kind, change.key, change.row].append(change)
    for pair in sorted(wanted.keys() | there.keys(), key=repr):
        kind, name = pair[0], _named(*pair[1:])
        if len(wanted[pair]) != len(there[pair]):
            problems.append(f"changes: {kind} {name} is there {len(there[pair])} times instead of {len(wanted[pair])}")
            continue
        for change, row in zip(wanted[pair], there[pair], strict=True):
            texts = _wrong_in_change(change, row, brackets[change.by], evidence)
            problems += [f"changes: {kind} {name} ({brackets[change.by].name}) {text}" for text in texts]
    return problems


def emptied_early(evidence: Evidence) -> View:
    """Return the removals from instance types that were retired in the middle of the run that recorded them.

    The run had got the list of types before the edit and asked for the images after it: it saw a type that is
    offered and has no images any more, and was right. The next run finds the type retired.
    """
    found: list[Mapping[str, Any]] = []
    for before, entry in pairwise(evidence.offered):
        retired = before.offer.keys() - entry.offer.keys()
        torn = {run.run_id for run in evidence.sightings if _is_under_way(run, entry)}
        found += [
            row
            for row in evidence.image_changes
            if row["kind"] == "removed"
            and _key_of(row) in retired
            and row["run_id"] in torn
            and _row_of(row) in before.offer[_key_of(row)]
        ]
    return found


def _is_under_way(run: Sighting, entry: Offered) -> bool:
    return run.unseen_until <= entry.done_at and (run.finished_by is None or run.finished_by >= entry.begun_at)


def _wrong_in_change(change: Change, row: Mapping[str, Any], bracket: Bracket, evidence: Evidence) -> Iterable[str]:
    detected, seen = moment_of(row["detected_at"]), moment_of(row["last_seen_at"])
    if problem := bracket.problem_of(detected):
        yield problem
    if change.kind in {"removed", "type_retired"} and (problem := bracket.problem_of_last_seen(seen)):
        yield problem
    if seen is not None and seen >= detected:
        yield f"was seen last at {seen}, not before {detected}"
    entry = evidence.offered[change.by]
    if entry.is_true_time and detected < entry.begun_at - ROUNDING:
        yield f"is dated {detected}, but happened at {entry.begun_at}"
    if entry.is_true_time and seen is not None and seen > entry.done_at + ROUNDING:
        yield f"was seen last at {seen}, but happened at {entry.done_at}"
