"""The identity of a dead letter: a pack that fails twice is one, wherever it is read. Pure.

A pack may be dead-lettered twice: it is delivered again when its worker was lost between the dead
letter and the ack, and sent again by a producer that was killed and resumed. No worker knows of the
other, so the message id of a dead letter is made of what both times have in common, and who reads
the dead letter queue passes over the second one.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Request, encode

#: Ids of our own packs: two that are sent have different ones, unless one is the other sent again.
_OURS: Final = re.compile(r"[0-9a-f]{32}")
#: A UUID of version 5 is made of a name; all other ids that LMaaS gives are random, version 4.
_NAMED: Final = re.compile(r"[0-9a-f]{12}5[0-9a-f]{3}[89ab][0-9a-f]{15}")


def dead_letter_id(
    headers: Headers,
    *,
    correlation_id: str | None,
    reply_to: str | None,
    content: Request | bytes,
    digest_key: bytes = b"",
) -> str:
    """The message id of a dead letter: of its items, or the body that nobody could read.

    With a key nobody who lacks that can try out which items they are.

    The same for the same content of the same pack: of a chunk of a job, or of a pack whose
    correlation id is one of ours. Any other one is a dead letter of its own, and so is one that was
    replayed and failed again.
    """
    if headers.job is not None and headers.chunk is not None and reply_to:
        pack = f"{reply_to} {headers.chunk}"
    elif correlation_id and _OURS.fullmatch(correlation_id):
        pack = correlation_id
    else:
        return uuid.uuid4().hex
    pack_bytes = f"{pack} {headers.replays} ".encode()
    digest = hashlib.blake2b(pack_bytes, digest_size=16, key=digest_key)
    if isinstance(content, Request):  # without the version, to which a run of a file stays later
        content = encode(Request(model=content.model, items=content.items))
    digest.update(content)
    return uuid.UUID(bytes=digest.digest(), version=5).hex


def has_duplicates(message_id: str | None) -> bool:
    """Whether another dead letter with this id is a duplicate of it."""
    return message_id is not None and _NAMED.fullmatch(message_id) is not None
