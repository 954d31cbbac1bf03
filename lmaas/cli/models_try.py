"""`lmaas models try`: what a model makes of one item, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from lmaas.broker_config import extras, media_types
from lmaas.broker_config.errors import DataError
from lmaas.broker_config.item_errors import text_error
from lmaas.broker_config.messages import LABEL_SEPARATOR, Item, Tensor
from lmaas.broker_config.settings import Settings
from lmaas.workers.repository import opened

#: Tokens and scores that are shown.
_SHOWN: Final = 200
_BEST: Final = 10


@click.command("try")
@click.argument("model")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT [TEXT] | FILE | JSON")
@click.option("--version", help="Not the one that answers.")
@click.pass_obj
def try_(settings: Settings, model: str, texts: tuple[str, ...], version: str | None) -> None:
    """Show what MODEL makes of a TEXT (of two, for a model of pairs), or of a FILE's content.

    A model of tensors takes JSON, or a file of it: '{"x": [1.5, 2]}'.

    Its tokens, the shapes of what the graph takes, and the scores.
    """
    if problem := extras.lacking("onnxruntime"):
        raise DataError(problem)
    from lmaas.workers.preprocess import faults
    from lmaas.workers.runtime import Runtime

    runtime = opened(settings).load(model, version, Runtime)
    item = _item(texts, runtime.preprocessor.examples[0], settings.max_item_bytes)
    if error := runtime.preprocessor.check(item):
        raise DataError(str(error))
    click.echo(f"{model} {runtime.manifest.version} ({runtime.manifest.architecture})")
    encoded = runtime.encode([item])
    (batch,) = runtime.batches(encoded.lengths)
    if (pieces := getattr(runtime.preprocessor, "pieces", None)) is not None:
        click.echo(f"tokens: {_listed(pieces(item))}")
    click.echo(f"length: {encoded.lengths[0]} {runtime.manifest.batching.unit}")
    arrays = encoded.arrays(batch)
    if wrong := faults(encoded).get(0):
        raise DataError(f"{texts[0]}: {wrong.message}")
    for name, array in arrays.items():
        click.echo(f"input {name}: {array.dtype} {list(array.shape)}")
    scores = runtime.run(encoded, batch)
    if problem := runtime.head.problem(scores[0]):
        raise DataError(problem)
    for label, score in _best(runtime.labels, scores[0].tolist()):
        click.echo(f"{score:.6f}  {label}")
    ((answer, _, _, labels),) = runtime.named(scores, top_k=0)
    if labels is not None:
        click.echo(f"labels: {LABEL_SEPARATOR.join(labels) or 'none'}")
    elif answer != runtime.labels[scores[0].argmax()]:
        click.echo(f"label: {answer}, as no score reaches {runtime.manifest.min_score:g}")


def _item(given: Sequence[str], example: Item, max_item_bytes: int) -> Item:
    """Of the kind of the example. Raises DataError."""
    if example.text is not None:
        if len(given) > 2:
            raise click.UsageError("one text, in quotes; or two for a model of pairs")
        for text in given:
            if error := text_error(text, max_item_bytes):
                raise DataError(str(error))
        return Item(id="1", text=given[0], text_pair=given[1] if len(given) == 2 else None)
    if len(given) > 1:
        raise click.UsageError("this model takes the content of a file: name one")
    path = Path(given[0])
    if example.tensors is not None and given[0].lstrip().startswith("{"):
        return _of_json(given[0].encode(), "the item", example.tensors)
    if not path.is_file():
        raise DataError(f"{path}: this model takes the content of a file, and there is no such one")
    if example.tensors is not None:
        return _of_json(_read(path), str(path), example.tensors)
    return Item(id=path.name, data=_read(path), media_type=media_types.by_name(path.name))


def _read(path: Path) -> bytes:
    """Raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _of_json(content: bytes, where: str, inputs: Mapping[str, Tensor]) -> Item:
    """Raises DataError, which says what is to be written."""
    from lmaas.workers.preprocess.tensors import item_of_json

    try:
        return item_of_json(content, "1", {name: one.datatype for name, one in inputs.items()})
    except ValueError as error:
        takes = ", ".join(f'"{name}": {_form(one)}' for name, one in inputs.items())
        raise DataError(f"{where}: this model takes JSON, as {{{takes}}}: {error}") from error


def _form(one: Tensor) -> str:
    """What is to be written for a tensor: of four numbers `[FP32, ...]`."""
    form = one.datatype
    for side in reversed(one.shape):
        form = f"[{form}{', ...' * (side > 1)}]"
    return form


def _listed(pieces: Sequence[str]) -> str:
    more = f" … ({len(pieces)})" if len(pieces) > _SHOWN else ""
    return " ".join(pieces[:_SHOWN]) + more


def _best(labels: Sequence[str], scores: Sequence[float]) -> Iterator[tuple[str, float]]:
    ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
    yield from ranked[:_BEST]
