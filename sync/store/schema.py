"""The tables as Core objects and the public views' columns; equal to the migrations, which a test asserts."""

from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from sync.inventory import IMAGE_FIELDS, Counts
from sync.store.types import BigKey, ExactText, UtcTimestamp

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

metadata = MetaData(naming_convention=NAMING)


def _count_columns() -> list[Column[int]]:
    return [Column(entry.name, Integer, nullable=False, server_default="0") for entry in fields(Counts)]


_BY_NAME: dict[str, Any] = {"mysql_length": 191, "mariadb_length": 191, "postgresql_using": "hash"}
"""How the names of images are indexed: they may be longer than MySQL's keys and PostgreSQL's trees take."""

WHOLE_TYPE = 0
"""The image_key of a held removal that concerns the instance type itself and not one image."""

target = Table(
    "target",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("region_id", ExactText(64), nullable=False),
    Column("instance_type", ExactText(128), nullable=False),
    Column("base_os_tag", ExactText(128), nullable=False),
    Column("first_observed_at", UtcTimestamp),
    # The observation that last wrote this row; later ones that found nothing new are in region_run.
    Column("observed_at", UtcTimestamp),
    # The start of the region run that made that observation: the last moment known to be before its answers.
    # NULL until the target is observed, and again when its type returns and is not observed yet.
    Column("asked_at", UtcTimestamp),
    Column("retired_at", UtcTimestamp, nullable=False),
    Column("image_digest", ExactText(64), nullable=False),
    UniqueConstraint("region_id", "instance_type", "base_os_tag"),
    Index(None, "instance_type"),
)

image = Table(
    "image",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", ExactText(64), nullable=False),
    *(Column(name, ExactText(1024), nullable=False) for name in IMAGE_FIELDS),
    Column("first_seen_at", UtcTimestamp, nullable=False),
    UniqueConstraint("fingerprint"),
    Index(None, "image_id", **_BY_NAME),
    Index(None, "os_tag", **_BY_NAME),
)

availability = Table(
    "availability",
    metadata,
    Column("target_id", Integer, ForeignKey("target.id"), nullable=False),
    Column("valid_to", UtcTimestamp, nullable=False),
    Column("image_key", Integer, ForeignKey("image.id"), nullable=False),
    Column("valid_from", UtcTimestamp, nullable=False),
    PrimaryKeyConstraint("target_id", "valid_to", "image_key", postgresql_include=["valid_from"]),
    CheckConstraint("valid_to > valid_from", name="not_empty"),
    Index(None, "image_key", "target_id", "valid_to", "valid_from"),
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("started_at", UtcTimestamp, nullable=False),
    Column("finished_at", UtcTimestamp),
    Column("status", ExactText(16), nullable=False),
    Column("trigger", ExactText(32), nullable=False),
    *_count_columns(),
    Column("error", ExactText(2000)),
    # The schedule's tick that the run serves; NULL for a run that asked less than everything.
    Column("scheduled_at", UtcTimestamp),
    Index(None, "scheduled_at"),
)

region_run = Table(
    "region_run",
    metadata,
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("region_id", ExactText(64), nullable=False),
    Column("started_at", UtcTimestamp, nullable=False),
    Column("finished_at", UtcTimestamp),
    Column("status", ExactText(16), nullable=False),
    # True when every known target of the region was asked and the outcome of each is recorded.
    Column("is_complete", Boolean, nullable=False),
    # How many instance types discovery listed; NULL when it was not asked or failed.
    Column("types_listed", Integer),
    *_count_columns(),
    Column("error", ExactText(2000)),
    PrimaryKeyConstraint("run_id", "region_id"),
    Index(None, "region_id", "is_complete", "started_at"),
)

change = Table(
    "change",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    Column("target_id", Integer, ForeignKey("target.id"), nullable=False),
    Column("image_key", Integer, ForeignKey("image.id")),
    Column("previous_image_key", Integer, ForeignKey("image.id")),
    Column("kind", ExactText(16), nullable=False),
    Column("detected_at", UtcTimestamp, nullable=False),
    Column("last_seen_at", UtcTimestamp),
    Column("recorded_at", UtcTimestamp, nullable=False),
    Index(None, "run_id"),
    Index(None, "target_id"),
    Index(None, "image_key"),
    Index(None, "recorded_at"),
    # Without AUTOINCREMENT SQLite may hand out the id of a deleted row again, and a cursor would miss a change.
    sqlite_autoincrement=True,
)

held_removal = Table(
    "held_removal",
    metadata,
    Column("target_id", Integer, ForeignKey("target.id"), nullable=False),
    Column("image_key", Integer, nullable=False),
    Column("first_missed_at", UtcTimestamp, nullable=False),
    Column("last_missed_at", UtcTimestamp, nullable=False),
    Column("last_seen_at", UtcTimestamp),
    Column("missed_runs", Integer, nullable=False),
    Column("missed_answers", Integer, nullable=False),
    PrimaryKeyConstraint("target_id", "image_key"),
)

coverage_gap = Table(
    "coverage_gap",
    metadata,
    Column("target_id", Integer, ForeignKey("target.id"), nullable=False),
    Column("gap_to", UtcTimestamp, nullable=False),
    Column("gap_from", UtcTimestamp, nullable=False),
    Column("error_code", ExactText(128), nullable=False),
    Column("message", ExactText(2000), nullable=False),
    Column("request_id", ExactText(128), nullable=False),
    Column("run_id", Integer, ForeignKey("run.id"), nullable=False),
    PrimaryKeyConstraint("target_id", "gap_to"),
    Index(None, "run_id"),
    CheckConstraint("gap_to > gap_from", name="not_empty"),
)

listed_type = Table(
    "listed_type",
    metadata,
    Column("region_id", ExactText(64), nullable=False),
    Column("instance_type", ExactText(128), nullable=False),
    Column("first_listed_at", UtcTimestamp, nullable=False),
    # The last listing that had it, noted when one first misses it; NULL while it is listed.
    Column("last_listed_at", UtcTimestamp),
    PrimaryKeyConstraint("region_id", "instance_type"),
)

lease = Table(
    "lease",
    metadata,
    Column("name", ExactText(32), primary_key=True),
    Column("owner", ExactText(255)),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcTimestamp, nullable=False),
)

notification_cursor = Table(
    "notification_cursor",
    metadata,
    Column("channel", ExactText(64), primary_key=True),
    Column("change_id", BigInteger, nullable=False),
)

open_alert = Table(
    "open_alert",
    metadata,
    Column("channel", ExactText(64), primary_key=True),
    # What goes on, such as failing/cn-hangzhou/Throttling; the row goes when the channel has been told its end.
    Column("incident", ExactText(255), primary_key=True),
    Column("subject", ExactText(1000), nullable=False),
    Column("told_at", UtcTimestamp, nullable=False),
)

views = MetaData()
"""The public SQL interface; kept apart from the tables so that nothing tries to create them as tables."""


def _view(name: str, **columns: type[TypeEngine[Any]] | TypeEngine[Any]) -> Table:
    return Table(name, views, *(Column(column, kind) for column, kind in columns.items()))


_PLACE: dict[str, TypeEngine[Any]] = {"region_id": ExactText(), "instance_type": ExactText()}
_IMAGE: dict[str, TypeEngine[Any]] = {name: ExactText() for name in IMAGE_FIELDS}

available_images = _view(
    "available_images",
    **_PLACE,
    **_IMAGE,
    available_since=UtcTimestamp,
    from_baseline=Boolean,
    missing_since=UtcTimestamp,
    base_os_tag_filter=ExactText,
)

image_history = _view(
    "image_history",
    **_PLACE,
    **_IMAGE,
    valid_from=UtcTimestamp,
    valid_to=UtcTimestamp,
    from_baseline=Boolean,
    base_os_tag_filter=ExactText,
)

image_changes = _view(
    "image_changes",
    change_id=BigInteger,
    run_id=Integer,
    detected_at=UtcTimestamp,
    last_seen_at=UtcTimestamp,
    kind=ExactText,
    **_PLACE,
    **_IMAGE,
    base_os_tag_filter=ExactText,
    recorded_at=UtcTimestamp,
)

target_status = _view(
    "target_status",
    **_PLACE,
    base_os_tag_filter=ExactText,
    first_observed_at=UtcTimestamp,
    last_observed_at=UtcTimestamp,
    retired_at=UtcTimestamp,
    image_count=Integer,
    unknown_since=UtcTimestamp,
    error_code=ExactText,
    error_message=ExactText,
)

observation_gaps = _view(
    "observation_gaps",
    **_PLACE,
    gap_from=UtcTimestamp,
    gap_to=UtcTimestamp,
    error_code=ExactText,
    error_message=ExactText,
    request_id=ExactText,
    base_os_tag_filter=ExactText,
)

sync_runs = _view(
    "sync_runs",
    run_id=Integer,
    started_at=UtcTimestamp,
    finished_at=UtcTimestamp,
    status=ExactText,
    trigger=ExactText,
    targets_ok=Integer,
    targets_failed=Integer,
    images_added=Integer,
    images_removed=Integer,
    images_changed=Integer,
    removals_held=Integer,
    error=ExactText,
)

image_lifetimes = _view(
    "image_lifetimes",
    **_PLACE,
    **_IMAGE,
    valid_from=UtcTimestamp,
    valid_to=UtcTimestamp,
    from_baseline=Boolean,
    base_os_tag_filter=ExactText,
    lived_days=Float,
    target_key=Integer,
    image_key=Integer,
)

images = _view("images", image_key=Integer, **_IMAGE, first_seen_at=UtcTimestamp)

region_runs = _view(
    "region_runs",
    run_id=Integer,
    region_id=ExactText,
    started_at=UtcTimestamp,
    finished_at=UtcTimestamp,
    status=ExactText,
    is_complete=Boolean,
    types_listed=Integer,
    targets_ok=Integer,
    targets_failed=Integer,
    images_added=Integer,
    images_removed=Integer,
    images_changed=Integer,
    removals_held=Integer,
    error=ExactText,
)
