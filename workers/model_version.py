"""One version of a model: a folder with `manifest.json` and the files that this lists, verified.

The manifest has the sha256 of each file; `model.onnx` is always one of them, and so are the files
that it refers to (ONNX's external data). Each file is read once: what runs is made of the same
bytes that were compared, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from lmaas.broker_config.errors import ModelDamaged
from lmaas.workers.manifest import MODEL, Manifest, decoded
from lmaas.workers.plain_files import read_plain

if TYPE_CHECKING:
    from lmaas.workers.signing import Statement

MANIFEST: Final = "manifest.json"
#: Bytes of it, at most.
MANIFEST_BYTES: Final = 64 * 1024 * 1024
#: Bytes of a version's files together, where no setting says otherwise.
MOST: Final = 8 * 1024 * 1024 * 1024
#: In an ONNX file, before the name of a file with weights: the entry `location` of a tensor's
#: external_data (field 1 is the key, field 2 the value, each after its length).
_LOCATION: Final = re.compile(rb"\n\x08location\x12")
#: Trouble of the machine.
_PASSING: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN)


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version: its manifest, and the bytes of its files, which are as the manifest says.

    They take memory for as long as somebody has the version; what is made of it keeps none of them.
    """

    path: Path
    manifest: Manifest
    #: By the name in the manifest.
    contents: Mapping[str, bytes] = field(repr=False)
    #: Who signed it; of the version that was activated, who did that, if that was later. None where
    #: nobody asks for signatures.
    signed: Statement | None = None

    def file(self, name: str) -> Path:
        """Where it was read; for words, and not to be read again."""
        return self.path / name

    def content(self, name: str) -> bytes:
        """Of a file that the manifest lists with its sha256. Raises ModelDamaged for another."""
        if name not in self.contents:
            raise ModelDamaged(f"{self.file(MANIFEST)}: does not list {name}; export it again")
        return self.contents[name]


def read_manifest(path: Path) -> Manifest:
    """Of the version in a folder; its files are not looked at. Raises ModelDamaged."""
    return manifest_of(path, manifest_bytes(path))


def manifest_bytes(path: Path) -> bytes:
    """Of the version in a folder. Raises ModelDamaged."""
    file = path / MANIFEST
    try:
        return read_plain(path, MANIFEST, MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise ModelDamaged(f"{file} is missing; copy the version again, or remove it") from error
    except OSError as error:
        raise _damaged(error, file) from error


def manifest_of(path: Path, content: bytes) -> Manifest:
    """Of the version in a folder, from these bytes of its file. Raises ModelDamaged."""
    try:
        return decoded(content)
    except ValueError as error:
        raise ModelDamaged(f"{path / MANIFEST}: {error}") from error


def read_version(
    path: Path, most: int = MOST, check: Callable[[bytes], Statement] | None = None
) -> ModelVersion:
    """The version in a folder, all of it, each file compared with its sha256.

    `check` says who signed the manifest's bytes, or raises ModelDamaged. Raises that too, naming
    the file: also when the files have more than `most` bytes together, or the model uses one that
    is not listed.
    """
    content = manifest_bytes(path)
    try:
        signed = check(content) if check else None
    except OSError as error:
        raise _damaged(error, path) from error
    manifest = manifest_of(path, content)
    return ModelVersion(path, manifest, read_files(path, manifest, most), signed)


def read_files(path: Path, manifest: Manifest, most: int = MOST) -> dict[str, bytes]:
    """What the manifest lists of a folder, as `read_version` does."""
    contents: dict[str, bytes] = {}
    left = most
    for name, expected in manifest.files.items():
        try:
            content = read_plain(path, name, left)
        except OSError as error:
            raise _damaged(error, path / name) from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise ModelDamaged(
                f"{path / name}: sha256 is {actual[:12]}…, the manifest says {expected[:12]}…; "
                "copy or export the version again"
            )
        contents[name] = content
        left -= len(content)
    for name in _external(path, contents[MODEL]):
        if PurePath(name).as_posix() not in contents:
            raise ModelDamaged(
                f"{path / MODEL}: its weights are in {name!r}, which the manifest does not list "
                "with its sha256; export it as one file, or list that one too"
            )
    return contents


def is_passing(error: OSError) -> bool:
    """Whether it says nothing about a version: the machine is in trouble."""
    return error.errno in _PASSING


def _damaged(error: OSError, path: Path) -> Exception:
    """What an error over a file means: that the version is damaged, or the machine in trouble."""
    if is_passing(error):
        return error
    if isinstance(error, FileNotFoundError):
        return ModelDamaged(f"{path} is missing; copy the version again")
    return ModelDamaged(f"{path}: {error.strerror}; copy the version again")


def _external(folder: Path, model: bytes) -> Iterator[str]:
    """Names of the files that an ONNX file has its weights in, found without a parser.

    Some other text of the file's metadata may be called `location`; no file has its name. What is
    not found here ONNX Runtime does not find either (`lmaas.workers.ort`), in other words.
    """
    for entry in _LOCATION.finditer(model):
        length, start = _varint(model, entry.end())
        name = model[start : start + length].decode("utf-8", "replace")
        if "\0" not in name and _is_there(folder / name):
            yield name


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A protobuf number and the place behind it."""
    number = shift = 0
    while place < len(content):
        byte = content[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            break
    return number, place


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is none
        return False
