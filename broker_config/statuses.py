"""What a worker says of its own state to who asks: the message `lmaas.status.v1`."""

from __future__ import annotations

from typing import Final

import msgspec

from lmaas.broker_config.errors import MessageError
from lmaas.broker_config.messages import JSON, MSGPACK

STATUS: Final = "lmaas.status.v1"


class LaneStatus(msgspec.Struct, frozen=True):
    """One lane of one model, as one worker sees it."""

    model: str
    lane: str
    #: Packs that it has taken since it began to consume.
    taken: int
    #: Seconds that the pack which came last had waited.
    waited: float
    #: Packs in a queue that only this worker takes from (setting `balance`).
    own: int


class WorkerStatus(msgspec.Struct, frozen=True):
    """The state of one worker."""

    worker: str
    #: Model -> the version that answers.
    models: dict[str, str]
    #: Why it takes nothing from the lanes; null: it does.
    problem: str | None
    #: Packs that wait in the worker, and that run.
    held: int
    running: int
    lanes: list[LaneStatus]


_ENCODERS: Final[dict[str, msgspec.json.Encoder | msgspec.msgpack.Encoder]] = {
    JSON: msgspec.json.Encoder(),
    MSGPACK: msgspec.msgpack.Encoder(),
}


def encode_status(status: WorkerStatus, content_type: str = MSGPACK) -> bytes:
    """The body of an answer; `content_type` is JSON or MSGPACK."""
    return _ENCODERS[content_type].encode(status)


def decode_status(body: bytes) -> WorkerStatus:
    """Of MessagePack. Raises MessageError when the body is none."""
    try:
        return msgspec.msgpack.decode(body, type=WorkerStatus)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"no status of a worker: {error}") from error
