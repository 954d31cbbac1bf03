"""The bytes of a picture as pixels: decoded, upright, of one size. For training and for serving.

PNG, JPEG, WebP, GIF and BMP are read, of the animated ones the first frame. The orientation that a
camera has noted (EXIF) is applied, what is transparent is laid on white, and 16 bits become 8.
Whatever is wrong with the bytes is a PictureError: no item can fail its neighbours.
"""

from __future__ import annotations

import io
import re
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from lmaas.broker_config.codes import Code
from lmaas.broker_config.messages import ItemError

Pixels = npt.NDArray[np.uint8]
Size = tuple[
    Annotated[int, msgspec.Meta(ge=1, le=8192)], Annotated[int, msgspec.Meta(ge=1, le=8192)]
]

#: As Pillow calls them; its other decoders are never asked.
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_READ: Final = "PNG, JPEG, WebP, GIF and BMP are read"
#: Pillow itself refuses more than so many pixels.
MOST_PIXELS: Final = 178_956_970

#: EXIF's tag of the orientation, and what makes each of its values upright.
_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
#: Those that Pillow has without antialiasing, too.
_PLAIN: Final = frozenset({"nearest", "bilinear", "bicubic"})
#: Bytes of what is no picture that a message shows.
_SHOWN: Final = 8


class PictureError(Exception):
    """What an item has is no picture that can be read."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.error = ItemError(code=code, message=message)


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pictures of any size become pixels of one size."""

    #: Height and width of what comes out: the middle of what was resized, with `fill` around it
    #: where that is smaller.
    size: Size
    #: "stretch": to the size `to`. "cover": keeps the proportions; the smallest size that covers
    #: `to`, so that of a square `to` the shorter edge becomes that long. "fit": keeps the
    #: proportions; the largest size within `to`. "none": as it is.
    resize: Literal["stretch", "cover", "fit", "none"] = "stretch"
    #: Height and width; None: those of `size`.
    to: Size | None = None
    filter: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"
    #: Whether all pixels count when a picture becomes smaller, as in Pillow; else only those next
    #: to each point ("nearest", "bilinear" and "bicubic").
    antialias: bool = True
    fill: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    channels: Literal["rgb", "bgr", "grey"] = "rgb"
    #: JPEGs are decoded at a half, a quarter or an eighth of their size where that is enough: much
    #: faster, and not quite the same pixels.
    draft: bool = False
    #: Pictures with more are refused before they are decoded.
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=MOST_PIXELS)] = 2**26

    def __post_init__(self) -> None:
        if not self.antialias and self.filter not in _PLAIN:
            raise ValueError(f"the filter {self.filter!r} is there with antialiasing only")

    @property
    def depth(self) -> int:
        """Numbers a pixel."""
        return 1 if self.channels == "grey" else 3

    def pixels(self, data: bytes) -> Pixels:
        """[height, width, channels] of an encoded picture. Raises PictureError."""
        try:
            with opened(data, self.max_pixels) as image:
                if self.draft:
                    self._draft(image)
                upright = _upright(image)
                flat = _flat(upright, grey=self.channels == "grey")
                found = np.asarray(self._cropped(self._resized(flat)))
        except (PictureError, MemoryError):
            raise
        except Exception as error:  # decoders raise a dozen kinds over damaged bytes
            raise _damaged(error) from error
        if self.channels == "bgr":
            found = found[:, :, ::-1]
        return found.reshape(*self.size, self.depth)

    def _draft(self, image: Image.Image) -> None:
        # Twice as much as is wanted leaves the filter something to choose from.
        side = 2 * max(self.to or self.size)
        image.draft(None, (side, side))

    def _resized(self, image: Image.Image) -> Image.Image:
        if (size := self._target(image)) == image.size:
            return image
        if size[0] * size[1] > self.max_pixels:
            raise _too_large(
                f"{_sides(image.size)}, so narrow that it becomes {_sides(size)}", self.max_pixels
            )
        resampling = _FILTERS[self.filter]
        if self.antialias:
            return image.resize(size, resampling)
        whole = (0, 0, *image.size)
        return image.transform(size, Image.Transform.EXTENT, whole, resampling)

    def _target(self, image: Image.Image) -> tuple[int, int]:
        """Width and height."""
        height, width = self.to or self.size
        if self.resize == "stretch":
            return width, height
        if self.resize == "none":
            return image.size
        # Whether the height decides, so that the width follows.
        taller = height * image.width >= width * image.height
        if taller == (self.resize == "cover"):
            return max(1, int(height * image.width / image.height)), height
        return width, max(1, int(width * image.height / image.width))

    def _cropped(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        if image.size == (width, height):
            return image
        # As Hugging Face's libraries round an odd rest.
        left, top = (image.width - width) // 2, (image.height - height) // 2
        if left >= 0 and top >= 0:
            return image.crop((left, top, left + width, top + height))
        whole = Image.new(image.mode, (width, height), (self.fill,) * len(image.getbands()))
        whole.paste(image, (-left, -top))
        return whole


def opened(data: bytes, max_pixels: int = MOST_PIXELS) -> Image.Image:
    """A picture of which only the header has been read. Raises PictureError."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow has a limit of its own, and says how many there are in words alone.
        told = re.search(r"\d+", str(error))
        raise _too_large(f"{int(told[0]):,}" if told else "too many", max_pixels) from error
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        begins = f"begins with {data[:_SHOWN]!r}" if data else "is empty"
        raise PictureError(
            Code.INVALID_ITEM, f"not a picture: its data {begins}; {_READ}"
        ) from error
    except Exception as error:  # decoders raise a dozen kinds over damaged bytes
        raise _damaged(error) from error
    if image.width * image.height > max_pixels:
        image.close()
        raise _too_large(_sides(image.size), max_pixels)
    return image


def is_grey(image: Image.Image) -> bool:
    """Whether a picture has no colours, by its header."""
    return image.mode in {"1", "L", "LA"} or image.mode.startswith("I")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # what a camera noted badly says nothing, and is no reason to refuse
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, *, grey: bool) -> Image.Image:
    """8 bits a channel, without transparency."""
    if image.mode.startswith("I"):
        # 16 bits, of which Pillow would take those above 255 for white.
        high = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(high.clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    mode = "L" if grey else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _damaged(error: Exception) -> PictureError:
    message = f"the picture is cut off or damaged: {_words(error)}"
    return PictureError(Code.INVALID_ITEM, message)


def _too_large(what: str, most: int) -> PictureError:
    return PictureError(Code.TOO_LARGE, f"{what} pixels; the model takes {most:,} at most")


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"


def _words(error: Any) -> str:
    return " ".join(str(error).split()) or type(error).__name__
