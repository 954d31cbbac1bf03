"""Standard input, output and error, however the caller left them: closed, full, or not UTF-8.

What cannot be shown is replaced, output that cannot be written is an error with a name, and words
that nobody can hear end no command.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any, Final, TextIO

#: How standard output is called in errors.
OUTPUT: Final = "standard output"
_INPUT_NUMBER: Final = 0
_OUTPUT_NUMBER: Final = 1
_ERROR_NUMBER: Final = 2


class _Output(io.FileIO):
    """Standard output; what the system refuses has its name."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, OUTPUT) from None


class _Messages(io.FileIO):
    """Standard error; what the system refuses is dropped."""

    def write(self, data: Any, /) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


def prepare() -> None:
    """Make all three usable; before anything else is opened.

    A descriptor that is closed would be the next file's, and get what is printed. What is opened in
    its place refuses to be read, and written, as a closed one does, except for standard error.
    """
    if _replaced(_INPUT_NUMBER, os.O_WRONLY):
        sys.stdin = open(_INPUT_NUMBER, closefd=False)  # noqa: SIM115
    _replaced(_OUTPUT_NUMBER, os.O_RDONLY)
    _replaced(_ERROR_NUMBER, os.O_WRONLY)
    sys.stdout = _text(_Output(_OUTPUT_NUMBER, "wb", closefd=False), sys.stdout, "replace")
    sys.stderr = _text(_Messages(_ERROR_NUMBER, "wb", closefd=False), sys.stderr)


def discard() -> None:
    """Drop what standard output did not take; Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), _OUTPUT_NUMBER)


def _replaced(number: int, mode: int) -> bool:
    """Whether the caller has closed this descriptor: then the null device is opened there."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, mode)
        assert null == number, "the lowest one that is free"
        os.set_inheritable(number, True)
        return True
    return False


def _text(raw: io.FileIO, before: TextIO | None, errors: str = "backslashreplace") -> TextIO:
    """The same encoding as before; what was not buffered is buffered by the line."""
    lines = before is None or bool(before.line_buffering) or getattr(before, "write_through", False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", "utf-8"),
        errors=errors,
        newline="\n",
        line_buffering=lines,
    )
