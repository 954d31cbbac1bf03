"""The first delivery of each host that waits is found without reading the others."""

from __future__ import annotations

from alembic import op

revision = "deliveries_0002"
down_revision = "deliveries_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_deliveries_state_due", "deliveries")
    op.drop_index("ix_deliveries_host_state_due", "deliveries")
    op.create_index("ix_deliveries_state_host_due", "deliveries", ["state", "host", "due"])
