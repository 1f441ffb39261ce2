"""Builders of what the store takes, with good defaults, and a reader of all that it holds."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text, update

from sync.inventory import (
    IMAGE_FIELDS,
    OPEN,
    Change,
    ChangeKind,
    Failure,
    Image,
    KnownTarget,
    Target,
    TargetUpdate,
    digest_of,
)
from sync.store.database import Database
from sync.store.known import ImageKeys, find_open_intervals, find_region
from sync.store.lease import Lease
from sync.store.record import Recorder
from sync.store.schema import availability, image, lease, metadata, target

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REGION = "cn-hangzhou"

Contents = dict[str, list[tuple[object, ...]]]


def at(minutes: float) -> datetime:
    """Return the time that many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def an_image(name: str = "m-1", /, **fields: str) -> Image:
    """Return an image with the image id ``name``; fields that are not given depend on that alone."""
    return Image(**{field: f"{field} of {name}" for field in IMAGE_FIELDS} | {"image_id": name} | fields)


def a_target(instance_type: str = "ecs.c7.large", base_os_tag: str = "") -> Target:
    """Return a target of the one region that the tests of the store need."""
    return Target(REGION, instance_type, base_os_tag)


def observed(
    entry: Target, opened: Iterable[Image] = (), moment: datetime = NOON, *, stored: Iterable[Image] = ()
) -> TargetUpdate:
    """Return the update of an observation that found ``opened`` beside what is ``stored``."""
    opened = list(opened)
    return TargetUpdate(entry, moment, is_observed=True, opened=opened, image_digest=digest_of({*stored, *opened}))


def closing(entry: Target, images: Iterable[Image], moment: datetime, *, stored: Iterable[Image]) -> TargetUpdate:
    """Return the update of an observation that lacks ``images`` of what is ``stored``."""
    closed = dict.fromkeys(images, moment)
    return TargetUpdate(
        entry,
        moment,
        is_observed=True,
        closed=closed,
        changes=tuple(Change(ChangeKind.REMOVED, moment, NOON, image=gone) for gone in closed),
        image_digest=digest_of(set(stored) - closed.keys()),
    )


def failed(entry: Target, moment: datetime = NOON, code: str = "network.timeout", message: str = "") -> TargetUpdate:
    """Return the update of a target that could not be observed."""
    failure = Failure(entry.region_id, entry.instance_type, code, message, "A-REQUEST", entry.base_os_tag)
    return TargetUpdate(entry, moment, failure=failure)


class Writer:
    """A run that is open for writing, and what it has written as the store gives it back."""

    def __init__(self, database: Database, taken: Lease, moment: datetime = NOON) -> None:
        self._database = database
        self.lease = taken
        self.recorder = Recorder(database, taken, ImageKeys(), lambda: moment)
        self.run_id = self.recorder.open_run("test", moment)

    def write(self, *updates: TargetUpdate) -> None:
        """Write the updates of targets."""
        self.recorder.write_targets(updates, self.known())

    def known(self) -> dict[Target, KnownTarget]:
        """Return what is stored of the region's targets."""
        with self._database.reading() as connection:
            return find_region(connection, REGION).targets

    def open_images(self) -> dict[Target, dict[Image, datetime]]:
        """Return the open images of each target with the beginnings of their intervals."""
        ids = {known.id: entry for entry, known in self.known().items()}
        with self._database.reading() as connection:
            found = find_open_intervals(connection, sorted(ids), ImageKeys())
        return {ids[key]: images for key, images in found.items()}


@contextmanager
def writer_of(database: Database) -> Iterator[Writer]:
    """Give an open run under the lease, which is given back at the end."""
    taken = Lease(database)
    taken.acquire()
    yield Writer(database, taken)
    taken.release()


def contents_of(database: Database) -> Contents:
    """Return all rows of all tables but the lease, sorted."""
    tables = [table for table in metadata.sorted_tables if table is not lease]
    with database.reading() as connection:
        return {table.name: sorted(map(tuple, connection.execute(select(table))), key=repr) for table in tables}


def unsound_targets(database: Database) -> list[str]:
    """Return the targets whose open images do not have the digest that their row says; none in a sound history."""
    columns = [image.c[name] for name in IMAGE_FIELDS]
    joined = availability.join(image, availability.c.image_key == image.c.id)
    opened: dict[int, set[Image]] = {}
    with database.reading() as connection:
        rows = select(availability.c.target_id, *columns).select_from(joined).where(availability.c.valid_to == OPEN)
        for target_id, *values in connection.execute(rows):
            opened.setdefault(target_id, set()).add(Image(*values))
        return [
            row.instance_type
            for row in connection.execute(select(target))
            if row.image_digest != digest_of(opened.get(row.id, ()))
        ]


def expire_lease(database: Database) -> None:
    """Let the lease end now, as if its owner had been dead for a minute."""
    with database.writing() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2000, 1, 1, tzinfo=UTC)))


def execute(database: Database, statement: str) -> None:
    """Execute one statement by hand."""
    with database.writing() as connection:
        connection.execute(text(statement))
