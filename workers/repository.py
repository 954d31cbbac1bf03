"""The model repository: `FOLDER/NAME/VERSION/` in one or several folders; which version answers.

The name of a version's folder is a positive whole number; what is in it is for
`lmaas.workers.model_version` to read and to verify.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, ModelDamaged, ModelNotFound, SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import is_model_name
from lmaas.workers.manifest import Manifest
from lmaas.workers.model_version import (
    MOST,
    ModelVersion,
    is_passing,
    manifest_bytes,
    manifest_of,
    read_version,
)
from lmaas.workers.plain_files import read_plain, write_whole

if TYPE_CHECKING:
    from lmaas.workers.signing import Statement
    from lmaas.workers.trust import Trust

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Beside the versions of a model: the number of the one that answers, where that is not the newest,
#: and in a second line who says so, where that was signed.
ACTIVE: Final = "active"
#: Bytes of it, at most.
ACTIVE_BYTES: Final = 1024
_VERSION: Final = re.compile("[1-9][0-9]{0,8}")
#: Characters of a strange file's content in a warning.
_SHOWN: Final = 40
#: Name, size in bytes and time of the last change of each file.
Fingerprint = tuple[tuple[str, int, int], ...]


class Repository:
    """Read access to folders of models; the versions of a model are those of all folders.

    Of equal versions the one in the first folder counts. One that cannot be used is left out, and
    told once. Nothing is cached: a version that is copied in while a worker runs is found at the
    next look. The newest answers, or the one that was activated.
    """

    def __init__(self, *folders: Path | str, most: int = MOST, trust: Trust | None = None) -> None:
        """A version whose files have more than `most` bytes together is left out; with `trust`, so
        is one that was not signed by one of its keys."""
        self.folders = tuple(map(Path, folders))
        self.most = most
        self.trust = trust
        #: What was said of versions that were left out.
        self.told: list[str] = []

    def __str__(self) -> str:
        return ", ".join(map(str, self.folders)) or "no folder"

    def models(self) -> list[str]:
        """Names of the models that have at least one version, sorted."""
        names = {path.name for root in self.folders for path in self._inside(root)}
        return sorted(name for name in names if self.versions(name))

    def versions(self, model: str) -> list[str]:
        """Versions of a model, oldest first; empty when there is no such model."""
        return list(dict.fromkeys(path.name for path in reversed(self.paths(model))))

    def paths(self, model: str) -> list[Path]:
        """The folders of its versions, newest first; equal versions as the folders are."""
        # The name may come from the network: it never leads out of a folder.
        folders = self.folders if is_model_name(model) else ()
        found = [
            path
            for root in folders
            for path in self._inside(root / model)
            if _VERSION.fullmatch(path.name) and not _is_file(path)
        ]
        return sorted(found, key=lambda path: -int(path.name))

    def active(self, model: str) -> str | None:
        """The version that somebody has activated, if it is there; of the first folder with one.

        Where signatures count, one whose activation was not signed is none.
        """
        return self._activation(model)[0]

    def _activation(self, model: str) -> tuple[str | None, Statement | None]:
        """The version that was activated, and who signed that, where signatures count."""
        for root in self.folders if is_model_name(model) else ():
            file = root / model / ACTIVE
            try:
                content = read_plain(root / model, ACTIVE, ACTIVE_BYTES).decode()
                first, _, statement = content.partition("\n")
                version = first.strip()
                if version in self.versions(model):
                    return version, self._activated(file, model, version, statement)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except ModelDamaged as error:
                self.tell(f"{error}; the newest version of {model} answers")
                return None, None
            except (OSError, UnicodeDecodeError) as error:
                if isinstance(error, OSError) and is_passing(error):
                    raise
                self.tell(f"{file}: {error}; the newest version of {model} answers")
                return None, None
            known = ", ".join(self.versions(model)) or "none"
            self.tell(
                f"{file} names version {version[:_SHOWN]!r}, which is not there (versions: "
                f"{known}); the newest answers. See `lmaas models activate {model}`"
            )
            return None, None
        return None, None

    def _activated(self, file: Path, model: str, version: str, line: str) -> Statement | None:
        """Who signed that it answers. Raises ModelDamaged when that counts and was not signed."""
        if self.trust is None:
            return None
        if not line.strip():
            raise ModelDamaged(
                f"{file}: that version {version} answers is not signed, and only what is signed "
                f"counts (setting model_keys); `lmaas models activate {model} {version} --sign "
                "FILE` signs it"
            )
        path = next(path for path in self.paths(model) if path.name == version)
        manifest = manifest_bytes(path)
        return self.trust.check(line.encode(), file, "active", model, version, manifest)

    def in_turn(self, model: str) -> list[Path]:
        """The folders of its versions: the first that can be used answers when none is named."""
        active = self.active(model)
        return sorted(self.paths(model), key=lambda path: path.name != active)

    def manifests(self, models: Iterable[str] = (), version: str | None = None) -> list[Manifest]:
        """Of the version that would answer of each of the models, or of all; or of this version.

        No other file is read, so that whoever loads them may find out that one cannot be used.
        What is not there, cannot be read, or was not signed where that counts, is left out.
        """
        found = []
        for model in tuple(models) or self.models():
            for path in self.in_turn(model):
                if version not in (None, path.name):
                    continue
                with contextlib.suppress(ModelDamaged, OSError):
                    content = manifest_bytes(path)
                    if self.trust:
                        self.trust.version(path, model, path.name, content)
                    found.append(manifest_of(path, content))
                    break
        return found

    def fingerprint(self, model: str) -> Fingerprint:
        """What there is of a model, unread: another one where anything has changed."""
        paths = [root / model / ACTIVE for root in self.folders]
        for version in self.paths(model):
            paths += [Path(root, name) for root, _, names in os.walk(version) for name in names]
        found = []
        for path in paths:
            with contextlib.suppress(OSError):
                status = path.lstat()
                found.append((str(path), status.st_size, status.st_mtime_ns))
        return tuple(sorted(found))

    def read(self, path: Path, model: str) -> ModelVersion:
        """The version in a folder, verified: its files and, where that counts, who signed it.

        Raises ModelDamaged.
        """
        trust = self.trust
        check = functools.partial(trust.version, path, model, path.name) if trust else None
        return _placed(read_version(path, self.most, check), model)

    def next_version(self, model: str) -> str:
        """The number after all that are taken, by whatever lies there."""
        names = (path.name for root in self.folders for path in self._inside(root / model))
        return str(max((int(name) for name in names if name.isdecimal()), default=0) + 1)

    def find(self, model: str, version: str | None = None) -> ModelVersion:
        """The asked version, or the one that answers when none is, with every file verified.

        Raises ModelNotFound or ModelDamaged.
        """
        return self.load(model, version, lambda found: found)

    def load(self, model: str, version: str | None, use: Callable[[ModelVersion], T]) -> T:
        """What `use` makes of the asked version, or of the active one, or of the newest; of the
        next one, with a warning, when that is damaged or `use` raises ModelDamaged.

        Raises ModelNotFound, or ModelDamaged when there is none that can be used.
        """
        problems: list[str] = []
        activated, activation = self._activation(model) if version is None else (None, None)
        for path in self._asked(model, version):
            try:
                found = self.read(path, model)
                if path.name == activated:
                    found = _signed_again(found, activation)
                made = use(found)
            except ModelDamaged as error:
                problems.append(f"model {model!r} version {path.name}: {error}")
            else:
                for problem in problems:
                    self.tell(f"left out, {path.name} is used instead: {problem}")
                return made
        raise ModelDamaged("; ".join(problems))

    def tell(self, words: str) -> None:
        """Warn, if it was not said before."""
        if words not in self.told:
            self.told.append(words)
            log.warning("%s", words, extra={"action": "model_left_out"})

    def _inside(self, folder: Path) -> list[Path]:
        """What is in a folder, in order; nothing, when there is none or it cannot be read."""
        try:
            return sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.tell(f"{folder}: {error.strerror}; no model is looked for there")
            return []

    def _asked(self, model: str, version: str | None) -> list[Path]:
        """Never empty. Raises ModelNotFound."""
        paths = self.paths(model)
        if not paths:
            known = ", ".join(self.models()) or "none"
            raise ModelNotFound(f"no model {model!r} in {self} (models there: {known})")
        if version is None:
            return self.in_turn(model)
        asked = [path for path in paths if path.name == version]
        if not asked:
            raise ModelNotFound(
                f"model {model!r} has no version {version!r} in {self} "
                f"(versions there: {', '.join(self.versions(model))})"
            )
        return asked


def opened(settings: Settings) -> Repository:
    """The repository of the settings, which says when a folder that was named is none.

    Raises SettingsError when `model_keys` are named that cannot be used.
    """
    repository = Repository(
        *settings.model_folders, most=settings.max_model_bytes, trust=trusted(settings)
    )
    for folder in settings.named_models:
        if not folder.is_dir():
            repository.tell(f"{folder} is no folder; no model is looked for there")
    return repository


def trusted(settings: Settings) -> Trust | None:
    """The keys of `model_keys`; None where it is not set. Raises SettingsError."""
    if not settings.model_keys:
        return None
    if problem := extras.lacking("cryptography"):
        raise SettingsError(f"model_keys: {problem}")
    from lmaas.workers.trust import Trust

    return Trust.read(Path(settings.model_keys))


def activate(
    folder: Path, model: str, version: str | None, statement: Statement | None = None
) -> None:
    """Let a version answer what names none; with None it is the newest again.

    `statement` is who signs that. A worker that runs sees the old file or the new one, and nothing
    between. Raises DataError.
    """
    file = folder / model / ACTIVE
    try:
        if version is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        line = statement.encoded() + b"\n" if statement else b""
        write_whole(file, f"{version}\n".encode() + line)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}; name another folder with --models") from error


def silence() -> None:
    """For a process beside another one that says the same."""
    log.setLevel(logging.ERROR)


def _placed(version: ModelVersion, model: str) -> ModelVersion:
    """Called as its folders are: somebody may have copied it to another name or number."""
    manifest = msgspec.structs.replace(version.manifest, name=model, version=version.path.name)
    return replace(version, manifest=manifest)


def _signed_again(version: ModelVersion, activation: Statement | None) -> ModelVersion:
    """Of two moments the later one counts: of its signature, and of that it answers."""
    signed = version.signed
    if not (activation and signed and activation.manifest == signed.manifest):
        return version
    return replace(version, signed=max(activation, signed, key=lambda one: one.time))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # told when it is read
        return False
