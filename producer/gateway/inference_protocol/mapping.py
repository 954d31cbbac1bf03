"""What a model takes and gives, as tensors: items of inputs, outputs of results. Pure.

What it takes is seen from the examples on its card. A model of texts has the input `text`, and
`text_pair` if there are pairs among them; one of encoded content, as of pictures, has the input
`data`; one of tensors has theirs.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from lmaas.broker_config.codes import meaning
from lmaas.broker_config.item_errors import item_error
from lmaas.broker_config.messages import (
    LABEL_SEPARATOR,
    Item,
    ItemError,
    ModelCard,
    Result,
    Tensor,
)
from lmaas.producer.gateway.failures import RETRY_AFTER, HttpError
from lmaas.producer.gateway.inference_protocol.codec import Call, Input, Output, Wanted, new_id
from lmaas.producer.gateway.inference_protocol.tensors import BYTES, Element, bad, rows, shown

TEXT: Final = "text"
PAIR: Final = "text_pair"
DATA: Final = "data"

LABEL: Final = "label"
SCORE: Final = "score"
SCORES: Final = "scores"
FLOAT: Final = "FP32"
#: More labels than any model has.
ALL: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a model takes or gives; the rows come first, and -1 is a size that is free."""

    name: str
    datatype: str
    shape: list[int]
    #: Whether a request may leave it out.
    optional: bool = False
    #: Of content, unless a request says another.
    media_type: str | None = None


def inputs_of(card: ModelCard) -> list[Port]:
    """What the model takes."""
    examples = card.examples
    if examples and examples[0].data is not None:
        return [Port(DATA, BYTES, [-1], media_type=examples[0].media_type)]
    if examples and examples[0].tensors is not None:
        return _tensor_ports([one.tensors for one in examples if one.tensors is not None])
    ports = [Port(TEXT, BYTES, [-1])]
    pairs = [one.text_pair is not None for one in examples]
    if any(pairs):
        ports.append(Port(PAIR, BYTES, [-1], optional=not all(pairs)))
    return ports


def _tensor_ports(examples: Sequence[dict[str, Tensor]]) -> list[Port]:
    """Sizes in which the examples differ are free."""
    named: dict[str, list[Tensor]] = {}
    for tensors in examples:
        for name, tensor in tensors.items():
            named.setdefault(name, []).append(tensor)
    ports = []
    for name, seen in named.items():
        sizes = zip(*(tensor.shape for tensor in seen), strict=False)
        shape = [-1, *(one[0] if len(set(one)) == 1 else -1 for one in sizes)]
        ports.append(Port(name, seen[0].datatype, shape, optional=len(seen) < len(examples)))
    return ports


def outputs_of(card: ModelCard) -> list[Port]:
    """What every model gives."""
    return [
        Port(LABEL, BYTES, [-1]),
        Port(SCORE, FLOAT, [-1]),
        Port(SCORES, FLOAT, [-1, len(card.labels)]),
    ]


# ------------------------------------------------------------------- inputs


def items_of(call: Call, card: ModelCard) -> list[Item]:
    """An item a row. Raises HttpError: 400."""
    ports = inputs_of(card)
    given = call.inputs
    known = {port.name for port in ports}
    takes = ", ".join(f"{port.name} ({port.datatype} {port.shape})" for port in ports)
    for name in given:
        if name not in known:
            raise bad(f"the model {card.model!r} has no input {name!r}; it takes {takes}")
    for port in ports:
        if port.name not in given and not port.optional:
            raise bad(f"the input {port.name!r} is missing; the model {card.model!r} takes {takes}")
    counts = {one.shape[0] for one in given.values()}
    if len(counts) > 1:
        raise bad("the inputs differ in their first dimension, which counts the items")
    if counts == {0}:
        raise bad("the inputs have no items: their first dimension is 0")
    items = _kind(card)(given, ports)
    for place, item in enumerate(items):
        if error := item_error(item, card.max_item_bytes, card.max_data_bytes):
            raise _refused(place, error)
    return items


def raw_call(body: bytes, content_type: str | None, card: ModelCard) -> Call:
    """A request without any JSON: the body is the one item of the one input. Raises HttpError."""
    name, *others = [port.name for port in inputs_of(card) if not port.optional]
    if others or _kind(card) is _tensors:
        raise bad(f"the model {card.model!r} takes more than a text or content: send its inputs")
    given = Input(name, BYTES, [1], [body], content_type)
    return Call({name: given}, None, False, new_id(), {})


def _kind(card: ModelCard) -> Callable[[dict[str, Input], Sequence[Port]], list[Item]]:
    first = card.examples[0] if card.examples else None
    if first is None or first.text is not None:
        return _texts
    return _contents if first.data is not None else _tensors


def _texts(given: dict[str, Input], _ports: Sequence[Port]) -> list[Item]:
    texts = _decoded(given[TEXT])
    pairs = _decoded(given[PAIR]) if PAIR in given else [None] * len(texts)
    return [
        Item(id=str(place), text=text, text_pair=pair)
        for place, (text, pair) in enumerate(zip(texts, pairs, strict=True))
    ]


def _contents(given: dict[str, Input], ports: Sequence[Port]) -> list[Item]:
    one = given[DATA]
    kind = one.content_type or ""
    media_type = kind if "/" in kind else ports[0].media_type
    read = _from_base64 if kind == "base64" else _as_bytes
    return [
        Item(id=str(place), data=read(place, element), media_type=media_type)
        for place, element in enumerate(_elements(one))
    ]


def _as_bytes(_place: int, element: Element) -> bytes:
    return element.encode() if isinstance(element, str) else element


def _from_base64(place: int, element: Element) -> bytes:
    try:
        return base64.b64decode(element, validate=True)
    except ValueError as error:
        raise bad(f"item {place}: input {DATA!r} is not base64: {error}") from error


def _tensors(given: dict[str, Input], ports: Sequence[Port]) -> list[Item]:
    for port in ports:
        one = given.get(port.name)
        if one is not None and one.datatype != port.datatype:
            raise bad(f"input {one.name!r} is {one.datatype}; it must be {port.datatype}")
    columns = [
        [
            Tensor(shape=one.shape[1:], datatype=one.datatype, data=row)
            for row in rows(one.datatype, one.shape, one.content)
        ]
        for one in given.values()
    ]
    return [
        Item(id=str(place), tensors=dict(zip(given, row, strict=True)))
        for place, row in enumerate(zip(*columns, strict=True))
    ]


def _decoded(given: Input) -> list[str]:
    return [_text(given.name, place, one) for place, one in enumerate(_elements(given))]


def _elements(given: Input) -> list[Element]:
    """One a row: [n], or [n, 1] as clients send it that add a dimension for a batch."""
    if given.datatype != BYTES or isinstance(given.content, bytes):
        raise bad(f"input {given.name!r} is {given.datatype}; it must be {BYTES}")
    if given.shape[1:] not in ([], [1]):
        raise bad(f"input {given.name!r} has the shape {given.shape}; it must be [n] or [n, 1]")
    return given.content


def _text(name: str, place: int, element: Element) -> str:
    if isinstance(element, str):
        return element
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise bad(
            f"item {place}: input {name!r} is not valid UTF-8 at byte {error.start}"
        ) from error


def _refused(place: int, error: ItemError) -> HttpError:
    """The protocol has no error of one item: the request fails as a whole, and says where."""
    status = meaning(error.code).status
    again = RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return HttpError(status, error.code, f"item {place}: {error}", again)


# ------------------------------------------------------------------- outputs


def wanted_of(call: Call, card: ModelCard) -> list[Wanted]:
    """The outputs to send, in the order in which they were asked for. Raises HttpError: 400."""
    names = [port.name for port in outputs_of(card)]
    if call.outputs is None:
        return [Wanted(name, 0, call.binary) for name in names]
    for place, one in enumerate(call.outputs):
        if one.name not in names:
            raise bad(f"there is no output {one.name!r}; there are {', '.join(names)}")
        if one.name in {other.name for other in call.outputs[:place]}:
            raise bad(f"output {one.name!r} is asked for twice")
        if one.classes and one.name != SCORES:
            raise bad(f"output {one.name!r} has no classification; ask for it of {SCORES!r}")
    return call.outputs


def top_k(wanted: Sequence[Wanted]) -> int:
    """How many scores results need: none, or those of all labels, whichever version answers."""
    return ALL if any(one.name == SCORES for one in wanted) else 0


def outputs(results: Sequence[Result], wanted: Sequence[Wanted], card: ModelCard) -> list[Output]:
    """Tensors of as many rows as there are results. Raises HttpError when one has an error."""
    for place, result in enumerate(results):
        if result.error is not None:
            raise _refused(place, result.error)
    return [_OUTPUTS[one.name](results, one, card) for one in wanted]


def _labels(results: Sequence[Result], one: Wanted, _card: ModelCard) -> Output:
    names = [
        result.label if result.labels is None else LABEL_SEPARATOR.join(result.labels)
        for result in results
    ]
    return Output(LABEL, BYTES, [len(results)], names, one.binary)


def _score(results: Sequence[Result], one: Wanted, _card: ModelCard) -> Output:
    return Output(SCORE, FLOAT, [len(results)], [result.score for result in results], one.binary)


def _scores(results: Sequence[Result], one: Wanted, card: ModelCard) -> Output:
    order = columns(results, card)
    rows = [result.scores or {} for result in results]
    if one.classes:
        return _classified(rows, one, order)
    values = [row[label] for row in rows for label in order]
    return Output(SCORES, FLOAT, [len(rows), len(order)], values, one.binary)


def _classified(rows: Sequence[dict[str, float]], one: Wanted, order: Sequence[str]) -> Output:
    """The best labels of each row, best first, as `value:index:label`."""
    index = {label: place for place, label in enumerate(order)}
    most = min(one.classes, len(order))
    values = [
        f"{score:.6f}:{index[label]}:{label}"
        for row in rows
        for label, score in list(row.items())[:most]
    ]
    return Output(SCORES, BYTES, [len(rows), most], values, one.binary)


def columns(results: Sequence[Result], card: ModelCard) -> list[str]:
    """The labels of the columns: as on the card, or by name if another version has answered.

    Raises HttpError when different versions have answered, while workers switch to a new one.
    """
    found = [set(result.scores or ()) for result in results]
    if any(one != found[0] for one in found):
        raise HttpError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "unavailable",
            f"the model {card.model!r} changes to another version",
            RETRY_AFTER,
        )
    return card.labels if found[0] == set(card.labels) else sorted(found[0])


_OUTPUTS: Final[dict[str, Callable[[Sequence[Result], Wanted, ModelCard], Output]]] = {
    LABEL: _labels,
    SCORE: _score,
    SCORES: _scores,
}


# ------------------------------------------------------------------- parameters


def seconds_of(parameters: dict[str, Any], most: float) -> float:
    """How long the caller waits: the parameter `timeout`, in microseconds; 0: as without it.

    At most `most` seconds. Raises HttpError: 400.
    """
    given = parameters.get("timeout", 0)
    if type(given) is not int or given < 0:
        raise bad(f"timeout is {shown(given)}; it must be a whole number of microseconds")
    return min(given / 1e6 or most, most)


def least_of(parameters: dict[str, Any]) -> float | None:
    """Below which score a label is `unsure`: the parameter `min_score`; None: as the model says.

    Raises HttpError: 400.
    """
    given = parameters.get("min_score")
    if given is None or (type(given) in (int, float) and 0 <= given <= 1):
        return given
    raise bad(f"min_score is {shown(given)}; it must be a number from 0 to 1")
