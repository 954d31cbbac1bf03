"""pyarrow, which not everybody has."""

from __future__ import annotations

from typing import Any

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError


def arrow(purpose: str) -> Any:
    """The module, for this purpose; raises DataError without it."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{purpose} needs pyarrow: {extras.command('files')}") from error
    return pyarrow
