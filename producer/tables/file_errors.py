"""What the operating system and damaged files say, as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lmaas.broker_config.errors import DataError

#: What a damaged compressed file raises; Arrow's own error is a ValueError.
DAMAGED: Final = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


def unusable(path: Path | str, error: OSError) -> DataError:
    """One line for what the operating system refused."""
    advice = {
        errno.ENOENT: "; check the path",
        errno.EISDIR: "; name a file in it",
        errno.EACCES: "; change its permissions or choose another place",
    }.get(error.errno or 0, "")
    return DataError(f"{path}: {reason(error)}{advice}")


def reason(error: OSError) -> str:
    """The operating system's words, without what others put around them."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


@contextlib.contextmanager
def damaged(name: str, line: int) -> Iterator[None]:
    """Raises DataError for what reading a damaged file raises."""
    try:
        yield
    except DAMAGED as error:
        raise unreadable(name, error, f"line {line:,}") from error


def unreadable(name: str, error: Exception, after: str = "line 0") -> DataError:
    """One line for what is damaged after that."""
    if isinstance(error, OSError) and error.errno is not None:
        return unusable(name, error)
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{name}: damaged or cut off after {after} ({reason}); fetch or compress it again"
    )
