"""Files that must not be there before, as keys and certificates are."""

from __future__ import annotations

import os
from pathlib import Path

from lmaas.broker_config.errors import DataError


def write_new(path: Path, content: bytes, mode: int) -> None:
    """With that mode from the first moment on. Raises DataError, also when something is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except FileExistsError:
        raise DataError(
            f"{path} is there already, and nothing is overwritten; name another file"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
