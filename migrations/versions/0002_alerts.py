"""The tick that a run serves, what each channel has been told of what goes on, and a faster target_status.

The view finds a region's last complete run by an index; joined as a derived table it took MariaDB a minute when a year
of runs had gathered.

Repeatable after any cut, as 0001 is: what stands already is left alone.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint

from sync.store.types import ExactText, UtcTimestamp

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEX = "ix_run_scheduled_at"

OPEN = {
    "sqlite": "'9999-12-31 00:00:00.000'",
    "postgresql": "TIMESTAMPTZ '9999-12-31 00:00:00+00'",
    "mysql": "TIMESTAMP'9999-12-31 00:00:00.000'",
}

# Not MAX: for that MariaDB reads all runs of the region for each of its targets.
LAST_RUN = """(SELECT r.started_at FROM region_run r WHERE r.region_id = t.region_id AND r.is_complete = TRUE
               ORDER BY r.started_at DESC LIMIT 1)"""

TARGET_STATUS = """
    SELECT t.region_id, t.instance_type, t.base_os_tag AS base_os_tag_filter, t.first_observed_at,
           CASE WHEN t.asked_at IS NULL THEN t.observed_at
                WHEN g.gap_from IS NOT NULL THEN g.gap_from
                WHEN t.retired_at = {open} AND {last_run} > t.observed_at THEN {last_run}
                ELSE t.observed_at END AS last_observed_at,
           NULLIF(t.retired_at, {open}) AS retired_at,
           (SELECT COUNT(*) FROM availability a
            WHERE a.target_id = t.id AND a.valid_to = {open}) AS image_count,
           g.gap_from AS unknown_since, g.error_code, g.message AS error_message
    FROM target t
    LEFT JOIN coverage_gap g ON g.target_id = t.id AND g.gap_to = {open}
    {join}
"""
JOINED_RUNS = """
    LEFT JOIN (SELECT region_id, MAX(started_at) AS started_at FROM region_run
               WHERE is_complete = TRUE GROUP BY region_id) r ON r.region_id = t.region_id
"""


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if "scheduled_at" not in {column["name"] for column in inspector.get_columns("run")}:
        op.add_column("run", Column("scheduled_at", UtcTimestamp))
    if INDEX not in {index["name"] for index in inspector.get_indexes("run")}:
        op.create_index(INDEX, "run", ["scheduled_at"])
    op.create_table(
        "open_alert",
        Column("channel", ExactText(64), nullable=False),
        Column("incident", ExactText(255), nullable=False),
        Column("subject", ExactText(1000), nullable=False),
        Column("told_at", UtcTimestamp, nullable=False),
        PrimaryKeyConstraint("channel", "incident", name="pk_open_alert"),
        if_not_exists=True,
    )
    _create_target_status(last_run=LAST_RUN, join="")


def downgrade() -> None:
    _create_target_status(last_run="r.started_at", join=JOINED_RUNS)
    op.drop_table("open_alert", if_exists=True)
    op.drop_index(INDEX, "run")
    op.drop_column("run", "scheduled_at")


def _create_target_status(*, last_run: str, join: str) -> None:
    dialect = op.get_bind().dialect
    family = "mysql" if dialect.name == "mariadb" else dialect.name
    select = TARGET_STATUS.format(open=OPEN[family], last_run=last_run, join=join)
    op.execute("DROP VIEW IF EXISTS target_status")
    op.execute(sa.text(f"CREATE VIEW target_status AS {select}".replace(":", r"\:")))
