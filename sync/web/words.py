"""How pages word and group rows: sentences with links instead of the command line's lines."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sync.render import SIGNS, TOLD_ORDER, Row, counted, identity_of, told_names

VERBS = {
    "added": "added to",
    "removed": "removed from",
    "changed": "changed on",
    "type_added": "launched",
    "type_retired": "retired",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One sentence about changes: an image and how many instance types, or instance types that came or went."""

    row: Row
    sign: str
    name: str
    """What people call the image; empty for instance types."""
    verb: str

    @property
    def is_late(self) -> bool:
        """Return whether it was detected in an earlier run than the one that believed it."""
        return bool(self.row["detected_at"] < self.row["run_started_at"])

    @property
    def sentence(self) -> str:
        """Return it as plain text."""
        row = self.row
        few = ", ".join(row["few_types"])
        types = few or counted(row["instance_types"], "instance type")
        if self.name:
            return f"{self.name} {self.verb} {types} in {row['region_id']}"
        noun = ("instance type " if row["instance_types"] == 1 else "instance types ") if few else ""
        return f"{noun}{types} {self.verb} in {row['region_id']}"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one run recorded, what people may miss first."""

    run_id: int
    recorded_at: datetime
    lines: list[Told]


def told_changes(groups: Iterable[Row]) -> list[Batch]:
    """Return the groups of ``list_change_groups`` run by run, in the order in which people should read them."""
    runs: dict[int, list[Row]] = defaultdict(list)
    for row in groups:
        runs[row["run_id"]].append(row)
    return [_batch(run_id, rows) for run_id, rows in runs.items()]


def _batch(run_id: int, rows: list[Row]) -> Batch:
    names = told_names({identity_of(row) for row in rows if row["image_id"] is not None})
    lines = [
        Told(
            row,
            SIGNS[row["kind"]],
            names.get(identity_of(row), "") if row["image_id"] is not None else "",
            VERBS[row["kind"]],
        )
        for row in rows
    ]
    lines.sort(key=lambda line: (TOLD_ORDER.index(line.row["kind"]), line.row["region_id"], line.name))
    return Batch(run_id, max(row["recorded_at"] for row in rows), lines)
