"""Results from before there were payload keys, of a job that goes on: they become sealed ones."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

from lmaas.producer.gateway.at_rest.frames import HEAD
from lmaas.producer.gateway.at_rest.keeping import AtRest
from lmaas.producer.gateway.jobs.result_format import (
    RECORD,
    Form,
    index_path,
    lines_path,
    name_of,
    read,
    records,
)


def seal(folder: Path, job: str, at_rest: AtRest, lines: BinaryIO, index: BinaryIO) -> bool:
    """Whether there are other files now than these two, which the caller has locked.

    It may be killed at any moment: the lines are replaced first, and then, perhaps by the next
    call, the index. Offsets into the lines stay. Raises OSError, and SealError.
    """
    new_lines, new_index = (
        path.with_name(f"{path.name}.new")
        for path in (lines_path(folder, job), index_path(folder, job))
    )
    if at_rest.frames(read(lines, 0, HEAD), name_of(job)) is None:
        if not at_rest.is_sealed:
            return False
        with new_lines.open("wb") as to_lines, new_index.open("wb") as to_index:
            _copy(Form(at_rest.new_frames(name_of(job))), lines, index, to_lines, to_index)
        new_lines.replace(lines_path(folder, job))
    elif not new_index.exists():
        return False
    new_index.replace(index_path(folder, job))
    return True


def _copy(
    form: Form, lines: BinaryIO, index: BinaryIO, to_lines: BinaryIO, to_index: BinaryIO
) -> None:
    """What is whole of it."""
    to_lines.write(form.head)
    start = 0
    for number, record in enumerate(records(index)):
        content = read(lines, start, record.end - start)
        if zlib.crc32(content) != record.checksum:
            break
        stored, sealed = form.stored(content, number, record)
        to_lines.write(stored)
        to_index.write(RECORD.pack(*sealed))
        start = record.end
    for file in (to_lines, to_index):
        file.flush()
        os.fsync(file.fileno())
