"""Webhooks that go out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "deliveries_0001"
down_revision = None
branch_labels = ("deliveries",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("endpoint", sa.Text),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("secret", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("tried", sa.Integer, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("holder", sa.String(64)),
        sa.Column("held_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_state_due", "deliveries", ["state", "due"])
    op.create_index("ix_deliveries_host_state_due", "deliveries", ["host", "state", "due"])
    op.create_index("ix_deliveries_job", "deliveries", ["job"])
    op.create_index("ix_deliveries_ended", "deliveries", ["ended"])
    op.create_table(
        "delivery_tries",
        sa.Column("delivery", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("delivery", "number", name="pk_delivery_tries"),
        sa.ForeignKeyConstraint(
            ["delivery"],
            ["deliveries.id"],
            name="fk_delivery_tries_delivery_deliveries",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "disabled_receivers",
        sa.Column("receiver", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("receiver", name="pk_disabled_receivers"),
    )
