"""Targets, images, their availability over time, changes, runs, gaps, the lease and the public views.

Every table is created only where it is missing: MySQL and MariaDB cannot roll DDL back, so a migration that was
cut short must be repeatable; and the lease stands before all others, because migrations run under it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from sync.store.types import BigKey, ExactText, UtcTimestamp

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

IMAGE_FIELDS = (
    "image_id",
    "os_tag",
    "base_os_tag",
    "platform",
    "version",
    "architecture",
    "os_name",
    "os_name_en",
)
COUNTS = (
    "targets_ok",
    "targets_failed",
    "images_added",
    "images_removed",
    "images_changed",
    "removals_held",
)

OPEN = {
    "sqlite": "'9999-12-31 00:00:00.000'",
    "postgresql": "TIMESTAMPTZ '9999-12-31 00:00:00+00'",
    "mysql": "TIMESTAMP'9999-12-31 00:00:00.000'",
}

IMAGE_COLUMNS = ", ".join(f"i.{name}" for name in IMAGE_FIELDS)

VIEWS = {
    "available_images": f"""
        SELECT t.region_id, t.instance_type, {IMAGE_COLUMNS},
               a.valid_from AS available_since,
               a.valid_from = t.first_observed_at AS from_baseline,
               COALESCE(h.first_missed_at, w.first_missed_at) AS missing_since,
               t.base_os_tag AS base_os_tag_filter
        FROM availability a
        JOIN target t ON t.id = a.target_id
        JOIN image i ON i.id = a.image_key
        LEFT JOIN held_removal h ON h.target_id = a.target_id AND h.image_key = a.image_key
        LEFT JOIN held_removal w ON w.target_id = a.target_id AND w.image_key = 0
        WHERE a.valid_to = {{open}}
    """,
    "image_history": f"""
        SELECT t.region_id, t.instance_type, {IMAGE_COLUMNS},
               a.valid_from, NULLIF(a.valid_to, {{open}}) AS valid_to,
               a.valid_from = t.first_observed_at AS from_baseline,
               t.base_os_tag AS base_os_tag_filter
        FROM availability a
        JOIN target t ON t.id = a.target_id
        JOIN image i ON i.id = a.image_key
    """,
    "image_changes": f"""
        SELECT c.id AS change_id, c.run_id, c.detected_at, c.last_seen_at, c.kind,
               t.region_id, t.instance_type, {IMAGE_COLUMNS},
               t.base_os_tag AS base_os_tag_filter, c.recorded_at
        FROM {{change}} c
        JOIN target t ON t.id = c.target_id
        LEFT JOIN image i ON i.id = c.image_key
    """,
    "target_status": """
        SELECT t.region_id, t.instance_type, t.base_os_tag AS base_os_tag_filter, t.first_observed_at,
               CASE WHEN t.asked_at IS NULL THEN t.observed_at
                    WHEN g.gap_from IS NOT NULL THEN g.gap_from
                    WHEN t.retired_at = {open} AND r.started_at > t.observed_at THEN r.started_at
                    ELSE t.observed_at END AS last_observed_at,
               NULLIF(t.retired_at, {open}) AS retired_at,
               (SELECT COUNT(*) FROM availability a
                WHERE a.target_id = t.id AND a.valid_to = {open}) AS image_count,
               g.gap_from AS unknown_since, g.error_code, g.message AS error_message
        FROM target t
        LEFT JOIN coverage_gap g ON g.target_id = t.id AND g.gap_to = {open}
        LEFT JOIN (SELECT region_id, MAX(started_at) AS started_at FROM region_run
                   WHERE is_complete = TRUE GROUP BY region_id) r ON r.region_id = t.region_id
    """,
    "observation_gaps": """
        SELECT t.region_id, t.instance_type, g.gap_from, NULLIF(g.gap_to, {open}) AS gap_to,
               g.error_code, g.message AS error_message, g.request_id, t.base_os_tag AS base_os_tag_filter
        FROM coverage_gap g
        JOIN target t ON t.id = g.target_id
    """,
    "sync_runs": """
        SELECT id AS run_id, started_at, finished_at, status, {trigger}, targets_ok, targets_failed,
               images_added, images_removed, images_changed, removals_held, error
        FROM run
    """,
}


def upgrade() -> None:
    _create_inventory()
    _create_runs()
    _create_history()
    _create_coordination()
    _create_views()


def downgrade() -> None:
    for name in reversed(VIEWS):
        op.execute(f"DROP VIEW IF EXISTS {name}")
    for name in (
        "notification_cursor",
        "listed_type",
        "coverage_gap",
        "held_removal",
        "change",
        "availability",
        "region_run",
        "run",
        "image",
        "target",
    ):
        op.drop_table(name, if_exists=True)


def _table(name: str, *parts: sa.schema.SchemaItem, **options: object) -> None:
    columns = [part for part in parts if not isinstance(part, sa.Index)]
    op.create_table(name, *columns, if_not_exists=True, **options)
    # MySQL knows no CREATE INDEX IF NOT EXISTS, so what stands already is asked for.
    present = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(name)}
    for part in parts:
        if isinstance(part, sa.Index) and part.name not in present:
            op.create_index(str(part.name), name, [str(column) for column in part.expressions])


def _references(table: str, column: str, other: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint([column], [f"{other}.id"], name=f"fk_{table}_{column}")


def _counts() -> list[Column[int]]:
    return [Column(name, sa.Integer, nullable=False, server_default="0") for name in COUNTS]


def _create_inventory() -> None:
    _table(
        "target",
        Column("id", sa.Integer, nullable=False),
        Column("region_id", ExactText(64), nullable=False),
        Column("instance_type", ExactText(128), nullable=False),
        Column("base_os_tag", ExactText(128), nullable=False),
        Column("first_observed_at", UtcTimestamp),
        Column("observed_at", UtcTimestamp),
        Column("asked_at", UtcTimestamp),
        Column("retired_at", UtcTimestamp, nullable=False),
        Column("image_digest", ExactText(64), nullable=False),
        PrimaryKeyConstraint("id", name="pk_target"),
        UniqueConstraint(
            "region_id", "instance_type", "base_os_tag", name="uq_target_region_id_instance_type_base_os_tag"
        ),
    )
    _table(
        "image",
        Column("id", sa.Integer, nullable=False),
        Column("fingerprint", ExactText(64), nullable=False),
        *(Column(name, ExactText(1024), nullable=False) for name in IMAGE_FIELDS),
        Column("first_seen_at", UtcTimestamp, nullable=False),
        PrimaryKeyConstraint("id", name="pk_image"),
        UniqueConstraint("fingerprint", name="uq_image_fingerprint"),
    )
    _table(
        "listed_type",
        Column("region_id", ExactText(64), nullable=False),
        Column("instance_type", ExactText(128), nullable=False),
        Column("first_listed_at", UtcTimestamp, nullable=False),
        Column("last_listed_at", UtcTimestamp),
        PrimaryKeyConstraint("region_id", "instance_type", name="pk_listed_type"),
    )


def _create_runs() -> None:
    _table(
        "run",
        Column("id", sa.Integer, nullable=False),
        Column("started_at", UtcTimestamp, nullable=False),
        Column("finished_at", UtcTimestamp),
        Column("status", ExactText(16), nullable=False),
        Column("trigger", ExactText(32), nullable=False),
        *_counts(),
        Column("error", ExactText(2000)),
        PrimaryKeyConstraint("id", name="pk_run"),
    )
    _table(
        "region_run",
        Column("run_id", sa.Integer, nullable=False),
        Column("region_id", ExactText(64), nullable=False),
        Column("started_at", UtcTimestamp, nullable=False),
        Column("finished_at", UtcTimestamp),
        Column("status", ExactText(16), nullable=False),
        Column("is_complete", sa.Boolean, nullable=False),
        Column("types_listed", sa.Integer),
        *_counts(),
        Column("error", ExactText(2000)),
        PrimaryKeyConstraint("run_id", "region_id", name="pk_region_run"),
        _references("region_run", "run_id", "run"),
        sa.Index("ix_region_run_region_id_is_complete_started_at", "region_id", "is_complete", "started_at"),
    )


def _create_history() -> None:
    _table(
        "availability",
        Column("target_id", sa.Integer, nullable=False),
        Column("valid_to", UtcTimestamp, nullable=False),
        Column("image_key", sa.Integer, nullable=False),
        Column("valid_from", UtcTimestamp, nullable=False),
        PrimaryKeyConstraint(
            "target_id", "valid_to", "image_key", name="pk_availability", postgresql_include=["valid_from"]
        ),
        _references("availability", "target_id", "target"),
        _references("availability", "image_key", "image"),
        sa.CheckConstraint("valid_to > valid_from", name=op.f("ck_availability_not_empty")),
        sa.Index(
            "ix_availability_image_key_target_id_valid_to_valid_from",
            "image_key",
            "target_id",
            "valid_to",
            "valid_from",
        ),
        sqlite_with_rowid=False,
    )
    _table(
        "change",
        Column("id", BigKey, nullable=False),
        Column("run_id", sa.Integer, nullable=False),
        Column("target_id", sa.Integer, nullable=False),
        Column("image_key", sa.Integer),
        Column("previous_image_key", sa.Integer),
        Column("kind", ExactText(16), nullable=False),
        Column("detected_at", UtcTimestamp, nullable=False),
        Column("last_seen_at", UtcTimestamp),
        Column("recorded_at", UtcTimestamp, nullable=False),
        PrimaryKeyConstraint("id", name="pk_change"),
        _references("change", "run_id", "run"),
        _references("change", "target_id", "target"),
        _references("change", "image_key", "image"),
        _references("change", "previous_image_key", "image"),
        sa.Index("ix_change_target_id", "target_id"),
        sa.Index("ix_change_image_key", "image_key"),
        sa.Index("ix_change_recorded_at", "recorded_at"),
        sqlite_autoincrement=True,
    )
    _table(
        "held_removal",
        Column("target_id", sa.Integer, nullable=False),
        Column("image_key", sa.Integer, nullable=False),
        Column("first_missed_at", UtcTimestamp, nullable=False),
        Column("last_missed_at", UtcTimestamp, nullable=False),
        Column("last_seen_at", UtcTimestamp),
        Column("missed_runs", sa.Integer, nullable=False),
        Column("missed_answers", sa.Integer, nullable=False),
        PrimaryKeyConstraint("target_id", "image_key", name="pk_held_removal"),
        _references("held_removal", "target_id", "target"),
    )
    _table(
        "coverage_gap",
        Column("target_id", sa.Integer, nullable=False),
        Column("gap_to", UtcTimestamp, nullable=False),
        Column("gap_from", UtcTimestamp, nullable=False),
        Column("error_code", ExactText(128), nullable=False),
        Column("message", ExactText(2000), nullable=False),
        Column("request_id", ExactText(128), nullable=False),
        Column("run_id", sa.Integer, nullable=False),
        PrimaryKeyConstraint("target_id", "gap_to", name="pk_coverage_gap"),
        _references("coverage_gap", "target_id", "target"),
        _references("coverage_gap", "run_id", "run"),
        sa.CheckConstraint("gap_to > gap_from", name=op.f("ck_coverage_gap_not_empty")),
    )


def _create_coordination() -> None:
    _table(
        "lease",
        Column("name", ExactText(32), nullable=False),
        Column("owner", ExactText(255)),
        Column("token", sa.BigInteger, nullable=False),
        Column("expires_at", UtcTimestamp, nullable=False),
        PrimaryKeyConstraint("name", name="pk_lease"),
    )
    _table(
        "notification_cursor",
        Column("channel", ExactText(64), nullable=False),
        Column("change_id", sa.BigInteger, nullable=False),
        PrimaryKeyConstraint("channel", name="pk_notification_cursor"),
    )


def _create_views() -> None:
    dialect = op.get_bind().dialect
    family = "mysql" if dialect.name == "mariadb" else dialect.name
    quote = dialect.identifier_preparer.quote
    for name, select in VIEWS.items():
        op.execute(f"DROP VIEW IF EXISTS {name}")
        text = select.format(open=OPEN[family], change=quote("change"), trigger=quote("trigger"))
        op.execute(sa.text(f"CREATE VIEW {name} AS {text}".replace(":", r"\:")))
