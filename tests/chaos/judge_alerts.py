"""Judges what the channel was told: every change once, every trouble once and its end once, nothing without cause.

A change may be told in two messages, where two runs found it on some instance types each; so instance types are
counted. A process that dies between sending and noting makes its successor send again; that is told apart.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.chaos.evidence import Evidence
from tests.chaos.expected import history_of
from tests.chaos.judge import emptied_early
from tests.chaos.receiver import Delivery

WORDS = {"added to": "added", "removed from": "removed", "changed on": "changed"}
CHANGE = re.compile(
    rf"- (?P<name>.+) (?P<word>{'|'.join(WORDS)}) (?:(?P<count>[\d,]+) instance types|\S+) in (?P<region>\S+)"
)
TYPE = re.compile(
    r"- (?:Instance type|(?P<count>[\d,]+) instance types) (?P<word>launched|retired) in (?P<region>\S+): .+"
)
KINDS = WORDS | {"launched": "type_added", "retired": "type_retired"}
TROUBLE, OVER = "Needs a look: ", "Resolved: "
OS_NAME_EN = 7  # the field of an image by which people call it
SENDING = timedelta(seconds=2)  # how long before its death a process may have sent what it did not note
CAUSES = frozenset({"network", "database", "clock", "kill", "stop", "terminate"})
LASTING = timedelta(seconds=10)  # how long after a cause an alert may come: three runs in a row and the telling

Told = tuple[str, str, str]
"""Kind of change, region, and the image's name, empty for instance types."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that begins or ends a trouble."""

    told_at: datetime
    subject: str
    begins: bool


def judged_alerts(evidence: Evidence) -> list[str]:
    """Return one sentence for each change or trouble that was not told as it must be."""
    taken = [told for told in evidence.deliveries if not told.is_refused]
    once, again = split_repeated(taken, evidence)
    return [
        *_change_problems(evidence, once),
        *_trouble_problems(evidence, lines_of(once)),
        *_held_problems(evidence, once),
        *_outage_problems(evidence, lines_of(once)),
        *(
            f"alerts: told again without cause: {told.title}"
            for told in again
            if not _is_explained(told, taken, evidence)
        ),
    ]


def split_repeated(taken: list[Delivery], evidence: Evidence) -> tuple[list[Delivery], list[Delivery]]:
    """Return the messages, and apart those that say word for word what an earlier one said of the same.

    A trouble that has ended meanwhile may begin again in the same words.
    """
    seen: set[str] = set()
    once: list[Delivery] = []
    again: list[Delivery] = []
    for told in taken:
        ended = {line.subject for line in lines_of([told]) if not line.begins}
        (again if told.message in seen else once).append(told)
        seen = {text for text in seen if not any(f"{TROUBLE}{subject}" in text for subject in ended)}
        seen.add(told.message)
    return once, again


def _is_explained(told: Delivery, taken: list[Delivery], evidence: Evidence) -> bool:
    """Return whether somebody was hindered to note that the message had been sent."""
    first = next(other for other in taken if other.message == told.message)
    return any(
        entry.kind in CAUSES and entry.touches(first.arrived_at, first.arrived_at + SENDING)
        for entry in evidence.disturbances
    )


# --- changes


def _change_problems(evidence: Evidence, taken: list[Delivery]) -> Iterator[str]:
    wanted: Counter[Told] = Counter()
    for change in history_of([entry.offer for entry in evidence.offered]).changes:
        wanted[change.kind, change.key[0], change.row[OS_NAME_EN] if change.row else ""] += 1
    for row in emptied_early(evidence):
        wanted["removed", row["region_id"], row["os_name_en"]] += 1
    there: Counter[Told] = Counter()
    for delivery in taken:
        there += _changes_in(delivery)
        if "… and " in delivery.message:
            yield f"alerts: lines are left out of {delivery.title}"
    for key in sorted(wanted.keys() | there.keys()):
        if wanted[key] != there[key]:
            yield f"alerts: {' '.join(key)} was told of {there[key]} instance types instead of {wanted[key]}"


def _changes_in(delivery: Delivery) -> Counter[Told]:
    found: Counter[Told] = Counter()
    for line in delivery.message.splitlines():
        match = CHANGE.fullmatch(line) or TYPE.fullmatch(line)
        if match:
            name = match.groupdict().get("name", "")
            found[KINDS[match["word"]], match["region"], name] += int((match["count"] or "1").replace(",", ""))
    return found


# --- troubles


def lines_of(taken: list[Delivery]) -> list[Line]:
    """Return the lines that begin or end a trouble, in the order of their arrival."""
    return [
        Line(told.arrived_at, line.removeprefix(sign), sign == TROUBLE)
        for told in taken
        for line in told.message.splitlines()
        for sign in (TROUBLE, OVER)
        if line.startswith(sign)
    ]


def _trouble_problems(evidence: Evidence, lines: list[Line]) -> Iterator[str]:
    open_since: dict[str, datetime] = {}
    for line in lines:
        if line.begins and line.subject in open_since:
            yield f"alerts: told twice: {line.subject}"
        elif not line.begins and line.subject not in open_since:
            yield f"alerts: an end without a beginning: {line.subject}"
        if line.begins:
            open_since[line.subject] = line.told_at
            if not _has_cause(line, evidence):
                yield f"alerts: nothing was wrong at {line.told_at:%H:%M:%S}: {line.subject}"
        else:
            open_since.pop(line.subject, None)
    yield from (f"alerts: the end was never told: {subject}" for subject in open_since)


def _has_cause(line: Line, evidence: Evidence) -> bool:
    return any(
        entry.kind in CAUSES and entry.touches(line.told_at - LASTING, line.told_at) for entry in evidence.disturbances
    ) or any(entry.is_held and entry.begun_at <= line.told_at for entry in evidence.offered)


def _held_problems(evidence: Evidence, taken: list[Delivery]) -> Iterator[str]:
    """The mass removal is told once, with the command that accepts it."""
    offers = evidence.offered
    for number, entry in enumerate(offers):
        if not entry.is_held:
            continue
        gone = {
            (key, row)
            for key, rows in offers[number - 1].offer.items()
            for row in rows - entry.offer.get(key, frozenset())
        }
        (region,) = {key[0] for key, _ in gone}
        start = f"{TROUBLE}{len(gone):,} removals held in {region}"
        told = [line for told in taken for line in told.message.splitlines() if line.startswith(start)]
        commands = [told for told in taken if start in told.message and "accept-removals" in told.message]
        if len(told) != 1 or len(commands) != 1:
            yield f"alerts: {entry.name} was told {len(told)} times, {len(commands)} times with its command"


def _outage_problems(evidence: Evidence, lines: list[Line]) -> Iterator[str]:
    """Of an outage in which every run failed people hear once, and once of its end."""
    for entry in evidence.disturbances:
        if entry.kind != "outage":
            continue
        about = [line for line in lines if "observed nothing" in line.subject and line.told_at >= entry.begun_at]
        begun = [line for line in about if line.begins and line.told_at <= entry.ended_at + LASTING]
        ended = [line for line in about if not line.begins and line.told_at <= entry.ended_at + LASTING]
        if (len(begun), len(ended)) != (1, 1):
            yield f"alerts: the outage was told {len(begun)} times and its end {len(ended)} times"
