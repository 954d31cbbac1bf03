"""Replies for an event loop, which has other things to do than to decode a large one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import takes_long
from lmaas.broker_config.errors import MessageError, SealError
from lmaas.broker_config.messages import (
    JSON,
    MSGPACK,
    Reply,
    Result,
    decode_reply,
    known_language,
)
from lmaas.broker_config.seals import Opening


class _Opened(Reply, frozen=True):
    """A reply whose results are not looked at yet."""

    results: list[msgspec.Raw]  # type: ignore[assignment]


_OPENING: Final[dict[str, Any]] = {
    JSON: msgspec.json.Decoder(_Opened),
    MSGPACK: msgspec.msgpack.Decoder(_Opened),
}
_RESULTS: Final[dict[str, Any]] = {
    JSON: msgspec.json.Decoder(Result),
    MSGPACK: msgspec.msgpack.Decoder(Result),
}


async def decoded_reply(
    body: bytes, content_type: str | None, opening: Opening | None = None
) -> Reply:
    """As `decode_reply`, and in a thread where that takes more than milliseconds.

    `opening` opens a body that is, or should be, sealed. One that is not is taken all the same when
    it refuses the pack and has no results: that is how a worker without the key answers.

    Raises MessageError when the body is no reply, SealError when it cannot be opened.
    """
    if takes_long(body, content_type):
        return await asyncio.to_thread(_decoded, body, content_type, opening, decode_by_result)
    if opening is None:
        return decode_reply(body, content_type)
    return _decoded(body, content_type, opening, decode_reply)


def _decoded(
    body: bytes,
    content_type: str | None,
    opening: Opening | None,
    decode: Callable[[bytes, str | None], Reply],
) -> Reply:
    try:
        return decode(body if opening is None else opening(body), content_type)
    except SealError as error:
        if error.code == Code.NOT_SEALED:
            with contextlib.suppress(MessageError):
                reply = decode(body, content_type)
                if reply.error is not None and not reply.results:
                    return reply
        raise


def decode_by_result(body: bytes, content_type: str | None) -> Reply:
    """As `decode_reply`, result by result.

    A decoder keeps Python's lock for as long as one call takes: other threads run between the
    results. Raises MessageError when the body is no reply.
    """
    kind = known_language(content_type)
    decode = _RESULTS[kind].decode
    try:
        opened = _OPENING[kind].decode(body)
        results = [decode(result) for result in opened.results]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a reply: {error}") from error
    return Reply(**(msgspec.structs.asdict(opened) | {"results": results}))
