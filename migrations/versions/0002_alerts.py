"""The tick that a run serves, and what each notification channel has been told of what is still going on.

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


def downgrade() -> None:
    op.drop_table("open_alert", if_exists=True)
    op.drop_index(INDEX, "run")
    op.drop_column("run", "scheduled_at")
