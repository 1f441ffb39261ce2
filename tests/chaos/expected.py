"""What the history of a catalogue must look like, from the catalogue's states alone; knows nothing of the program."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tests.chaos.offers import Key, Offer, Row


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a target had an image; the numbers are those of the states that began and ended it."""

    key: Key
    row: Row
    begun_by: int
    ended_by: int | None
    is_baseline: bool


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One change that must be recorded; types that come and go have no image."""

    by: int
    kind: str
    key: Key
    row: Row | None


@dataclass(frozen=True, slots=True)
class History:
    """What must be there in the end."""

    spans: tuple[Span, ...]
    changes: tuple[Change, ...]


def history_of(offers: Sequence[Offer]) -> History:
    """Return the history of the states of a catalogue, the first of which is the baseline."""
    spans: list[Span] = []
    opened: dict[tuple[Key, Row], Span] = {}
    changes: list[Change] = []
    for number, offer in enumerate(offers):
        before = offers[number - 1] if number else {}
        changes += _changes_between(before, offer, number) if number else []
        for key, row in _pairs(before) - _pairs(offer):
            spans.append(replace(opened.pop((key, row)), ended_by=number))
        for key, row in _pairs(offer) - _pairs(before):
            opened[key, row] = Span(key, row, number, None, key not in before)
    return History((*spans, *opened.values()), tuple(sorted(changes, key=repr)))


def _pairs(offer: Offer) -> set[tuple[Key, Row]]:
    return {(key, row) for key, rows in offer.items() for row in rows}


def _changes_between(before: Offer, after: Offer, number: int) -> list[Change]:
    found = [Change(number, "type_added", key, None) for key in after.keys() - before.keys()]
    found += [Change(number, "type_retired", key, None) for key in before.keys() - after.keys()]
    for key in after.keys() & before.keys():
        gone, new = _by_id(before[key] - after[key]), _by_id(after[key] - before[key])
        for image_id in gone.keys() | new.keys():
            if image_id in gone and image_id in new:
                found.append(Change(number, "changed", key, new[image_id][0]))
            else:
                kind, rows = ("removed", gone[image_id]) if image_id in gone else ("added", new[image_id])
                found += [Change(number, kind, key, row) for row in rows]
    return found


def _by_id(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows):
        found[row[0]].append(row)
    return found
