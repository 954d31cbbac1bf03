"""Webhooks that have come in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "received_0001"
down_revision = None
branch_labels = ("received",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "received_webhooks",
        sa.Column("hook", sa.String(255), nullable=False),
        sa.Column("delivery", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("location", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.Column("held_until", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("hook", "delivery", name="pk_received_webhooks"),
    )
    op.create_index("ix_received_webhooks_expires", "received_webhooks", ["expires"])
