"""From the body of a request to the pack that it is, and what is wrong with it.

No queue in here, nothing that waits: on an event loop `glanced` is called, off it `read`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lmaas.broker_config.codes import Code
from lmaas.broker_config.decoding import (
    Decoded,
    check_size,
    decode_at_once,
    decode_request,
    takes_long,
)
from lmaas.broker_config.errors import MessageError, SealError
from lmaas.broker_config.messages import ItemError, Reply, Request, failed
from lmaas.broker_config.seals import Opening
from lmaas.broker_config.settings import Settings


@dataclass(slots=True)
class Pack:
    """A request: not read yet, ready to run, or known to be wrong."""

    request: Request | None
    #: Errors of single items, by position.
    faults: dict[int, ItemError] = field(default_factory=dict)
    #: Why the whole pack was refused.
    error: ItemError | None = None
    #: Bytes of the body.
    size: int = 0
    #: Estimated; by these, packs that run together share the time that they took.
    seconds: float = 1.0
    #: The version that answers if the request names none, where that was decided before it is run.
    version: str | None = None
    #: time.monotonic() when the pack was read.
    arrived: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        return len(self.request.items) if self.request else 0

    @property
    def is_read(self) -> bool:
        return self.request is not None or self.error is not None


def glanced(
    body: bytes,
    content_type: str | None,
    settings: Settings,
    *,
    model: str | None = None,
    redelivered: bool,
    opening: Opening | None = None,
) -> Pack:
    """What takes no time is read, unless it is redelivered; else the pack is left unread. Never
    raises.

    For an event loop, which cannot wait until a body of thousands of bad items is decoded. `model`
    is the one whose lane the pack came by, and the only one that it may ask for. `opening` opens
    a body that is sealed.
    """

    def decode() -> Decoded | None:
        check_size(body, settings.largest_pack)
        if redelivered:
            return None
        if opening is not None and takes_long(body, content_type):
            return None
        return decode_at_once(
            body if opening is None else opening(body),
            content_type,
            max_item_bytes=settings.max_item_bytes,
            max_data_bytes=settings.largest_data,
            max_items=settings.max_pack_items,
        )

    return _pack(body, decode, model)


def read(
    body: bytes,
    content_type: str | None,
    settings: Settings,
    model: str | None = None,
    opening: Opening | None = None,
) -> Pack:
    """As `glanced`, but all of it: what is wrong with the body becomes the pack's error."""

    def decode() -> Decoded:
        check_size(body, settings.largest_pack)
        return decode_request(
            body if opening is None else opening(body),
            content_type,
            max_item_bytes=settings.max_item_bytes,
            max_data_bytes=settings.largest_data,
            max_items=settings.max_pack_items,
            max_bytes=settings.largest_pack,
        )

    return _pack(body, decode, model)


def _pack(body: bytes, decode: Callable[[], Decoded | None], model: str | None) -> Pack:
    try:
        decoded = decode()
    except MessageError as error:
        code = error.code if isinstance(error, SealError) else Code.MALFORMED
        fault = ItemError(code=code, message=str(error))
        return Pack(None, error=fault, size=len(body))
    request, faults = decoded or (None, {})
    if request is not None and model is not None and request.model != model:
        # Who may write into one lane may not have another's model.
        words = f"it asks for model {request.model!r} in a lane of {model!r}"
        fault = ItemError(code=Code.MALFORMED, message=words)
        return Pack(request, faults, fault, size=len(body))
    return Pack(request, faults, size=len(body))


def failed_reply(pack: Pack, fault: ItemError, worker: str) -> Reply:
    """The same error for every item of a pack."""
    if pack.request is None:
        return Reply(model="", results=[], worker=worker, error=pack.error or fault)
    request = pack.request
    return Reply(model=request.model, results=failed(request.items, fault), worker=worker)
