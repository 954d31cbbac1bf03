"""The contract: what a request, a reply and other messages look like on the wire.

A request is a pack of 1..N items for one model. Bodies are JSON (`application/json`, any
language) or MessagePack (`application/msgpack`, our own clients), the same structures. An item
that cannot be used gets an error of its own; its neighbours go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.headers import MAX_NAME

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

#: `type` property of each kind of message.
REQUEST: Final = "lmaas.request.v1"
REPLY: Final = "lmaas.reply.v1"
JOB: Final = "lmaas.job.v1"
CARDS: Final = "lmaas.cards.v1"
CANCEL: Final = "lmaas.cancel.v1"

#: Packs of one cancellation.
MAX_CANCELLED: Final = 4096
#: Tensors of an item, dimensions of a tensor, and the size of a dimension.
MAX_TENSORS: Final = 32
MAX_RANK: Final = 32
MAX_DIMENSION: Final = 2**31 - 1
#: Types of a tensor's values, as the Open Inference Protocol names them, and the bytes of each; a
#: value of BYTES says how many it has.
DATATYPES: Final = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BYTES": 0,
}
#: What a caller may want the scores of: all that MessagePack has a whole number for, and more
#: than any model has labels.
MAX_TOP_K: Final = 2**63 - 1
#: The label of an item whose best score is below a threshold: `Options.min_score`, or the model's.
#: Models with several labels an item have no such label: they give none.
UNSURE: Final = "unsure"
#: Between the labels of one item where they are one text, as in a cell of a CSV file.
LABEL_SEPARATOR: Final = ";"
MinScore = Annotated[float, msgspec.Meta(ge=0, le=1)]
TopK = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOP_K)]


class _Wire(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Strict, immutable, and silent about what has its default."""


class ItemError(_Wire, frozen=True, gc=False):
    """Why one item was not classified, as its result."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


_Dimension = Annotated[int, msgspec.Meta(ge=0, le=MAX_DIMENSION)]
_Datatype = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(DATATYPES)})]
_InputName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class Tensor(_Wire, frozen=True):
    """A ready-made input of one item, whose shape has no dimension for the rows of a batch."""

    shape: Annotated[list[_Dimension], msgspec.Meta(max_length=MAX_RANK)]
    datatype: _Datatype
    #: The values in row-major order, little-endian; each of BYTES after its length in 32 bits.
    data: bytes


class Item(_Wire, frozen=True, gc=False):
    """One thing to classify: `text` (alone or with `text_pair`), `data` or `tensors`."""

    #: Chosen by the sender; the result carries it. Results are in the order of the items, so
    #: that an id which is there twice gets two answers.
    id: str
    text: str | None = None
    #: A second text, for models that judge two texts together.
    text_pair: str | None = None
    #: Encoded content, for example a PNG; base64 in JSON.
    data: bytes | None = None
    media_type: str | None = None
    #: By the names of the model's inputs.
    tensors: (
        Annotated[dict[_InputName, Tensor], msgspec.Meta(min_length=1, max_length=MAX_TENSORS)]
        | None
    ) = None
    #: Set by a sender that could not read the item: it comes back as the item's result.
    error: ItemError | None = None

    @property
    def size(self) -> int:
        """Bytes of its content."""
        text = self.text
        if text is not None:
            if self.text_pair is not None:
                text += self.text_pair
            # What UTF-8 does not have is told elsewhere.
            return len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self.data is not None:
            return len(self.data)
        return sum(len(tensor.data) for tensor in (self.tensors or {}).values())


class Options(_Wire, frozen=True):
    """What the caller wants beyond the label."""

    #: The scores of this many labels, best first, in `Result.scores`; 0 for none.
    top_k: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: An item whose best score is less gets the label UNSURE; where it may have several labels, it
    #: gets those that have at least this score. What the model says when left out.
    min_score: MinScore | None = None


class Request(_Wire, frozen=True):
    """A pack of items for one model."""

    model: str
    items: list[Item]
    #: The newest when left out.
    version: str | None = None
    options: Options = Options()


class Result(_Wire, frozen=True, gc=False):
    """The answer for one item: a label (or several, or none) and its score, or an error."""

    id: str
    #: Of a model with several labels an item the first of `labels`; left out when there is none.
    label: str | None = None
    #: Probability of `label`, 0..1, six decimals; without a label the highest one of all labels.
    score: float | None = None
    #: Label -> probability of the best `top_k`, best first.
    scores: dict[str, float] | None = None
    error: ItemError | None = None
    #: Of a model with several labels an item: those whose score is at least `Options.min_score`, or
    #: the model's threshold, best first, possibly none. Other models leave it out.
    labels: list[str] | None = None


class Timings(_Wire, frozen=True, gc=False):
    """Where a pack's time went on the worker, in seconds."""

    #: From arrival at the worker to the start of its first batch.
    waited: float
    #: From the start of its first batch to the end of its last one.
    ran: float
    #: The pack's own share of `ran`, which it may have had together with others.
    cost: float = 0.0


class Reply(_Wire, frozen=True):
    """The answer to a pack: one result an item, in the order of the items."""

    model: str
    results: list[Result]
    version: str | None = None
    worker: str | None = None
    timings: Timings | None = None
    #: Why the pack as a whole was refused: every item that could be read has this error too.
    error: ItemError | None = None


class Cancellation(_Wire, frozen=True):
    """Packs whose answers nobody waits for any more, by their correlation ids.

    The property `reply_to` is theirs: who knows neither it nor the ids cancels nothing.
    """

    packs: Annotated[list[str], msgspec.Meta(max_length=MAX_CANCELLED)]


class ModelCard(_Wire, frozen=True):
    """What a worker says of a model that it serves."""

    model: str
    #: The version that answers who asks for no other, and all that there are, oldest first.
    version: str
    versions: list[str]
    #: In the order of the scores.
    labels: list[str]
    #: The kind of preprocessing that the manifest names: "words" takes texts.
    input: str
    #: A few items that the model takes.
    examples: list[Item]
    #: Bytes of an item, items of a pack and bytes of its body at most.
    max_item_bytes: int
    max_pack_items: int
    max_pack_bytes: int
    #: Estimated seconds of a pack there: fixed, for each byte of its body, and for each item.
    fixed_seconds: float
    seconds_per_byte: float
    seconds_per_item: float = 0.0
    #: Of the bytes that it takes, as `image/png` or `image/*`; none of a model that takes no bytes.
    media_types: list[str] = []
    #: Whether an item may have several labels, or none: results have `labels`.
    multi_label: bool = False
    #: Bytes of an item's data at most; null: as `max_item_bytes`, which is of texts and tensors.
    max_data_bytes: int | None = None


_ENCODERS: dict[str, msgspec.json.Encoder | msgspec.msgpack.Encoder] = {
    JSON: msgspec.json.Encoder(),
    MSGPACK: msgspec.msgpack.Encoder(),
}
_REPLY_DECODERS: dict[str, msgspec.json.Decoder[Reply] | msgspec.msgpack.Decoder[Reply]] = {
    JSON: msgspec.json.Decoder(Reply),
    MSGPACK: msgspec.msgpack.Decoder(Reply),
}


def encode(message: Request | Reply, content_type: str = MSGPACK) -> bytes:
    """The body of a message; `content_type` is JSON or MSGPACK."""
    return _ENCODERS[content_type].encode(message)


def decode_reply(body: bytes, content_type: str | None) -> Reply:
    """Raises MessageError when the body is no reply."""
    try:
        return _REPLY_DECODERS[known_language(content_type)].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a reply: {error}") from error


def encode_cards(cards: list[ModelCard], content_type: str = MSGPACK) -> bytes:
    """The body of an answer to who asks for cards; `content_type` is JSON or MSGPACK."""
    return _ENCODERS[content_type].encode(cards)


def decode_cards(body: bytes) -> list[ModelCard]:
    """Of MessagePack. Raises MessageError when the body is none of cards."""
    try:
        return msgspec.msgpack.decode(body, type=list[ModelCard])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"no cards of models: {error}") from error


def encode_cancellation(packs: list[str]) -> bytes:
    """In MessagePack."""
    return msgspec.msgpack.encode(Cancellation(packs=packs))


def decode_cancellation(body: bytes, content_type: str | None) -> Cancellation:
    """Raises MessageError when the body is none."""
    decode = msgspec.json.decode if known_language(content_type) == JSON else msgspec.msgpack.decode
    try:
        return decode(body, type=Cancellation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"no cancellation: {error}") from error


def known_language(content_type: str | None) -> str:
    """JSON or MSGPACK. Raises MessageError when it is neither."""
    kind = (content_type or JSON).partition(";")[0].strip().lower()
    if kind not in _ENCODERS:
        raise MessageError(f"content type {content_type!r} is neither {JSON} nor {MSGPACK}")
    return kind


def plain(value: object) -> object:
    """A `str` where the value is of a subclass (numpy.str_, a StrEnum): encoders take no other.

    The type is asked, as a mock can claim to be an instance of `str`.
    """
    kind = type(value)
    if kind is str or not issubclass(kind, str):
        return value
    return str.__str__(value)


def failed(items: Iterable[Item], error: ItemError) -> list[Result]:
    """The same error for each of the items."""
    return [Result(id=item.id, error=error) for item in items]
