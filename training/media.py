"""Pictures and sounds in a folder a class: `folder/LABEL/any/where.png`, or below `train` and
`test`.

What a file is, its suffix says. What begins with a dot, links to folders, and what is no file (a
FIFO, a socket) are passed over.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from lmaas.broker_config import media_types
from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, ItemError

#: What an item is, for what can be trained on it.
Kind = Literal["text", "image", "audio"]
#: What several of them are called.
UNITS: Final[dict[Kind, str]] = {"text": "texts", "image": "pictures", "audio": "sounds"}

_KINDS: Final[dict[str, Kind]] = {"image": "image", "audio": "audio"}

#: Of the files that can be learnt from.
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".wav", ".flac", ".ogg")
#: Folder's name -> split, for folders that have `train` beside nothing but others of these.
SPLITS: Final = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
#: Files that a message names.
_NAMED: Final = 3


@dataclass(slots=True)
class Examples:
    """Items, and the name of each one's label."""

    items: list[Item] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def kind(self) -> Kind | None:
        """Of all of them; None when nobody can know it of any."""
        return next(filter(None, map(kind_of, self.items)), None)

    @property
    def units(self) -> str:
        """What they are called."""
        return UNITS[self.kind or "text"]


@dataclass(slots=True, kw_only=True)
class Media:
    """What was found, by split; a split that nobody has made is None."""

    name: str
    train: Examples
    validation: Examples | None = None
    test: Examples | None = None
    sha256: str
    notes: list[str] = field(default_factory=list)


def kind_of(item: Item) -> Kind | None:
    """By its content, or by its media type; None of what nobody can know."""
    if item.text is not None:
        return "text"
    kind = (item.media_type or "").partition("/")[0]
    return _KINDS.get(kind)


def has_media(path: Path) -> bool:
    """Whether there is a picture or a sound anywhere below a folder. Raises DataError."""
    return any(map(is_example, _below(path)))


def read_folder(path: Path) -> Media:
    """The files in the order of their names, which are the ids of their items.

    The item of a file that cannot be read has an error. Raises DataError when there are none, when
    some are pictures and some are sounds, or when one is in no folder of a class.
    """
    names = sorted(_below(path), key=PurePosixPath.as_posix)
    used = [name for name in names if is_example(name)]
    if not used:
        suffixes = ", ".join(SUFFIXES)
        raise DataError(f"{path}: no pictures or sounds below it ({suffixes})")
    check_kind(path, of_names(used))
    items = (_item(path, name) for name in used)
    return in_classes(path, path.resolve().name, used, items, len(names) - len(used))


def is_example(name: PurePosixPath) -> bool:
    """Whether a file of this name can be learnt from."""
    return name.suffix.lower() in SUFFIXES


def in_classes(
    path: Path, name: str, names: Sequence[PurePosixPath], items: Iterable[Item], others: int
) -> Media:
    """Files whose names are `CLASS/any/where.png`, or that below `train` and `test`, with their
    items in the same order; `others` were left out.

    Raises DataError when one is in no folder of a class.
    """
    splits = _splits(names)
    digest = hashlib.sha256()
    found: dict[str, Examples] = {}
    for file, item in zip(names, items, strict=True):
        split, inner = (SPLITS[file.parts[0]], file.parts[1:]) if splits else ("train", file.parts)
        if len(inner) < 2:
            raise DataError(f"{path / file}: is in no folder of a class ({path.name}/CLASS/FILE)")
        data = item.data or b""
        digest.update(f"{file}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
        examples = found.setdefault(split, Examples())
        examples.items.append(item)
        examples.labels.append(inner[0])
    return Media(
        name=name,
        train=found["train"],
        validation=found.get("validation"),
        test=found.get("test"),
        sha256=digest.hexdigest(),
        notes=[f"{path}: {others:,} other files are left out"] if others else [],
    )


def held_out(media: Media, pattern: str) -> Media:
    """Tested with the files whose names match, and trained on all others: `*_jackson_*`.

    Whatever splits there were. Raises DataError when none match, or all.
    """
    train, test = Examples(), Examples()
    for split in (media.train, media.validation, media.test):
        for item, label in zip(split.items, split.labels, strict=True) if split else ():
            examples = test if fnmatchcase(item.id, pattern) else train
            examples.items.append(item)
            examples.labels.append(label)
    if not (train and test):
        some = (train or test).items[0].id
        raise DataError(
            f"{media.name}: {'none' if train else 'all'} of the files match {pattern!r}; their "
            f"names are as {some!r}"
        )
    return replace(media, train=train, validation=None, test=test)


def _below(root: Path) -> Iterator[PurePosixPath]:
    """The names of all files, as they are below the folder. Raises DataError."""

    def fails(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}") from error

    for folder, folders, files in os.walk(root, onerror=fails):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield PurePosixPath(file.relative_to(root).as_posix())


def check_kind(where: Path | str, files: Iterable[tuple[object, str | None]]) -> None:
    """Of files with their media types. Raises DataError for pictures among sounds."""
    first: dict[str, object] = {}
    for name, media_type in files:
        first.setdefault((media_type or "").partition("/")[0], name)
    if first.keys() >= _KINDS.keys():
        raise DataError(
            f"{where}: has pictures ({first['image']}) and sounds ({first['audio']}); a model "
            "takes one of them: keep them apart"
        )


def of_names(names: Iterable[PurePosixPath]) -> Iterator[tuple[PurePosixPath, str | None]]:
    """Files with the media types that their names tell."""
    return ((name, media_types.by_name(name.name)) for name in names)


def _splits(names: Sequence[PurePosixPath]) -> bool:
    """Whether the folders at the top are splits, and those below them classes."""
    tops = {name.parts[0] for name in names}
    return "train" in tops and tops <= SPLITS.keys()


def shown_name(name: PurePosixPath) -> str:
    """As UTF-8, whatever bytes it has: the id of an item."""
    return name.as_posix().encode("utf-8", "backslashreplace").decode()


def _item(path: Path, name: PurePosixPath) -> Item:
    """What is in a file, or why that cannot be read."""
    shown = shown_name(name)
    media_type = media_types.by_name(name.name)
    data, wrong = b"", ""
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        wrong = error.strerror or str(error)
    if not wrong and not data:
        wrong = "it is empty"
    if shown != name.as_posix():
        wrong = "its name is not UTF-8"
    if wrong:
        fault = ItemError(code=Code.INVALID_ITEM, message=wrong)
        return Item(id=shown, media_type=media_type, error=fault)
    return Item(id=shown, data=data, media_type=media_type)
