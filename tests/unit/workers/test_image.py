"""Pictures of every mode and size as pixels, and what is none."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmaas.broker_config.codes import Code
from lmaas.broker_config.errors import ModelDamaged
from lmaas.broker_config.messages import Item, Tensor
from lmaas.workers.batcher import Batch
from lmaas.workers.manifest import Batching, Input
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.preprocess import faults, preprocessor
from lmaas.workers.preprocess.image import Images, values
from lmaas.workers.preprocess.pixels import PictureError, is_grey, opened
from tests import versions

RED, WHITE, BLACK = [255, 0, 0], [255, 255, 255], [0, 0, 0]


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(size: tuple[int, int] = (2, 2), **how: Any) -> Images:
    return Images(size=size, scale=1.0, layout="nhwc", **how)


def one_colour(data: bytes, **how: Any) -> list[int]:
    """Of a picture that has one only, nearly."""
    pixels = plain((4, 4), **how).pixels(data)
    assert int(np.ptp(pixels.reshape(-1, pixels.shape[-1]), axis=0).max()) <= 3
    found: list[int] = pixels[0, 0].tolist()
    return found


# --- modes ---------------------------------------------------------------------------------------


def of_mode(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (8, 8), colour)


def palette(transparent: bool = False) -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([*BLACK, *RED])
    return encoded(image, **({"transparency": 1} if transparent else {}))


@pytest.mark.parametrize(
    ("data", "rgb", "grey"),
    [
        (encoded(of_mode("RGB", "red")), RED, 76),
        (encoded(of_mode("RGB", "red"), "BMP"), RED, 76),
        (encoded(of_mode("RGB", "red"), "GIF"), RED, 76),
        (encoded(of_mode("RGB", "red"), "WEBP", lossless=True), RED, 76),
        (encoded(of_mode("RGB", "red"), "JPEG", quality=100), [254, 0, 0], 76),
        (encoded(of_mode("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), [254, 0, 0], 76),
        (encoded(of_mode("L", 100)), [100] * 3, 100),
        (encoded(of_mode("L", 100), "JPEG"), [100] * 3, 100),
        (encoded(of_mode("1", 1)), WHITE, 255),
        (encoded(of_mode("LA", (0, 255))), BLACK, 0),
        (encoded(of_mode("I;16", 25_700)), [100] * 3, 100),
        (palette(), RED, 76),
        # What is transparent shows the white below it.
        (palette(transparent=True), WHITE, 255),
        (encoded(of_mode("RGBA", (255, 0, 0, 0))), WHITE, 255),
        (encoded(of_mode("RGBA", (255, 0, 0, 0)), "WEBP", lossless=True), WHITE, 255),
        (encoded(of_mode("RGBA", (0, 0, 0, 128))), [127] * 3, 127),
        (encoded(of_mode("LA", (0, 0))), WHITE, 255),
        (encoded(of_mode("RGB", "red"), transparency=(255, 0, 0)), WHITE, 255),
    ],
)  # fmt: skip
def test_any_mode(data: bytes, rgb: list[int], grey: int) -> None:
    assert np.allclose(one_colour(data), rgb, atol=2)
    assert one_colour(data, channels="bgr") == one_colour(data)[::-1]
    assert one_colour(data, channels="grey") == pytest.approx([grey], abs=2)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_one_the_first_frame_counts(format: str) -> None:  # noqa: A002
    frames = [of_mode("RGB", colour) for colour in ("red", "blue", "white")]
    more = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **more)
    assert opened(data).n_frames == 3  # type: ignore[attr-defined]
    assert one_colour(data) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_what_a_camera_noted_is_applied(orientation: int, format: str) -> None:  # noqa: A002
    image = Image.fromarray(np.kron([[250, 170, 90], [0, 0, 0]], np.ones((8, 8))).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = plain((48, 48), resize="none").pixels(encoded(image.convert("RGB"), format, exif=exif))
    # What Pillow makes of it, whose own way takes the note out of the picture as well.
    from PIL import ImageOps

    with Image.open(io.BytesIO(encoded(image.convert("RGB"), format, exif=exif))) as read:
        upright = ImageOps.exif_transpose(read).convert("RGB")
    assert np.array_equal(found, plain((48, 48), resize="none").pixels(encoded(upright)))
    assert upright.size == ((24, 16) if orientation < 5 else (16, 24))


def test_a_note_that_is_none_is_passed_over() -> None:
    data = encoded(of_mode("RGB", "red"), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff\xff")
    assert one_colour(data) == RED


def test_pictures_without_colours_are_known_by_their_header() -> None:
    modes = {"1": 1, "L": 1, "LA": (1, 1), "I;16": 1, "RGB": "red", "RGBA": "red"}
    found = {mode: is_grey(opened(encoded(of_mode(mode, one)))) for mode, one in modes.items()}
    assert found == {"1": True, "L": True, "LA": True, "I;16": True, "RGB": False, "RGBA": False}


# --- sizes ---------------------------------------------------------------------------------------


def wide() -> bytes:
    """30 x 10: red, white, black."""
    stripes = np.array([[RED, WHITE, BLACK]], np.uint8)
    return encoded(Image.fromarray(stripes.repeat(10, axis=0).repeat(10, axis=1)))


@pytest.mark.parametrize(
    ("size", "how", "columns"),
    [
        ((1, 3), {}, [RED, WHITE, BLACK]),
        ((5, 5), {"resize": "cover"}, [WHITE] * 5),
        ((10, 10), {"resize": "none"}, [WHITE] * 10),
        ((3, 3), {"to": (10, 30)}, [WHITE] * 3),
        ((9, 3), {"resize": "fit", "fill": 7}, [RED, WHITE, BLACK]),
    ],
)
def test_it_gets_the_size(size: Any, how: Any, columns: list[list[int]]) -> None:
    pixels = plain(size, filter="nearest", **how).pixels(wide())
    assert pixels.shape == (*size, 3)
    assert pixels[(size[0] - 1) // 2].tolist() == columns


@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_what_is_smaller_is_filled_up_around_it(channels: Any) -> None:
    pixels = plain((6, 6), resize="fit", fill=9, channels=channels).pixels(wide())
    assert (pixels[:2] == 9).all()
    assert (pixels[4:] == 9).all()
    assert not (pixels[2:4] == 9).any()


def test_without_antialiasing_only_neighbours_count() -> None:
    fine = np.zeros((64, 64), np.uint8)
    fine[:, ::4] = 255
    data = encoded(Image.fromarray(fine))
    smooth = plain((16, 16)).pixels(data)
    coarse = plain((16, 16), antialias=False).pixels(data)
    assert set(coarse.ravel().tolist()) == {0}
    assert 50 < smooth[:, 2:-2].mean() < 80
    with pytest.raises(ValueError, match="'lanczos' is there with antialiasing only"):
        plain(filter="lanczos", antialias=False)


def test_a_draft_of_a_photo_is_nearly_the_same() -> None:
    y, x = np.mgrid[0:512, 0:768]
    photo = Image.fromarray(np.stack([x / 3, y / 2, (x + y) / 5], -1).astype(np.uint8))
    data = encoded(photo, "JPEG", quality=95)
    quick = plain((32, 32), resize="cover", draft=True).pixels(data).astype(int)
    assert np.abs(quick - plain((32, 32), resize="cover").pixels(data)).max() < 8


HALF: dict[str, Any] = {"mean": (0.5,), "std": (0.5,)}
CLIP: dict[str, Any] = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # ViTImageProcessor as it is.
        (
            Images(size=(224, 224), **HALF),
            [
                [-0.607843, -0.2, 0.2, 0.6],
                [-0.607843, -0.207843, 0.2, 0.6],
                [0.372549, 0.019608, 0.07451, 0.239216],
            ],
        ),
        # Resized to 256 x 256 (bicubic), the middle 224 x 224 of that.
        (
            Images(size=(224, 224), to=(256, 256), filter="bicubic", **HALF),
            [
                [-0.529412, -0.176471, 0.168628, 0.521569],
                [-0.537255, -0.176471, 0.168628, 0.529412],
                [0.294118, -0.152941, 0.411765, 0.560784],
            ],
        ),
        # CLIPImageProcessor as it is.
        (
            Images(size=(224, 224), resize="cover", filter="bicubic", **CLIP),
            [
                [-0.507601, -0.128042, 0.251517, 0.616478],
                [-1.001709, -0.236313, 0.544091, 1.309488],
                [1.193153, 0.211968, -1.039398, 0.283068],
            ],
        ),
        # ConvNextImageProcessor, shortest edge 224, which becomes 256 at first.
        (
            Images(size=(224, 224), to=(256, 256), resize="cover", filter="bicubic", **HALF),
            [
                [-0.270588, -0.090196, 0.082353, 0.254902],
                [-0.537255, -0.176471, 0.168628, 0.529412],
                [-0.960784, 0.07451, -0.835294, -0.458824],
            ],
        ),
        # CLIPImageProcessor, shortest edge 64 (Lanczos), cut to 99 x 64 with black around it.
        (
            Images(size=(99, 64), to=(64, 64), resize="cover", filter="lanczos", **CLIP),
            [
                [-0.507601, -0.128042, 0.251517, 0.631076],
                [-1.677058, -0.476437, 0.724185, 1.924806],
                [0.325729, 0.283068, 0.56747, 0.140868],
            ],
        ),
    ],
)
def test_values_are_those_of_transformers(how: Images, expected: list[list[float]]) -> None:
    """As the image processors of transformers 5.24 gave them (their Pillow backends), at four
    points of the diagonal of each channel."""
    y, x = np.mgrid[0:150, 0:301]
    picture = np.stack([x * 255 // 300, y * 255 // 149, x * y % 256], -1).astype(np.uint8)
    pixels = how.pixels(encoded(Image.fromarray(picture)))
    (found,) = values(pixels[None], how, "float32")
    height, width = how.size
    points = [found[:, height * m // 5, width * m // 5] for m in (1, 2, 3, 4)]
    assert np.allclose(np.stack(points, axis=1), expected, atol=2e-6)


# --- what the graph gets -------------------------------------------------------------------------


def test_numbers_and_their_order() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    first = values(pixels, plain(), "uint8")
    assert (first.dtype, first.tolist()) == (np.dtype("uint8"), pixels.tolist())
    how = Images(size=(2, 2), scale=0.5, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    found = values(pixels, how, "float32")
    assert found.dtype == np.dtype("float32")
    expected = (pixels * 0.5 - [1, 2, 3]) / [1, 2, 4]
    assert np.allclose(found, expected.transpose(0, 3, 1, 2))
    assert found.flags.c_contiguous
    grey = values(pixels[..., :1], plain(channels="grey"), "float16")
    assert (grey.shape, grey.dtype) == ((1, 2, 2, 1), np.dtype("float16"))
    flat = Images(size=(2, 2), channels="grey", layout="nhw", mean=(0.5,))
    assert values(pixels[..., :1], flat, "float32").shape == (1, 2, 2)


# --- what is no picture --------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_of(width: int, height: int) -> bytes:
    """A few bytes that say that they are so many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100))


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PHOTO = encoded(Image.fromarray(NOISE), "JPEG")
BAD = [
    (b"", Code.INVALID_ITEM, r"not a picture: its data is empty; PNG, JPEG"),
    (b"%PDF-1.7", Code.INVALID_ITEM, r"not a picture: its data begins with b'%PDF-1\.7'"),
    (PHOTO[:20], Code.INVALID_ITEM, "not a picture|cut off or damaged"),
    (PHOTO[: len(PHOTO) // 2], Code.INVALID_ITEM, "cut off or damaged: image file is truncated"),
    (encoded(Image.fromarray(NOISE))[:500], Code.INVALID_ITEM, "cut off or damaged"),
    (encoded(Image.fromarray(NOISE), "WEBP")[:500], Code.INVALID_ITEM, "not a picture|damaged"),
    (encoded(Image.fromarray(NOISE), "GIF")[:900], Code.INVALID_ITEM, "cut off or damaged"),
    (encoded(Image.fromarray(NOISE), "TIFF"), Code.INVALID_ITEM, "not a picture: its data begins"),
    (png_of(30_000, 30_000), Code.TOO_LARGE, r"900,?000,?000 pixels"),
    (
        png_of(10_000, 10_000),
        Code.TOO_LARGE,
        "10,000 x 10,000 pixels|100,000,000 pixels; the model takes 67,108,864",
    ),
    (png_of(9_000, 9_000), Code.TOO_LARGE, "9,000 x 9,000 pixels; the model takes 67,108,864"),
]


@pytest.mark.parametrize(("data", "code", "message"), BAD)
def test_what_cannot_be_read_is_told(data: bytes, code: Code, message: str) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        plain((8, 8)).pixels(data)
    assert caught.value.error.code == code
    assert caught.value.error.message == str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_that_would_become_too_large_is_refused() -> None:
    narrow = encoded(Image.new("L", (60_000, 1)))
    with pytest.raises(PictureError, match=r"60,000 x 1, so narrow that it becomes .* pixels"):
        plain((224, 224), resize="cover").pixels(narrow)
    assert plain((224, 224), resize="fit").pixels(narrow).shape == (224, 224, 3)


def test_every_byte_that_is_missing_or_wrong_is_an_error_of_its_item_or_none() -> None:
    random = np.random.default_rng(7)
    how, codes = plain((8, 8)), set()
    for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):  # noqa: A001
        whole = encoded(Image.fromarray(NOISE[:16, :16]), format)
        for _ in range(60):
            spoilt = bytearray(whole[: random.integers(1, len(whole) + 1)])
            for place in random.integers(0, len(spoilt), 3):
                spoilt[place] = random.integers(0, 256)
            try:
                how.pixels(bytes(spoilt))
            except PictureError as error:
                codes.add(error.error.code)
    assert Code.INVALID_ITEM in codes <= {Code.INVALID_ITEM, Code.TOO_LARGE}


# --- the kind ------------------------------------------------------------------------------------


def version(
    shape: list[int | None], dtype: str = "uint8", unit: Any = "items", **how: Any
) -> ModelVersion:
    made = versions.manifest(
        {"kind": "image", "size": [4, 4], "layout": "nhwc", "scale": 1.0} | how,
        [Input(name="pixels", dtype=dtype, shape=[None, *shape])],
        Batching(unit=unit, most=64),
    )
    return versions.in_memory(made)


def test_a_picture_that_is_none_is_an_error_of_its_own() -> None:
    kind = preprocessor(version([4, 4, 3]))
    items = [
        Item(id="red", data=encoded(of_mode("RGB", "red"))),
        Item(id="cut", data=PHOTO[:300]),
        Item(id="white", data=encoded(of_mode("RGB", "white"))),
    ]
    found = kind.encode(items)
    assert list(found.lengths) == [1, 1, 1]
    pixels = found.arrays(Batch([2, 1, 0], 4, 1))["pixels"]
    assert pixels[:, 0, 0].tolist() == [WHITE, BLACK, RED, BLACK]
    assert {place: error.code for place, error in faults(found).items()} == {1: "invalid_item"}


def test_lengths_are_in_the_unit_of_the_batches() -> None:
    kind = preprocessor(version([4, 6, 3], unit="pixels", size=[4, 6]))
    assert list(kind.encode(kind.examples).lengths) == [24, 24]


def test_what_has_no_bytes_is_no_picture() -> None:
    kind = preprocessor(version([4, 4, 3]))
    tensor = Tensor(shape=[1], datatype="UINT8", data=b"1")
    for item, words in (
        (Item(id="1", text="a cat"), "the item has a text"),
        (Item(id="1", tensors={"pixels": tensor}), "the item has tensors"),
    ):
        error = kind.check(item)
        assert error is not None
        assert (error.code, words in error.message) == ("invalid_item", True)
    assert kind.check(Item(id="1", data=b"")) is None


def test_its_examples_are_pictures() -> None:
    kind = preprocessor(version([4, 4, 1], channels="grey"))
    found = kind.encode(kind.examples)
    pixels = found.arrays(Batch([0, 1], 2, 1))["pixels"]
    assert not faults(found)
    assert not np.array_equal(pixels[0], pixels[1])


@pytest.mark.parametrize(
    ("shape", "dtype", "how", "message"),
    [
        ([3, 4, 4], "uint8", {}, r"makes rows of \[4, 4, 3\] \(nhwc\), and its input 'pixels'"),
        ([4, 4], "uint8", {}, r"makes rows of \[4, 4, 3\]"),
        ([4, 4, 3], "uint8", {"scale": 0.1}, "takes pixels as they are only"),
        ([4, 4, 3], "colour", {}, "input 'pixels': data type 'colour' not understood"),
        ([4, 4, 3], "float32", {"mean": [1, 2]}, "mean has 2 numbers for 3 channels"),
        ([4, 4], "float32", {"layout": "nhw"}, "'nhw' has no place for colours"),
        ([4, 4, 3], "float32", {"filter": "mitchell"}, "Invalid enum value 'mitchell'"),
        ([4, 4, 3], "float32", {"std": [0]}, "Expected `float` > 0"),
        ([4, 4, 3], "float32", {"colour": "red"}, "unknown field `colour`"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told(
    shape: list[int | None], dtype: str, how: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelDamaged, match=message):
        preprocessor(version(shape, dtype, **how))
    preprocessor(version([None, None, 3], "float32", mean=[0.5], std=[0.5]))
