"""Rows as they are expected and as they are answered: equal, but for moments that may lie anywhere in some windows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Within:
    """A moment that must lie in one of the windows, both ends included; or nothing, where that may be."""

    windows: tuple[tuple[datetime, datetime], ...] = ()
    may_be_none: bool = False

    def __contains__(self, moment: datetime | None) -> bool:
        """Return whether a moment is right."""
        if moment is None:
            return self.may_be_none or not self.windows
        return any(earliest <= moment <= latest for earliest, latest in self.windows)


def exactly(moment: datetime | None) -> Within:
    """Return what only this moment is in."""
    return Within(((moment, moment),)) if moment else Within()


def mismatch(expected: Sequence[Row], answered: Sequence[Row]) -> str | None:
    """Return how an answer differs from what is expected, in any order; None where it is right."""
    open_names = {name for row in expected for name, value in row.items() if isinstance(value, Within)}

    def fixed(row: Row) -> str:
        return repr([(name, value) for name, value in row.items() if name not in open_names])

    one, other = sorted(expected, key=fixed), sorted(answered, key=fixed)
    missing = [dict(row) for row in one if fixed(row) not in {fixed(entry) for entry in other}]
    surplus = [dict(row) for row in other if fixed(row) not in {fixed(entry) for entry in one}]
    if missing or surplus or len(one) != len(other):
        return f"{len(other)} rows instead of {len(one)}\n missing: {missing}\n surplus: {surplus}"
    for row, entry in zip(one, other, strict=True):
        for name in open_names:
            if entry[name] not in row[name]:
                return f"{name} is {entry[name]} in {dict(entry)}, expected {row[name]}"
    return None


def is_sorted(rows: Sequence[Row], *names: str) -> bool:
    """Return whether rows are in the order of these columns; where a column is empty its order is left open."""
    return all(_precedes(one, other, names) for one, other in itertools.pairwise(rows))


def _precedes(one: Row, other: Row, names: Sequence[str]) -> bool:
    for name in names:
        if one[name] is None or other[name] is None:
            return True
        if one[name] != other[name]:
            return bool(one[name] < other[name])
    return True
