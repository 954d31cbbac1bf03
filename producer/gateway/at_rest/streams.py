"""Sealed files that are written once, from their begin to their end, and read anywhere.

Every frame has FRAME bytes, but for the last one, which has fewer or as many. So the place of a
byte is known, and a file that was cut, or that nobody has written to its end, is recognized.
"""

from __future__ import annotations

import io
import os
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import SealError
from lmaas.producer.gateway.at_rest.frames import LAST, OVERHEAD, Frames

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: Bytes of a frame before it is sealed.
FRAME: Final = 256 * 1024


class SealedWriter(io.RawIOBase):
    """A new file. One that is left by an exception has no last frame, and cannot be read."""

    def __init__(self, file: BinaryIO, frames: Frames) -> None:
        """Closes the file when it is closed itself. Raises OSError."""
        self._file = file
        self._frames = frames
        self._waiting = bytearray()
        self._number = 0
        file.write(frames.head)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        """All of it. Raises OSError and SealError."""
        given = memoryview(data).cast("B")
        self._waiting += given
        begin = 0
        while len(self._waiting) - begin > FRAME:  # what is the last one is not known before
            self._put(bytes(memoryview(self._waiting)[begin : begin + FRAME]))
            begin += FRAME
        if begin:
            del self._waiting[:begin]
        return len(given)

    def _put(self, content: bytes, note: str = "") -> None:
        self._file.write(self._frames.seal(content, self._number, note))
        self._number += 1

    def tell(self) -> int:
        """Bytes that were written, without what sealing adds."""
        return self._number * FRAME + len(self._waiting)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._put(bytes(self._waiting), LAST)
        finally:
            self._drop()

    def _drop(self) -> None:
        self._file.close()
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not self.closed:
            self._drop()


class SealedReader(io.RawIOBase):
    """What is in a sealed file. Its methods raise OSError and SealError."""

    def __init__(self, file: BinaryIO, frames: Frames) -> None:
        """Closes the file when it is closed itself."""
        self._file = file
        self._frames = frames
        self._begin = len(frames.head)
        sealed = file.seek(0, os.SEEK_END) - self._begin
        self._last = max(0, -(-sealed // (FRAME + OVERHEAD)) - 1)
        #: Bytes, without what sealing adds.
        self.size = sealed - (self._last + 1) * OVERHEAD
        self._offset = 0
        self._opened: tuple[int, bytes] = (-1, b"")
        if self.size < 0:
            raise SealError(f"{frames.name}: its end is missing", Code.SEAL_BROKEN)
        self._frame(self._last)  # it says that the file is whole

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative place {base + offset}")
        self._offset = base + offset
        return self._offset

    def readinto(self, buffer: WriteableBuffer) -> int:
        wanted = memoryview(buffer).cast("B")
        number, start = divmod(self._offset, FRAME)
        if not wanted or self._offset >= self.size:
            return 0
        piece = memoryview(self._frame(number))[start : start + len(wanted)]
        wanted[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

    def _frame(self, number: int) -> bytes:
        if self._opened[0] != number:
            self._file.seek(self._begin + number * (FRAME + OVERHEAD))
            frame = self._file.read(FRAME + OVERHEAD)
            note = LAST if number == self._last else ""
            self._opened = (number, self._frames.open(frame, number, note))
        return self._opened[1]

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
