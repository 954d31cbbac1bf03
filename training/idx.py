"""Pictures in the four files of MNIST and its successors (IDX), Fashion-MNIST among them.

The pictures become PNGs, as a user would send them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError, TrainingError
from lmaas.broker_config.messages import Item
from lmaas.training.media import Examples, Media

#: Split -> how its files' names begin.
_SPLITS: Final = {"train": "train", "test": "t10k"}
_IMAGES: Final = "images-idx3-ubyte"
_LABELS: Final = "labels-idx1-ubyte"
#: An IDX file of bytes begins with this and its number of dimensions.
_BYTES: Final = b"\0\0\x08"

#: sha256 of the training labels of Fashion-MNIST, and what they mean.
_FASHION: Final = "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
_FASHION_LABELS: Final = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def has_idx(path: Path) -> bool:
    """Whether the files of the training are in the folder."""
    return _file(path, "train", _IMAGES) is not None


def read_idx(path: Path) -> Media:
    """The official split. Labels are the numbers in the files; those of Fashion-MNIST have names.

    Raises DataError when a file is missing, cut, or no IDX file, and TrainingError without Pillow.
    """
    if problem := extras.lacking("PIL"):
        raise TrainingError(problem)
    digest = hashlib.sha256()
    numbers = {split: _read(path, split, _LABELS, 1, digest) for split in _SPLITS}
    pictures = {split: _read(path, split, _IMAGES, 3, digest) for split in _SPLITS}
    names = _names(numbers["train"])
    found = {}
    for split in _SPLITS:
        if len(numbers[split]) != len(pictures[split]):
            raise DataError(
                f"{path}: {len(pictures[split]):,} pictures and {len(numbers[split]):,} labels in "
                f"the split {split!r}; download them again"
            )
        items = [
            Item(id=f"{split}/{number:05}.png", data=_png(pixels), media_type="image/png")
            for number, pixels in enumerate(pictures[split])
        ]
        found[split] = Examples(items, [names(number) for number in numbers[split].tolist()])
    return Media(
        name=path.resolve().name,
        train=found["train"],
        test=found["test"],
        sha256=digest.hexdigest(),
    )


def _names(training: npt.NDArray[np.uint8]) -> Any:
    """A function from number to label."""
    header = _BYTES + struct.pack(">BI", 1, len(training))
    if hashlib.sha256(header + training.tobytes()).hexdigest() == _FASHION:
        return _FASHION_LABELS.__getitem__
    return str


def _file(path: Path, split: str, what: str) -> Path | None:
    names = (f"{_SPLITS[split]}-{what}{suffix}" for suffix in (".gz", ""))
    return next((path / name for name in names if (path / name).is_file()), None)


def _read(path: Path, split: str, what: str, rank: int, digest: Any) -> npt.NDArray[np.uint8]:
    file = _file(path, split, what)
    if file is None:
        raise DataError(
            f"{path / f'{_SPLITS[split]}-{what}.gz'}: is not there; all four are needed"
        )
    try:
        content = file.read_bytes()
        data = gzip.decompress(content) if file.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: not a whole file ({error}); download it again") from error
    digest.update(data)
    start = 4 + 4 * rank
    if data[:4] != _BYTES + bytes([rank]) or len(data) < start:
        raise DataError(f"{file}: no IDX file of bytes in {rank} dimensions")
    shape = struct.unpack_from(f">{rank}I", data, 4)
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{file}: has {len(data) - start:,} bytes where {math.prod(shape):,} are said to be; "
            "download it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    # The least that compression can do: it is read again at once.
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
