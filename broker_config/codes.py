"""Why an item or a pack was not classified, and what that means to each who meets it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lmaas.broker_config.errors import (
    LmaasError,
    MessageError,
    ModelDamaged,
    ModelNotFound,
    SealError,
    TimeLimitExceeded,
)


class Code(StrEnum):
    """Why an item or a pack was not classified."""

    EMPTY_TEXT = "empty_text"
    NOT_TEXT = "not_text"
    INVALID_UTF8 = "invalid_utf8"
    TOO_LARGE = "too_large"
    INVALID_ITEM = "invalid_item"
    MALFORMED = "malformed"
    #: It is sealed, and there are no payload keys here; or not the one that it names.
    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    #: It is not what somebody with the key has sealed for this place.
    SEAL_BROKEN = "seal_broken"
    #: It is not sealed, and there are payload keys here.
    NOT_SEALED = "not_sealed"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_VERSION = "unknown_version"
    MODEL_DAMAGED = "model_damaged"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    #: The item, and nothing beside it, ended the process that ran it; or took too long.
    POISON = "poison"
    TIME_LIMIT = "time_limit"
    OUT_OF_MEMORY = "out_of_memory"
    #: The worker's machine failed: a file that cannot be read, a process that does not start.
    UNAVAILABLE = "unavailable"
    #: Nobody takes the answer, for now or for ever.
    RESULTS_GONE = "results_gone"
    INTERNAL = "internal"
    #: Not from a worker: a row of a file that could not be read.
    UNREADABLE_ROW = "unreadable_row"
    #: Not from a worker: somebody has removed the item (`lmaas purge --id`).
    PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What follows from a code."""

    #: HTTP's status for a request that has failed so as a whole.
    status: int
    #: What a client raises for a pack that was refused as a whole.
    error: type[LmaasError] = LmaasError
    #: It may be gone the next time, perhaps on another worker: the pack is delayed and tried again.
    transient: bool = False
    #: It is not the sender's to mend: an item that fails so becomes a dead letter, for people to
    #: look at. A pack that is refused as a whole becomes one too, whatever its code.
    dead_lettered: bool = False
    #: Its words may quote what was sent: where that is sealed, they are in the answer only.
    quotes: bool = False


MEANINGS: Final = {
    Code.EMPTY_TEXT: Meaning(422),
    Code.NOT_TEXT: Meaning(422),
    Code.INVALID_UTF8: Meaning(422),
    Code.TOO_LARGE: Meaning(413, MessageError),
    Code.INVALID_ITEM: Meaning(422, quotes=True),
    Code.MALFORMED: Meaning(400, MessageError, quotes=True),
    Code.KEY_MISSING: Meaning(503, SealError, transient=True, dead_lettered=True),
    Code.KEY_UNKNOWN: Meaning(503, SealError, transient=True, dead_lettered=True),
    # Who calls over HTTP seals nothing: the gateway and the workers do not agree.
    Code.SEAL_BROKEN: Meaning(502, SealError),
    Code.NOT_SEALED: Meaning(502, SealError),
    Code.UNKNOWN_MODEL: Meaning(404, ModelNotFound),
    Code.UNKNOWN_VERSION: Meaning(404, ModelNotFound),
    Code.MODEL_DAMAGED: Meaning(503, ModelDamaged),
    Code.DEADLINE_EXCEEDED: Meaning(504, TimeLimitExceeded),
    Code.POISON: Meaning(500, dead_lettered=True),
    Code.TIME_LIMIT: Meaning(504, TimeLimitExceeded, dead_lettered=True),
    Code.OUT_OF_MEMORY: Meaning(503, transient=True, dead_lettered=True, quotes=True),
    Code.UNAVAILABLE: Meaning(503, transient=True, dead_lettered=True, quotes=True),
    Code.RESULTS_GONE: Meaning(503, transient=True, dead_lettered=True),
    Code.INTERNAL: Meaning(500, dead_lettered=True, quotes=True),
    Code.UNREADABLE_ROW: Meaning(422, quotes=True),
    Code.PURGED: Meaning(410),
}

#: Of a code that is newer than this version.
_UNKNOWN: Final = Meaning(500, quotes=True)


def meaning(code: str) -> Meaning:
    """Of any text; a worker that is newer than us may send a code that we do not know."""
    try:
        return MEANINGS[Code(code)]
    except ValueError:
        return _UNKNOWN
