"""The views image_lifetimes (no arithmetic with times is the same on all databases), images, region_runs; indexes.

The upgrade is repeatable after any cut, as 0001 is. The views and columns of before stay as they are.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OPEN = {
    "sqlite": "'9999-12-31 00:00:00.000'",
    "postgresql": "TIMESTAMPTZ '9999-12-31 00:00:00+00'",
    "mysql": "TIMESTAMP'9999-12-31 00:00:00.000'",
}

# Days between two times, as a floating point number; {until} is now while the image is available.
DAYS = {
    "sqlite": "julianday({until}) - julianday(a.valid_from)",
    "postgresql": "CAST(EXTRACT(EPOCH FROM ({until}) - a.valid_from) / 86400 AS DOUBLE PRECISION)",
    "mysql": "TIMESTAMPDIFF(MICROSECOND, a.valid_from, {until}) / 86400000000e0",
}
NOW = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now')",
    "postgresql": "CURRENT_TIMESTAMP",
    "mysql": "UTC_TIMESTAMP(3)",
}

# All databases leave out a LEFT JOIN to a primary key where nothing of the image is asked for; an inner one takes
# MariaDB half of the time of a region as of T. Every interval has its image, so the rows are the same.
IMAGE_LIFETIMES = """
    SELECT t.region_id, t.instance_type,
           i.image_id, i.os_tag, i.base_os_tag, i.platform, i.version, i.architecture, i.os_name, i.os_name_en,
           a.valid_from, NULLIF(a.valid_to, {open}) AS valid_to, a.valid_from = t.first_observed_at AS from_baseline,
           t.base_os_tag AS base_os_tag_filter,
           {days} AS lived_days, a.target_id AS target_key, a.image_key
    FROM availability a
    JOIN target t ON t.id = a.target_id
    LEFT JOIN image i ON i.id = a.image_key
"""

REGION_RUNS = """
    SELECT run_id, region_id, started_at, finished_at, status, is_complete, types_listed, targets_ok, targets_failed,
           images_added, images_removed, images_changed, removals_held, error
    FROM region_run
"""
IMAGES = """
    SELECT id AS image_key, image_id, os_tag, base_os_tag, platform, version, architecture, os_name, os_name_en,
           first_seen_at
    FROM image
"""

# Without them a question about one image, or one instance type in all regions, reads every interval of the regions, one
# about a run all changes, and so does each deletion of a run.
# MySQL's keys are at most 3,072 bytes, so the beginning of the name; PostgreSQL's hash takes names of any length.
INDEXES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ix_change_run_id": ("change", "run_id", {}),
    "ix_coverage_gap_run_id": ("coverage_gap", "run_id", {}),
    "ix_target_instance_type": ("target", "instance_type", {}),
    "ix_image_image_id": (
        "image",
        "image_id",
        {"mysql_length": 191, "mariadb_length": 191, "postgresql_using": "hash"},
    ),
    "ix_image_os_tag": ("image", "os_tag", {"mysql_length": 191, "mariadb_length": 191, "postgresql_using": "hash"}),
}


def upgrade() -> None:
    for name, (table, column, options) in INDEXES.items():
        if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
            op.create_index(name, table, [column], **options)
    dialect = op.get_bind().dialect.name
    family = "mysql" if dialect == "mariadb" else dialect
    until = f"CASE WHEN a.valid_to = {OPEN[family]} THEN {NOW[family]} ELSE a.valid_to END"
    days = DAYS[family].format(until=until)
    _create("image_lifetimes", IMAGE_LIFETIMES.format(open=OPEN[family], days=days))
    _create("images", IMAGES)
    _create("region_runs", REGION_RUNS)


def downgrade() -> None:
    for name in ("region_runs", "images", "image_lifetimes"):
        op.execute(f"DROP VIEW IF EXISTS {name}")
    is_mysql = op.get_bind().dialect.name in {"mysql", "mariadb"}
    for name, (table, column, _) in INDEXES.items():
        if is_mysql and column == "run_id":
            # A foreign key needs an index there; before this one it had one of its own name.
            op.execute(f"ALTER TABLE `{table}` RENAME INDEX {name} TO fk_{table}_{column}")
        else:
            op.drop_index(name, table)


def _create(name: str, select: str) -> None:
    op.execute(f"DROP VIEW IF EXISTS {name}")
    text = f"CREATE VIEW {name} AS {select}".replace(":", r"\:")
    op.execute(sa.text(text))
