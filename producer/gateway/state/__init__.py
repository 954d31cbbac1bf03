"""What the gateway remembers: a database, and a folder for bodies that are too large for rows.

How a module gets a table of its own, say `deliveries`:

1. `state/deliveries.py` describes it on the one METADATA, and has the functions that read and
   write it, each of which takes a connection, so that several can be parts of one transaction::

       deliveries = sa.Table("deliveries", METADATA, sa.Column("id", sa.String(64), ...), ...)

       async def add(connection: AsyncConnection, ...) -> None:
           await connection.execute(sa.insert(deliveries).values(...))

2. `state/migrations/versions/deliveries_0001.py` creates it. Each module is a line of migrations
   by itself, so that they never wait for each other::

       revision = "deliveries_0001"
       down_revision = None              # of the second one: "deliveries_0001"
       branch_labels = ("deliveries",)   # of the first one only
       depends_on = None                 # "jobs_0001", where it has a foreign key to `jobs`

       def upgrade() -> None:
           op.create_table("deliveries", ...)

   A migration that has been released is never changed; the next one changes the table.
   tests/gateway/test_state.py compares what the migrations make with what METADATA says, and
   needs the module in its imports.

3. Handlers use it::

       async with request.app[STATE].writing() as connection:   # or reading()
           await deliveries.add(connection, ...)

Times are Unix seconds in `sa.Double`; what belongs to a caller has a column `owner`, "" when access
is open.
"""

from __future__ import annotations

from lmaas.producer.gateway.state.database import METADATA, State

__all__ = ["METADATA", "State"]
