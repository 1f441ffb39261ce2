"""Whole runs against a simulator, and what they leave behind in a form that can be compared."""

import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import RowMapping, inspect, select

from sync.config import Settings
from sync.ehpc.credentials import Credential
from sync.ehpc.fetch import BackoffPolicy, Client, ClientSettings
from sync.inventory import IMAGE_FIELDS, Clock, utc_now
from sync.run import Progress, RunRequest, RunResult, run_once
from sync.simulator.catalogue import (
    Catalogue,
    OfferedType,
    catalogue_of,
    with_image_added,
    with_image_renamed,
    with_type,
    without_image,
    without_images,
    without_type,
)
from sync.simulator.faults import Fault, FaultKind
from sync.simulator.signatures import Account
from sync.store.database import Database
from sync.store.schema import views
from sync.store.verify import violations
from tests.store.builders import an_image, expire_lease, unsound_targets

FEW = [an_image(f"m-{number}") for number in range(3)]
MANY = [an_image(f"m-{number:02}") for number in range(30)]

Row = tuple[object, ...]

TIMELY = frozenset({"change_id", "run_id", "request_id", "target_key", "image_key", "lived_days"})
"""Columns that no two runs have alike."""


def before() -> Catalogue:
    """Return what is offered at first."""
    return catalogue_of(
        {
            "cn-beijing": {"ecs.c7.large": MANY, "ecs.g7.large": FEW},
            "cn-hangzhou": {f"ecs.{name}.large": FEW for name in ("c7", "g7", "r7", "i7", "u7", "old")},
        }
    )


def after() -> Catalogue:
    """Return what is offered later: each kind of change, and a removal so large that it is held."""
    catalogue = with_image_added(before(), an_image("m-new"), region_id="cn-hangzhou", instance_type="ecs.[cr]7.large")
    catalogue = without_image(catalogue, "m-0", region_id="cn-hangzhou", instance_type="ecs.[gr]7.large")
    catalogue = with_image_renamed(catalogue, "m-1", "Renamed", region_id="cn-hangzhou", instance_type="ecs.c7.large")
    catalogue = with_type(catalogue, "cn-hangzhou", OfferedType("ecs.new.large", frozenset(FEW)))
    catalogue = without_type(catalogue, "ecs.old.large")
    return without_images(catalogue, region_id="cn-beijing", instance_type="ecs.c7.large")


def without_held_removals() -> Catalogue:
    """Return the later offer with the images back whose removal would be held."""
    return with_type(after(), "cn-beijing", OfferedType("ecs.c7.large", frozenset(MANY)))


def failing(instance_type: str) -> Fault:
    """Return the fault that one instance type of Hangzhou cannot be observed."""
    return Fault(
        FaultKind.ERROR, "ListImages", "cn-hangzhou", instance_type, status=400, code="InvalidInstanceType.Scripted"
    )


def make_run(
    database: Database,
    endpoint: str,
    *,
    now: Clock = utc_now,
    interrupt: threading.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RunResult:
    """Make one run over all regions of the simulator."""
    settings = Settings(regions=("all",), endpoint=endpoint, calls_per_second=10_000, workers=4)
    client_settings = ClientSettings(endpoint, settings.workers, settings.calls_per_second)
    account = Account()

    def credential() -> Credential:
        return Credential(account.access_key_id, account.access_key_secret)

    with Client(client_settings, credential, now=now, backoff=BackoffPolicy(0, 0, 0)) as client:
        return run_once(
            settings,
            database,
            client,
            RunRequest("test"),
            interrupt=interrupt or threading.Event(),
            on_progress=on_progress,
            now=now,
        )


def repair(database: Database, endpoint: str) -> RunResult:
    """Make the next run after one that died: its lease has ended by then."""
    if has_table(database, "lease"):
        expire_lease(database)
    return make_run(database, endpoint)


def has_table(database: Database, name: str) -> bool:
    """Return whether the table exists."""
    with database.reading() as connection:
        return inspect(connection).has_table(name)


def timeless_views(database: Database) -> dict[str, list[Row]]:
    """Return all rows of the views about targets and images, without keys and ids; times only as there or not."""
    with database.reading() as connection:
        return {
            name: sorted(
                (
                    tuple("a time" if isinstance(value, datetime) else value for value in row)
                    for row in connection.execute(select(*(column for column in view.c if column.name not in TIMELY)))
                ),
                key=repr,
            )
            for name, view in views.tables.items()
            if name not in {"sync_runs", "region_runs"}
        }


def broken_promises(database: Database) -> list[str]:
    """Return where the history contradicts itself; nothing in a database that no run has reached yet."""
    if not has_table(database, "availability"):
        return []
    with database.reading() as connection:
        history = connection.execute(select(views.tables["image_history"])).mappings().all()
        changes = connection.execute(select(views.tables["image_changes"])).mappings().all()
    begun = {(row["region_id"], row["instance_type"], _image_of(row), row["valid_from"]) for row in history}
    ended = {(row["region_id"], row["instance_type"], _image_of(row), row["valid_to"]) for row in history}
    wanted = {"added": begun, "changed": begun, "removed": ended}
    found = [f"the images of {name} do not have its digest" for name in unsound_targets(database)]
    for row in changes:
        key = (row["region_id"], row["instance_type"], _image_of(row), row["detected_at"])
        if row["kind"] in wanted and key not in wanted[row["kind"]]:
            found.append(f"change {row['change_id']} has no interval")
    found += [f"{row['image_id']} ends before it begins" for row in history if _is_reversed(row)]
    return found + [str(entry) for entry in violations(database)]


def _is_reversed(row: RowMapping) -> bool:
    return row["valid_to"] is not None and row["valid_to"] <= row["valid_from"]


def _image_of(row: RowMapping) -> Row:
    return tuple(row[name] for name in IMAGE_FIELDS)
