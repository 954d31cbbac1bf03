"""Migrations: alembic's, run by the gateway when it starts. See the docstring of `state`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_FOLDER: Final = Path(__file__).parent


def upgrade(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Every table as this release wants it, inside of the connection's transaction."""
    # alembic tells each step; a start that changes nothing has nothing to tell.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(_config(connection, metadata), "heads")


def _config(connection: sa.Connection, metadata: sa.MetaData) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes.update(connection=connection, metadata=metadata)
    return config
