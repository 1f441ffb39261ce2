"""What a run costs beside the plain driver: first load, runs without change, runs with changes, on each database.

Run as ``python -m benchmarks.store [sqlite] [postgresql] [mariadb]``; all three without names. The servers are those
of TEST_POSTGRESQL_URL and TEST_MARIADB_URL, or the local ones; each measurement makes a database and drops it. Every
measurement has a process of its own, so that CPU and memory are those of one run.
"""

import itertools
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.connection import Connection as Pipe
from typing import Any, cast

from sqlalchemy import event, insert, select

from benchmarks.servers import DEFAULT_SERVERS, fresh_database
from sync.config import Settings
from sync.ehpc.fetch import Answer, Client
from sync.ehpc.parse import API_FIELDS, parse_images
from sync.inventory import IMAGE_FIELDS, Image, RunStatus, Target, utc_now
from sync.run import RunRequest, run_once
from sync.store.database import Database
from sync.store.lease import Lease
from sync.store.schema import availability, image, target
from sync.store.types import to_text

REGIONS = tuple(f"region-{number:02}" for number in range(25))
TYPES = tuple(f"ecs.bench.{number:04}" for number in range(1000))
IMAGES = 80
LISTS = 20  # distinct lists of a region; real regions have some tens
CHANGED_TYPES = 40  # of each region: 1,000 targets in all
ROUNDS = 5
COMMIT_ROWS = 40_000  # raw inserts commit as often as the run does: 500 targets of 80 images

Figures = dict[str, float]
Work = Callable[[Database], Figures]


class FakeClient:
    """Has the interface of ``sync.ehpc.fetch.Client`` and answers at once from lists made before."""

    def __init__(self, version: int = 0) -> None:
        self.version = version
        images = [_image(number) for number in range(1000)]
        self._lists = [
            frozenset(images[(number * 7 + place) % 900] for place in range(IMAGES))
            for number in range(LISTS * len(REGIONS))
        ]
        self._changing = self._changing_lists()

    def fetch_images(self, entry: Target) -> Answer[frozenset[Image]]:
        """Answer with the list of the target's group."""
        return Answer(self.images_of(entry), "A-REQUEST", utc_now())

    def fetch_instance_types(self, _: str) -> Answer[tuple[str, ...]]:
        """List the same types in every region."""
        return Answer(TYPES, "A-REQUEST", utc_now())

    def fetch_regions(self) -> Answer[tuple[str, ...]]:
        """List all regions."""
        return Answer(REGIONS, "A-REQUEST", utc_now())

    def stop(self) -> None:
        """Do nothing: no call takes time."""

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def images_of(self, entry: Target) -> frozenset[Image]:
        """Return the images of a target in the present version."""
        number = int(entry.instance_type[-4:])
        if number < CHANGED_TYPES:
            return self._changing[number]
        return self._lists[_list_number(entry)]

    def advance(self) -> None:
        """Replace two images of each changing type by two others."""
        self.version += 1
        self._changing = self._changing_lists()

    def _changing_lists(self) -> list[frozenset[Image]]:
        first = 1000 + 2 * self.version
        return [
            frozenset(_image(number) for number in (*range(place, place + IMAGES - 2), first, first + 1))
            for place in range(CHANGED_TYPES)
        ]


class ParsingClient(FakeClient):
    """Answers with bodies that the product's parser reads; each has a request id of its own.

    The parser remembers whole lists that differ in nothing else; distinct bodies differ beside it, and are read in
    full.
    """

    def __init__(self, *, is_distinct: bool = False) -> None:
        super().__init__()
        self._mark = b'"Other": %d, ' if is_distinct else b""
        self._numbers = itertools.count()
        self._bodies = {images: _rest_of_body(images) for images in (*self._lists, *self._changing)}

    def fetch_images(self, entry: Target) -> Answer[frozenset[Image]]:
        """Parse the body of the target's list."""
        number = next(self._numbers)
        mark = self._mark % number if self._mark else b""
        body = b'{"RequestId": "%032d", %b%b' % (number, mark, self._bodies[self.images_of(entry)])
        return Answer(parse_images(body), "A-REQUEST", utc_now())


def _list_number(entry: Target) -> int:
    return int(entry.region_id[-2:]) * LISTS + int(entry.instance_type[-4:]) % LISTS


def _image(number: int) -> Image:
    name = f"{number % 10}.{number // 10} 64"
    return Image(
        f"m-{number:020}", f"CentOS_{number}_64", "CentOS_7.2_64", "CentOS", name, "x86_64", f"CentOS {name}", name
    )


def _rest_of_body(images: frozenset[Image]) -> bytes:
    rows = [
        {key: getattr(entry, name) for key, name in zip(API_FIELDS, IMAGE_FIELDS, strict=True)}
        for entry in sorted(images)
    ]
    return json.dumps({"OsTags": {"OsInfo": rows}}).encode()[1:]


# --- runs


def run(database: Database, client: FakeClient) -> Figures:
    """Make one run over everything and return what it took."""
    settings = Settings(regions=REGIONS, instance_types=("discover",))
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_once(settings, database, cast("Client", client), RunRequest("bench"), interrupt=threading.Event())
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    assert result.status is RunStatus.OK, result
    return figures | {"changed": result.counts.images_added + result.counts.images_removed}


def first_load(database: Database) -> Figures:
    """Write everything into an empty database."""
    return run(database, FakeClient())


def unchanged(database: Database) -> Figures:
    """Run twice without any change: as from cron, and again as in a daemon, with the rows written."""
    client = FakeClient()
    first = run(database, client)
    written = _count_written_rows(database)
    again = run(database, client)
    assert not first["changed"] + again["changed"]
    return {"cpu_s": first["cpu_s"], "daemon_cpu_s": again["cpu_s"], "wall_s": again["wall_s"], **_per_region(written)}


def unchanged_parsed(database: Database) -> Figures:
    """Run without any change, reading the bodies too: lists that repeat, then bodies that are all distinct."""
    repeated = run(database, ParsingClient())
    distinct = run(database, ParsingClient(is_distinct=True))
    return repeated | {"distinct_cpu_s": distinct["cpu_s"]}


def changed(database: Database) -> Figures:
    """Make runs without and with changes in turns; the medians and their difference."""
    client = FakeClient()
    run(database, client)
    quiet, busy = [], []
    for _ in range(ROUNDS):
        quiet.append(run(database, client)["wall_s"])
        client.advance()
        figures = run(database, client)
        assert figures["changed"] == 4 * CHANGED_TYPES * len(REGIONS), figures
        busy.append(figures["wall_s"])
    more = [after - before for before, after in zip(quiet, busy, strict=True)]
    return {"quiet_s": statistics.median(quiet), "busy_s": statistics.median(busy), "more_s": statistics.median(more)}


def _count_written_rows(database: Database) -> dict[str, int]:
    written = {"lease": 0, "other": 0}

    def note(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            written["lease" if statement.startswith("UPDATE lease") else "other"] += cursor.rowcount

    event.listen(database.engine, "after_cursor_execute", note)
    return written


def _per_region(written: dict[str, int]) -> Figures:
    return {f"{kind}_rows": count / len(REGIONS) for kind, count in written.items()}


# --- the plain driver


def raw_load(database: Database) -> Figures:
    """Insert the rows that a first load writes into ``availability``, by the driver alone, in the order of the key."""
    lease = Lease(database)
    lease.acquire()
    rows = _availability_rows(database, utc_now())
    dialect = database.dialect_name
    insert_rows = {"sqlite": _insert_sqlite, "postgresql": _copy_postgresql, "mysql": _insert_mariadb}[dialect]
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(rows), COMMIT_ROWS):
        with database.writing() as connection:
            insert_rows(connection.connection.cursor(), rows[start : start + COMMIT_ROWS])
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    lease.release()
    return figures


Rows = list[tuple[int, str, int, str]]


def _availability_rows(database: Database, now: datetime) -> Rows:
    """Write images and targets, and return the rows of all pairs, sorted."""
    client = FakeClient()
    targets = [Target(region, name) for region in REGIONS for name in TYPES]
    images = sorted({entry for item in targets for entry in client.images_of(item)})
    with database.writing() as connection:
        connection.execute(
            insert(image),
            [
                {"fingerprint": entry.fingerprint.hex(), "first_seen_at": now}
                | {name: getattr(entry, name) for name in IMAGE_FIELDS}
                for entry in images
            ],
        )
        connection.execute(
            insert(target),
            [
                {"region_id": item.region_id, "instance_type": item.instance_type, "base_os_tag": ""}
                | {"retired_at": now, "image_digest": ""}
                for item in targets
            ],
        )
        keys = {row.fingerprint: row.id for row in connection.execute(select(image.c.id, image.c.fingerprint))}
        ids = {(row.region_id, row.instance_type): row.id for row in connection.execute(select(target))}
    key_of = {entry: keys[entry.fingerprint.hex()] for entry in images}
    zone = "+00" if database.dialect_name == "postgresql" else ""
    until, since = f"9999-12-31 00:00:00.000{zone}", to_text(now) + zone
    return sorted(
        (ids[item.region_id, item.instance_type], until, key_of[entry], since)
        for item in targets
        for entry in client.images_of(item)
    )


COLUMNS = ", ".join(availability.columns.keys())


def _insert_sqlite(cursor: Any, rows: Rows) -> None:
    cursor.executemany(f"INSERT INTO availability ({COLUMNS}) VALUES (?, ?, ?, ?)", rows)


def _insert_mariadb(cursor: Any, rows: Rows) -> None:
    cursor.executemany(f"INSERT INTO availability ({COLUMNS}) VALUES (%s, %s, %s, %s)", rows)


def _copy_postgresql(cursor: Any, rows: Rows) -> None:
    with cursor.copy(f"COPY availability ({COLUMNS}) FROM STDIN") as copy:
        copy.write("".join([f"{owner}\t{until}\t{key}\t{since}\n" for owner, until, key, since in rows]))


# --- processes and databases


def measured(work: Work, url: str) -> Figures:
    """Return what ``work`` took in a new process, with the most memory that the process had (MiB)."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(there, work, url))
    process.start()
    there.close()
    figures: Figures = here.recv()
    process.join()
    return figures


def _work(there: Pipe, work: Work, url: str) -> None:
    database = Database(url)
    figures = work(database)
    database.close()
    there.send(figures | {"rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})


def help_time_s() -> float:
    """Return how long ``--help`` takes, the median of several."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sync", "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str) -> None:
    """Measure one database and print the figures."""
    with fresh_database(name) as url:
        raw = measured(raw_load, url)
    with fresh_database(name) as url:
        load = measured(first_load, url)
        quiet = measured(unchanged, url)
        parsed = measured(unchanged_parsed, url)
        busy = measured(changed, url)
    print(f"{name}: {len(REGIONS)} regions x {len(TYPES)} types x {IMAGES} images")
    print(
        f"  first load          {load['wall_s']:.1f} s, raw {raw['wall_s']:.1f} s: "
        f"{load['wall_s'] / raw['wall_s']:.2f}x "
        f"(CPU {load['cpu_s']:.1f} s, raw {raw['cpu_s']:.1f} s; {load['rss_mib']:.0f} MiB)"
    )
    print(
        f"  without change      {quiet['cpu_s']:.2f} s CPU, again in the same process {quiet['daemon_cpu_s']:.2f} s "
        f"({quiet['wall_s']:.2f} s wall); {quiet['rss_mib']:.0f} MiB; "
        f"rows written per region {quiet['other_rows']:.2f}, lease renewals {quiet['lease_rows']:.2f}"
    )
    print(
        f"  ... answers parsed  {parsed['cpu_s']:.2f} s CPU, all distinct {parsed['distinct_cpu_s']:.2f} s; "
        f"{parsed['rss_mib']:.0f} MiB"
    )
    print(f"  1,000 changed       +{busy['more_s']:.2f} s ({busy['busy_s']:.2f} s beside {busy['quiet_s']:.2f} s)")


def main() -> None:
    """Measure ``--help`` and the databases named on the command line."""
    print(f"--help: {help_time_s():.2f} s")
    for name in sys.argv[1:] or DEFAULT_SERVERS:
        measure(name)


if __name__ == "__main__":
    main()
