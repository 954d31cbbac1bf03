"""Pictures as pixels: the kind "image"."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image

from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, ItemError
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Input
from lmaas.workers.model_version import MANIFEST, ModelVersion
from lmaas.workers.preprocess.one_file import fault
from lmaas.workers.preprocess.pixels import PictureError, Pixels, Shape

#: Side of the examples, in pixels.
_EXAMPLE: Final = 16

_Positive = Annotated[float, msgspec.Meta(gt=0)]


class Images(Shape, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """What the manifest says of it: a graph gets (pixel * scale - mean) / std."""

    #: Order of the dimensions: rows, channels, height, width. "nhw" is for grey ones.
    layout: Literal["nchw", "nhwc", "nhw"] = "nchw"
    scale: float = 1 / 255
    #: For all channels, or one for each in the order of `channels`.
    mean: Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=3)] = (0.0,)
    std: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1, max_length=3)] = (1.0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.depth):
                raise ValueError(f"{name} has {len(values)} numbers for {self.depth} channels")
        if self.layout == "nhw" and self.depth > 1:
            raise ValueError("the layout 'nhw' has no place for colours")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row of the graph's input."""
        shapes = {
            "nchw": (self.depth, *self.size),
            "nhwc": (*self.size, self.depth),
            "nhw": self.size,
        }
        return shapes[self.layout]

    @property
    def is_plain(self) -> bool:
        """Whether the graph gets the pixels as they are."""
        return self.scale == 1 and {*self.mean} == {0.0} and {*self.std} == {1.0}


class ImagePreprocessor:
    """Fills the graph's one input."""

    #: Of the bytes that it takes; those that it cannot decode are an error of their item.
    media_types: Final = ("image/*",)

    def __init__(self, version: ModelVersion, how: dict[str, Any]) -> None:
        """Raises ModelDamaged."""
        self._how = msgspec.convert(how, Images)
        if problem := _problem(self._how, version.manifest.inputs):
            raise ModelDamaged(f"{version.file(MANIFEST)}: {problem}")
        (self._input,) = version.manifest.inputs
        # All are alike: in pixels, the manifest's batching bounds the memory of a batch.
        height, width = self._how.size
        self._length = height * width if version.manifest.batching.unit == "pixels" else 1
        self.examples = [_example(0), _example(1)]

    def check(self, item: Item) -> ItemError | None:
        return fault(item, "pictures (data, as image/png)")

    def encode(self, items: Sequence[Item]) -> EncodedImages:
        pictures = [item.data or b"" for item in items]
        return EncodedImages(pictures, self._how, self._input, self._length)


class EncodedImages:
    """Encoded pictures, which are decoded when it is their batch's turn: pixels take memory, and
    between two batches a worker can turn to other work."""

    def __init__(self, pictures: list[bytes], how: Images, given: Input, length: int) -> None:
        self.lengths = [length] * len(pictures)
        self.faults: dict[int, ItemError] = {}
        self._pictures = pictures
        self._how = how
        self._name = given.name
        self._dtype = np.dtype(given.dtype)

    def arrays(self, batch: Batch) -> dict[str, npt.NDArray[Any]]:
        how = self._how
        # A row of an item with a fault is black, as are rows that only fill up.
        pixels = np.zeros((batch.rows, *how.size, how.depth), np.uint8)
        for row, position in enumerate(batch.positions):
            try:
                pixels[row] = how.pixels(self._pictures[position])
            except PictureError as error:
                self.faults[position] = error.error
        return {self._name: values(pixels, how, self._dtype)}


def values(pixels: Pixels, how: Images, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """What the graph gets of pixels [rows, height, width, channels]."""
    ordered = pixels.transpose(0, 3, 1, 2) if how.layout == "nchw" else pixels
    if not how.is_plain:
        std = np.array(how.std, np.float32)
        factor, offset = np.float32(how.scale) / std, np.array(how.mean, np.float32) / std
        if how.layout == "nchw":
            factor, offset = factor[:, None, None], offset[:, None, None]
        ordered = ordered * factor - offset
    found: npt.NDArray[Any] = np.ascontiguousarray(ordered, dtype)
    return found.reshape(len(pixels), *how.shape)


def _problem(how: Images, inputs: Sequence[Input]) -> str | None:
    """What is wrong with the graph's inputs for these pictures."""
    if len(inputs) != 1:
        return f"preprocessing 'image' fills one input; this one takes {len(inputs)}"
    (given,) = inputs
    fixed = given.shape[1:]
    if len(fixed) != len(how.shape) or any(
        told not in (None, made) for told, made in zip(fixed, how.shape, strict=True)
    ):
        return (
            f"its preprocessing makes rows of {list(how.shape)} ({how.layout}), and its input "
            f"{given.name!r} takes {fixed}"
        )
    try:
        dtype = np.dtype(given.dtype)
    except TypeError as error:
        return f"input {given.name!r}: {error}"
    if dtype.kind in "biu" and not how.is_plain:
        return (
            f"its input {given.name!r} of {given.dtype!r} takes pixels as they are only (scale 1)"
        )
    return None


def _example(number: int) -> Item:
    """A square of grey that becomes lighter to one side."""
    ramp = np.linspace(0, 255, _EXAMPLE, dtype=np.uint8)
    pixels = np.broadcast_to(ramp, (_EXAMPLE, _EXAMPLE))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels, number))).save(file, "PNG")
    return Item(id=str(number + 1), data=file.getvalue(), media_type="image/png")
