"""Graphs that take pictures: how a picture is prepared, as a config or the options say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from lmaas.broker_config import extras
from lmaas.broker_config.errors import DataError
from lmaas.training.importing.graph import Graph, Port
from lmaas.workers.manifest import Batching, Input

#: Height and width.
Size = tuple[int, int]

#: Resampling filters by their numbers in Pillow, which configs have.
_FILTERS: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
#: Processors that take a bare number for the shorter edge; the others for both edges.
_SHORTER: Final = ("CLIP", "ConvNext", "Levit", "MobileNet", "MobileViT", "Siglip2")
#: Below this size a ConvNext processor resizes to more and cuts the middle out.
_CROPPED: Final = 384
#: What changes pixels in ways that nothing here knows.
_UNKNOWN: Final = ("do_pad", "do_thumbnail", "do_align_long_axis", "do_reduce_labels")

BATCHING: Final = Batching(unit="pixels", most=2**15)


def port(graph: Graph) -> Port:
    """The one input, [rows, ...]. Raises DataError."""
    if problem := extras.lacking("PIL"):
        raise DataError(problem)
    (given, *others) = graph.inputs
    if others or given.shape is None or len(given.shape) not in (3, 4):
        listed = ", ".join(map(str, graph.inputs))
        raise DataError(
            f"{graph.path}: a model of pictures takes one input, [rows, channels, height, width] "
            f"or [rows, height, width, channels]; this one takes {listed}"
        )
    return given


def inputs(given: Port) -> list[Input]:
    assert given.shape is not None
    return [Input(name=given.name, dtype=given.dtype, shape=list(given.shape))]


def of_options(given: Port, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The manifest's preprocessing of a bare graph, and what was guessed. Raises DataError."""
    layout = options.get("layout") or _layout(given)
    size = options.get("size") or _size(given, layout)
    if size is None:
        raise DataError(f"its input {given} does not say how large pictures are: give --image WxH")
    channels = options.get("channels") or ("grey" if _depth(given, layout) == 1 else "rgb")
    found = {"kind": "image", **options, "layout": layout, "size": size, "channels": channels}
    notes = []
    if "mean" not in options and "std" not in options:
        scale = options.get("scale", 1 / 255)
        notes = [
            f"pixels are multiplied by {scale:.6g}; --mean and --std, and --scale say otherwise"
        ]
    height, width = size
    notes.append(
        f"pictures become {width} x {height} ({channels}, {layout}), "
        f"{_WORDS[options.get('resize', 'stretch')]}; --image, --channels, --layout and --resize "
        "say otherwise"
    )
    return found, notes


_WORDS: Final = {
    "stretch": "stretched",
    "cover": "with their middle cut out",
    "fit": "with borders",
    "none": "without being resized",
}


def of_processor(
    config: Mapping[str, Any], given: Port, where: object
) -> tuple[dict[str, Any], list[str]]:
    """The same of an image processor of the Hugging Face hub. Raises DataError."""
    if unknown := [key for key in _UNKNOWN if config.get(key)]:
        raise DataError(f"{where}: {unknown[0]} is not known here; a picture would be another one")
    layout = _layout(given)
    to, whole = _resized(config)
    size = _pair(config.get("crop_size")) if config.get("do_center_crop") else None
    if size is None:
        size = _crop(config) or to or _size(given, layout)
    if size is None:
        raise DataError(f"{where}: does not say how large pictures are")
    kept = _resize_words(config, to, whole, size)
    number = config.get("resample", 2)
    if not isinstance(number, int) or not 0 <= number < len(_FILTERS):
        raise DataError(f"{where}: resample {number!r} is no filter of Pillow")
    grey = _depth(given, layout) == 1
    channels = "grey" if grey else "bgr" if config.get("do_flip_channel_order") else "rgb"
    found = {
        "kind": "image",
        "layout": layout,
        "size": size,
        "channels": channels,
        "filter": _FILTERS[number],
        **kept,
        **_values(config),
    }
    return found, [f"pictures are prepared as {where} says"]


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is done to the numbers: a graph gets (pixel * scale - mean) / std."""
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)
    if config.get("do_normalize", True) and config.get("image_mean") is not None:
        mean = _numbers(config["image_mean"])
        std = _numbers(config.get("image_std", 1.0))
    if config.get("rescale_offset"):
        mean = [one + 1 for one in mean]
    return {"scale": scale, "mean": list(mean), "std": list(std)}


def _numbers(told: Any) -> list[float]:
    return [float(one) for one in told] if isinstance(told, list) else [float(told)]


def _resized(config: Mapping[str, Any]) -> tuple[Size | None, bool]:
    """What pictures are resized to, and whether their proportions are kept."""
    told = config.get("size")
    if not config.get("do_resize", True) or told is None:
        return None, False
    if isinstance(told, dict) and "shortest_edge" in told:
        edge, whole = int(told["shortest_edge"]), True
    elif isinstance(told, dict):
        return _pair(told), False
    else:
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
        edge, whole = int(told), any(one in kind for one in _SHORTER)
    if share := _crop_share(config, edge):
        return (int(edge / share), int(edge / share)), True
    if config.get("crop_pct") is not None:
        whole = False
    return (edge, edge), whole


def _crop_share(config: Mapping[str, Any], edge: int) -> float | None:
    """Of a ConvNext processor: what it cuts out, as a part of the resized picture."""
    share = config.get("crop_pct")
    return float(share) if share and edge < _CROPPED else None


def _crop(config: Mapping[str, Any]) -> Size | None:
    told = config.get("size")
    edge = told.get("shortest_edge") if isinstance(told, dict) else told
    if config.get("crop_pct") and isinstance(edge, int):
        return edge, edge
    return None


def _resize_words(
    config: Mapping[str, Any], to: Size | None, whole: bool, size: Size
) -> dict[str, Any]:
    if to is None:
        return {"resize": "none"}
    return {"resize": "cover" if whole else "stretch", "to": to}


def _pair(told: Any) -> Size | None:
    if isinstance(told, dict):
        return (int(told["height"]), int(told["width"])) if "height" in told else None
    return (int(told), int(told)) if told else None


def _layout(given: Port) -> str:
    """By where the channels are, as far as the graph says it."""
    shape = given.shape or []
    if len(shape) == 3:
        return "nhw"
    return "nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw"


def _depth(given: Port, layout: str) -> int | None:
    shape = given.shape or []
    return 1 if layout == "nhw" else shape[1] if layout == "nchw" else shape[3]


def _size(given: Port, layout: str) -> Size | None:
    """Height and width, where the graph says them."""
    shape = given.shape or []
    height, width = shape[2:4] if layout == "nchw" else shape[1:3]
    return (height, width) if height is not None and width is not None else None


def checked(found: dict[str, Any], where: object) -> dict[str, Any]:
    """What Pillow's side of it takes. Raises DataError."""
    from lmaas.workers.preprocess.image import Images

    try:
        told: dict[str, Any] = msgspec.to_builtins(msgspec.convert(found, Images))
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}") from error
    return told
