"""A new version of a model: a folder that appears when all of it is there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lmaas.workers.manifest import Manifest
from lmaas.workers.model_version import MANIFEST
from lmaas.workers.repository import Repository

#: Before the name of a folder that is filled; no model or version is called so.
_UNFINISHED: Final = ".new-"


@contextlib.contextmanager
def new_version(name: str, out_root: Path, others: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """A folder to fill, and `out_root/NAME/N`, which it becomes at the end; not after an error.

    N is the next number there and in the `others`, which are folders of models too. A worker that
    looks into the folder sees the version only when it is whole. Who makes another version of the
    model waits meanwhile. Raises OSError.
    """
    models = out_root / name
    models.mkdir(parents=True, exist_ok=True)
    with _alone(models), tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=models) as temporary:
        built = Path(temporary) / "version"
        built.mkdir()
        place = models / Repository(out_root, *others).next_version(name)
        yield built, place
        built.rename(place)


@contextlib.contextmanager
def _alone(models: Path) -> Iterator[None]:
    """Nobody else makes a version there meanwhile. What those left who were killed is deleted."""
    descriptor = os.open(models, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in models.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    written = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(written + b"\n")


def checksums(folder: Path) -> dict[str, str]:
    """sha256 of each file by its name below the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
