"""The table of requests that a caller has named by an `Idempotency-Key`."""

from __future__ import annotations

import sqlalchemy as sa

from lmaas.producer.gateway.state.database import METADATA

requests = sa.Table(
    "idempotency",
    METADATA,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    # SHA-256 of what was asked.
    sa.Column("request", sa.LargeBinary, nullable=False),
    # The answer; without a status it is not there yet.
    sa.Column("status", sa.Integer),
    sa.Column("location", sa.Text),
    sa.Column("body", sa.LargeBinary),
    sa.Column("created", sa.Double, nullable=False),
    # Who works on it, and until when others believe that.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, requests.c.created)
