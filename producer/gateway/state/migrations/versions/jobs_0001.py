"""Jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "jobs_0001"
down_revision = None
branch_labels = ("jobs",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("entry", sa.LargeBinary, nullable=False),
        sa.Column("on_broker", sa.Boolean, nullable=False),
        sa.Column("callback_url", sa.Text),
        sa.Column("callback_secret", sa.Text),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("submitted", sa.Double),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("expires", sa.Double),
        sa.Column("items", sa.BigInteger),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.LargeBinary, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("holder", sa.String(64)),
        sa.Column("held_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_owner_created_id", "jobs", ["owner", "created", "id"])
    op.create_index("ix_jobs_on_broker_held_until", "jobs", ["on_broker", "held_until"])
    op.create_index("ix_jobs_holder", "jobs", ["holder"])
    op.create_index("ix_jobs_expires", "jobs", ["expires"])
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("location", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("held_until", sa.Double),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_created", "idempotency", ["created"])
    op.create_index("ix_idempotency_holder", "idempotency", ["holder"])
