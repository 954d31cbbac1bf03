"""The table of jobs: what callers see of them, and which gateway collects which."""

from __future__ import annotations

import sqlalchemy as sa

from lmaas.producer.gateway.state.database import METADATA

jobs = sa.Table(
    "jobs",
    METADATA,
    # The id that the broker's list of jobs has, too.
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    # The broker's entry of it (JobEntry) as JSON.
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("callback_url", sa.Text),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("submitted", sa.Double),
    # When the counts were written last.
    sa.Column("updated", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    # When its row and results are deleted.
    sa.Column("expires", sa.Double),
    sa.Column("items", sa.BigInteger),
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    # The first failures as a JSON array.
    sa.Column("errors", sa.LargeBinary, nullable=False),
    # Why it has failed.
    sa.Column("reason", sa.Text),
    # The gateway that submits or collects it, and until when the others leave it alone.
    sa.Column("holder", sa.String(64)),
    sa.Column("held_until", sa.Double),
)
sa.Index(None, jobs.c.owner, jobs.c.created, jobs.c.id)
sa.Index(None, jobs.c.state, jobs.c.held_until)
sa.Index(None, jobs.c.expires)
