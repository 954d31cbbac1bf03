"""How the gateway keeps what belongs to its users: by the settings, in one place."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Final, cast

from lmaas.broker_config.errors import SealError
from lmaas.broker_config.sealing import Label
from lmaas.broker_config.seals import Seal, Seals
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.at_rest.frames import HEAD, Frames, key_of
from lmaas.producer.gateway.at_rest.streams import FRAME, SealedReader, SealedWriter
from lmaas.producer.gateway.at_rest.values import Values

_BUFFER: Final = FRAME


def sync(path: Path) -> None:
    """Returns when the file, which somebody has written and closed, is on disk. Raises OSError."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


class AtRest:
    """Files and values; sealed if there are payload keys, and else as they are."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Raises SettingsError when there are no usable keys in the file that is named."""
        self._seals = Seals.none() if settings is None else Seals(settings)
        self.values = Values(self._seals)

    @property
    def is_sealed(self) -> bool:
        """Whether what is new is sealed."""
        return self._seals.are_used

    def create(self, path: Path, name: str) -> BinaryIO:
        """A new file, to be used in a context. `name`: what it will be called, wherever it is now.

        What is left of it by an exception cannot be read where it is sealed. Raises OSError.
        """
        file = path.open("wb")
        if not self.is_sealed:
            return file
        try:
            return cast("BinaryIO", SealedWriter(file, self.new_frames(name)))
        except BaseException:
            file.close()
            raise

    def open(self, path: Path, name: str) -> BinaryIO:
        """What `create` has written, from anywhere. Raises OSError, and SealError."""
        file = path.open("rb")
        try:
            frames = self.frames(file.peek(HEAD), name)
            if frames is None:
                return file
            return io.BufferedReader(SealedReader(file, frames), _BUFFER)
        except BaseException:
            file.close()
            raise

    def has_sealed(self, path: Path, name: str) -> bool:
        """Whether a file is sealed. Raises OSError, and SealError when it ought to be."""
        with path.open("rb") as file:
            return self.frames(file.read(HEAD), name) is not None

    def new_frames(self, name: str) -> Frames:
        """Those of a file that begins now."""
        return Frames.new(self._seals, name)

    def frames(self, start: bytes, name: str) -> Frames | None:
        """Those of a file that begins so; None: it is not sealed, and may be read as it is.

        Raises SealError.
        """
        try:
            key = key_of(start)
            if key is None and not self._seals.takes_unsealed:
                self._seals.open(b"", Seal(False, None, Label("file", queue=name)))
        except SealError as error:
            raise SealError(f"{name}: {error}", error.code) from None
        return None if key is None else Frames(self._seals, name, key)
