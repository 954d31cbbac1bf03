"""The files of a form, on their way to a job: one is a table or an archive; of several, and of one
that is neither, each is an item, and they become a tar on disk."""

from __future__ import annotations

import asyncio
import os
import tarfile
from pathlib import Path
from typing import BinaryIO

from aiohttp import BodyPartReader

from lmaas.producer.gateway.forms import Spool, media_type_of, name_of


class FormFiles:
    """What has come of them, at one path. Leaves nothing beside it when it is closed."""

    def __init__(self, path: Path, spool: Spool) -> None:
        """`spool` writes to `path`."""
        self._path = path
        self._spool = spool
        self._tar_path = path.with_name(f"{path.name}.tar")
        self._tar: tarfile.TarFile | None = None
        self._tar_file: BinaryIO | None = None
        self._count = 0
        #: The first one.
        self.first: BodyPartReader | None = None

    async def add(self, part: BodyPartReader) -> None:
        """Raises HttpError: 400 or 413."""
        if self.first is not None:
            await self.become_items()
        await self._spool.write_all(part)
        if self.first is None:
            self.first = part
        else:
            await asyncio.to_thread(self._append, part)

    async def become_items(self) -> None:
        """The first one is an item, and so is each that follows; also when this is called again."""
        assert self.first is not None
        if self._tar is None:
            await asyncio.to_thread(self._append, self.first)

    def _append(self, part: BodyPartReader) -> None:
        if self._tar is None:
            self._tar_file = self._spool.collected(self._tar_path)
            self._tar = tarfile.open(  # noqa: SIM115
                fileobj=self._tar_file, mode="w", format=tarfile.GNU_FORMAT
            )
        name = name_of(part.filename) or str(self._count)
        self._count += 1
        self._spool.digest.update(f"\0{name}\0{media_type_of(part)}\0".encode())
        info = tarfile.TarInfo(name)
        with self._spool.open() as file:
            info.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            self._tar.addfile(info, file)

    async def end(self) -> bool:
        """Whether there is a tar of items now at the path."""
        if self._tar is None:
            return False
        await asyncio.to_thread(self._end, self._tar)
        self._tar_path.replace(self._path)
        return True

    def _end(self, tar: tarfile.TarFile) -> None:
        tar.close()
        if self._tar_file is not None:
            self._tar_file.close()

    def close(self) -> None:
        if self._tar is not None:
            try:
                self._end(self._tar)
            finally:
                self._tar_path.unlink(missing_ok=True)
