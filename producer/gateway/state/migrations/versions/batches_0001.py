"""Batches, and their files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "batches_0001"
down_revision = None
branch_labels = ("batches",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_owner_created_id", "files", ["owner", "created", "id"])
    op.create_index("ix_files_expires", "files", ["expires"])
    op.create_table(
        "batches",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file", sa.String(64), nullable=False),
        sa.Column("completion_window", sa.String(16), nullable=False),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("keep_output", sa.Double),
        sa.Column("callback_url", sa.Text),
        sa.Column("callback_secret", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("lines", sa.BigInteger),
        sa.Column("job", sa.String(64)),
        sa.Column("done", sa.BigInteger),
        sa.Column("failed", sa.BigInteger),
        sa.Column("errors", sa.LargeBinary, nullable=False),
        sa.Column("output_file", sa.String(64)),
        sa.Column("error_file", sa.String(64)),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("is_late", sa.Boolean, nullable=False),
        sa.Column("begun", sa.Double),
        sa.Column("finalizing", sa.Double),
        sa.Column("cancelling", sa.Double),
        sa.Column("ended", sa.Double),
        sa.Column("expires", sa.Double),
        sa.Column("has_work", sa.Boolean, nullable=False),
        sa.Column("holder", sa.String(64)),
        sa.Column("held_until", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_index("ix_batches_owner_created_id", "batches", ["owner", "created", "id"])
    op.create_index("ix_batches_has_work_held_until", "batches", ["has_work", "held_until"])
    op.create_index("ix_batches_job", "batches", ["job"])
    op.create_index("ix_batches_input_file", "batches", ["input_file"])
    op.create_index("ix_batches_state_due", "batches", ["state", "due"])
    op.create_index("ix_batches_expires", "batches", ["expires"])
