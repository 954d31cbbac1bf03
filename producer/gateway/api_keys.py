"""An API key: `lmaas_ID_SECRET`, made once, shown once, and kept as a hash. Pure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Iterable
from typing import Final

from lmaas.producer.gateway.state.keys import Key

#: What a key may allow. With ADMIN everything is allowed, and usage is seen of every key.
CLASSIFY: Final = "classify"
JOBS: Final = "jobs"
ADMIN: Final = "admin"
SCOPES: Final = (CLASSIFY, JOBS, ADMIN)
#: What either of them allows: to see and end one's own jobs, which calls may become, too.
FOLLOW: Final = f"{CLASSIFY} {JOBS}"
#: What every key allows.
ANY: Final = ""

_PREFIX: Final = "lmaas"
_SMALL: Final = string.ascii_lowercase + string.digits
_ALL: Final = string.ascii_letters + string.digits
#: Characters of an id; of a secret: 256 random bits.
_ID: Final = 12
_SECRET: Final = 43
#: A longer one is none of ours.
_MOST: Final = 128


def _random(characters: str, length: int) -> str:
    return "".join(secrets.choice(characters) for _ in range(length))


def make(
    name: str,
    scopes: Iterable[str],
    now: float,
    *,
    expires: float | None = None,
    requests_per_second: float | None = None,
    items_per_second: float | None = None,
    concurrency: int | None = None,
) -> tuple[str, Key]:
    """A new key as its user writes it, and what is kept of it. `expires` is in Unix seconds."""
    own = _random(_SMALL, _ID)
    written = f"{_PREFIX}_{own}_{_random(_ALL, _SECRET)}"
    kept = Key(
        id=own,
        hash=_hash(written),
        name=name,
        scopes=" ".join(sorted(set(scopes))),
        created=now,
        expires=expires,
        requests_per_second=requests_per_second,
        items_per_second=items_per_second,
        concurrency=concurrency,
    )
    return written, kept


def id_of(written: str) -> str | None:
    """The id that a key names; None of what cannot be a key."""
    prefix, _, rest = written.partition("_")
    own, _, secret = rest.partition("_")
    well_formed = prefix == _PREFIX and len(own) == _ID and secret and len(written) <= _MOST
    return own if well_formed else None


def is_right(key: Key, written: str, now: float) -> bool:
    """Whether it is this key, and may still be used. The time does not tell how much is right."""
    same = hmac.compare_digest(key.hash, _hash(written))
    return same and not key.disabled and (key.expires is None or now < key.expires)


def _hash(written: str) -> bytes:
    # Nobody guesses 256 random bits, so that a slow hash would only cost time in every request.
    return hashlib.sha256(written.encode("utf-8", "surrogateescape")).digest()
