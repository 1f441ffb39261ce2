"""Questions to a history of two years: how long each takes, half of the time and nearly always.

Run as ``python -m benchmarks.queries [sqlite] [postgresql] [mariadb]``, or with the URL of a database; all are what
``benchmarks.history`` has left there, ``--load`` lets it do so first. The statements are those of README's chapter "Ask
in SQL" and some more, asked through the plain driver with their values written into them, as people type them; the
functions are those behind the commands. Every round asks about other regions, types, images and times. The time in
which a question waited for a core that others had is not counted.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks.history import load_named
from benchmarks.invention import Scale
from benchmarks.servers import DEFAULT_SERVERS, lasting_url
from benchmarks.stopwatch import Stopwatch
from sync.config import Settings
from sync.health import find_health
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.history import find_image_names, find_known_names, list_changes, list_intervals
from sync.store.schema import change, image, run, target
from sync.store.snapshot import list_images_at
from sync.store.types import to_text
from tests.statements import statement_of

ROUNDS = 50
WARM_UP = 3
LONG_S = 10  # so long is one question asked at most; what needs seconds is asked fewer times
CHANGES = 1000
DIFFERENCE_DAYS = 30  # a quarter of what a region offers is then another image

Values = dict[str, Any]
Ask = Callable[[Connection, Values], int]
"""Asks once and returns how many rows came."""

LITERALS = {
    "cn-hangzhou": "region",
    "ecs.c7.large": "type",
    "CentOS_7.6_64": "tag",
    "Ubuntu_22.04_64": "other_tag",
    "2026-11-22 00:00:00.000": "day",
    "2026-11-22 10:00:00.000": "then",
    "2026-11-22 12:00:00.000": "later",
    "2026-11-23 00:00:00.000": "next_day",
}
"""README's values, and those of a sample that take their place."""

DIFFERENCE = "The difference of a region"
README: tuple[tuple[str, str, float | None], ...] = (
    ("one type now", "What is available now", 2),
    ("one type as of T, with its state", "What was available at a time", 2),
    ("region as of T, by image", "What was available in a whole region", 150),
    ("what of a region was unknown at T", "Was that known?", None),
    ("life line of an os_tag, all regions", "The life line of an image", None),
    ("life line of a type", "The life line of an instance type", 30),
    (f"difference of a region, {DIFFERENCE_DAYS} days", DIFFERENCE, 200),
    ("types that support two os_tags", "Which instance types support all", None),
    ("coverage of a region on a day", "How well was a region covered", None),
    ("unknown targets now", "Which targets are not known", None),
    ("last 1,000 changes", "What changed since a script last asked", None),
    ("moments of a region's changes of a day", "Between which two moments", None),
    ("images of a region that live longest", "Which images of a region live longest", None),
    ("images of a region that vanished within 7 days", "Which images of a region vanished", None),
)
"""Label, the words before the statement, and the time to reach in milliseconds."""

AT = "valid_from <= '{later}' AND (valid_to > '{later}' OR valid_to IS NULL)"
ONE_IMAGE = "SELECT region_id, instance_type, valid_from, valid_to, from_baseline FROM image_history WHERE "
BY_PLACE = " ORDER BY region_id, instance_type, valid_from"

ONE_TYPE = "SELECT os_tag, image_id, valid_from FROM image_history WHERE "
OF_REGION = "SELECT instance_type, os_tag, image_id, valid_from FROM image_history WHERE region_id = '{region}'"

MORE: tuple[tuple[str, str, float | None], ...] = (
    ("one type as of T", f"{ONE_TYPE} region_id = '{{region}}' AND instance_type = '{{type}}' AND {AT}", 2),
    (
        "life line of an image_id, a region",
        f"{ONE_IMAGE} image_id = '{{image}}' AND region_id = '{{region}}'{BY_PLACE}",
        30,
    ),
    ("life line of an image_id, all regions", f"{ONE_IMAGE} image_id = '{{image}}'{BY_PLACE}", 30),
    ("life line of an os_tag, a region", f"{ONE_IMAGE} os_tag = '{{tag}}' AND region_id = '{{region}}'{BY_PLACE}", 30),
    ("life line of a type, all regions", f"{ONE_IMAGE} instance_type = '{{type}}'{BY_PLACE}", None),
    ("region as of T, all rows", f"{OF_REGION} AND {AT}", None),
    ("status of a region", "SELECT * FROM target_status WHERE region_id = '{region}'", None),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to ask about; each value is drawn at random."""

    regions: list[str]
    types: list[str]
    images: list[tuple[str, str]]
    begin: datetime
    end: datetime
    last_change: int
    rng: random.Random

    def draw(self) -> dict[str, Any]:
        """Return values for the names in the statements."""
        (image_id, tag), (_, other_tag) = self.rng.sample(self.images, 2)
        first, later = sorted(self.begin + (self.end - self.begin) * self.rng.random() for _ in range(2))
        return {
            "region": self.rng.choice(self.regions),
            "type": self.rng.choice(self.types),
            "image": image_id,
            "tag": tag,
            "other_tag": other_tag,
            "first": to_text(first),
            "then": to_text(max(self.begin, later - timedelta(days=DIFFERENCE_DAYS))),
            "later": to_text(later),
            "day": to_text(self.end - timedelta(days=1)),
            "next_day": to_text(self.end),
            "change": self.last_change - CHANGES,
            "at": later,
            "week_ago": self.end - timedelta(days=7),
            "now": self.end,
        }


def sample_of(connection: Connection, seed: int = 1) -> Sample:
    """Return what the history holds."""
    regions = connection.execute(sa.select(target.c.region_id).distinct()).scalars().all()
    types = connection.execute(sa.select(target.c.instance_type).distinct()).scalars().all()
    images = connection.execute(sa.select(image.c.image_id, image.c.os_tag)).all()
    begin, end = connection.execute(sa.select(sa.func.min(run.c.started_at), sa.func.max(run.c.finished_at))).one()
    last = connection.execute(sa.select(sa.func.max(change.c.id))).scalar() or 0
    return Sample(sorted(regions), sorted(types), sorted(map(tuple, images)), begin, end, last, random.Random(seed))


def _of_readme(words: str) -> str:
    """Return a statement of README with names in place of its values."""
    text = statement_of(words).replace("change_id > 0", "change_id > {change}")
    for literal, name in LITERALS.items():
        text = text.replace(f"'{literal}'", f"'{{{name}}}'")
    return text


def _statement(text: str) -> Ask:
    def ask(connection: Connection, values: Values) -> int:
        cursor: Any = connection.connection.cursor()
        cursor.execute(text.format(**values))
        return len(cursor.fetchall())

    return ask


def _images(connection: Connection, values: Values, **wanted: tuple[str, ...]) -> int:
    return len(list_images_at(connection, values["at"], Filter(**wanted)))


def _history(connection: Connection, **wanted: tuple[str, ...]) -> int:
    return len(list_intervals(connection, Filter(**wanted)))


def _changes(connection: Connection, values: Values, **wanted: tuple[str, ...]) -> int:
    return len(list_changes(connection, Filter(**wanted), since=values["week_ago"]))


FUNCTIONS: dict[str, Ask] = {
    "`images --at`, a type": lambda c, v: _images(c, v, region_ids=(v["region"],), instance_types=(v["type"],)),
    "`images --at`, a region": lambda c, v: _images(c, v, region_ids=(v["region"],)),
    "`images --at`, an image_id": lambda c, v: _images(c, v, images=(v["image"],)),
    "`history --image`": lambda c, v: _history(c, images=(v["image"],)),
    "`history --image --region`": lambda c, v: _history(c, images=(v["image"],), region_ids=(v["region"],)),
    "`history --os-tag`": lambda c, v: _history(c, os_tags=(v["tag"],)),
    "`history --instance-type --region`": lambda c, v: _history(
        c, instance_types=(v["type"],), region_ids=(v["region"],)
    ),
    "`history --instance-type`": lambda c, v: _history(c, instance_types=(v["type"],)),
    "`changes --since -7d --region`": lambda c, v: _changes(c, v, region_ids=(v["region"],)),
    "`changes --since -7d`": _changes,
    "`status`": lambda c, v: len(find_health(c, Settings(), v["now"]).regions),
    "names for “did you mean”": lambda c, _: len(find_known_names(c)[1]) + len(find_image_names(c)),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the rounds of one question took, in milliseconds."""

    times_ms: list[float]
    rows: int

    @property
    def p50_ms(self) -> float:
        """Return what half of the rounds kept within."""
        return statistics.median(self.times_ms)

    @property
    def p95_ms(self) -> float:
        """Return what 95 of 100 rounds kept within."""
        return sorted(self.times_ms)[max(0, -(-len(self.times_ms) * 95 // 100) - 1)]


def measured(database: Database, ask: Ask, sample: Sample, rounds: int) -> Figures:
    """Ask again and again about other things, after some rounds that do not count."""
    times_ms, rows = [], []
    begun = time.perf_counter()
    for number in range(-WARM_UP, rounds):
        values = sample.draw()
        with database.reading() as connection:
            stopwatch = Stopwatch(connection)
            count = ask(connection, values)
            spent_ms = stopwatch.elapsed_ms()
        is_long = time.perf_counter() - begun > LONG_S
        if number >= 0 or is_long:
            times_ms.append(spent_ms)
            rows.append(count)
        if is_long:
            break
    return Figures(times_ms, round(statistics.median(rows)))


def measure(url: str, rounds: int, only: str) -> None:
    """Measure one database and print a table."""
    database = Database(url)
    with database.reading() as connection:
        sample = sample_of(connection)
    questions: list[tuple[str, Ask, float | None]] = [
        *((label, _statement(_of_readme(words)), reach) for label, words, reach in README),
        (
            "difference of a region, any two times",
            _statement(_of_readme(DIFFERENCE).replace("{then}", "{first}")),
            None,
        ),
        *((label, _statement(text), reach) for label, text, reach in MORE),
        *((label, ask, None) for label, ask in FUNCTIONS.items()),
    ]
    print(f"\n{database.label}, load {os.getloadavg()[0]:.1f}\n")
    print("| question | rounds | rows | reach | p50 | p95 | p50 / reach |\n|---|---|---|---|---|---|---|")
    for label, ask, reach_ms in questions:
        if only in label:
            found = measured(database, ask, sample, rounds)
            reach = "" if reach_ms is None else f"{reach_ms:g}"
            ratio = "" if reach_ms is None else f"{found.p50_ms / reach_ms:.2f}"
            figures = f"{found.p50_ms:.1f} | {found.p95_ms:.1f} | {ratio}"
            print(f"| {label} | {len(found.times_ms)} | {found.rows} | {reach} | {figures} |", flush=True)
    database.close()


def main() -> None:
    """Measure the databases named on the command line; all figures but the counts are milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("databases", nargs="*", metavar="DATABASE", default=list(DEFAULT_SERVERS))
    parser.add_argument("--database-url", action="append", default=[], help="the same as a DATABASE")
    parser.add_argument("--load", action="store_true", help="write the history first")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="questions that have this in their names")
    options = parser.parse_args()
    for name in options.database_url or options.databases:
        url = lasting_url(name) if name in DEFAULT_SERVERS else name
        if options.load:
            load_named(name, Scale())
        measure(url, options.rounds, options.only)


if __name__ == "__main__":
    main()
