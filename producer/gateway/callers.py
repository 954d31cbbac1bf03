"""Who calls: the API keys in memory, how much of its limits each has used, and what is counted.

A request costs no access to the database. One task looks every PERIOD seconds whether keys were
added, changed or deleted, and adds what was counted to the table of usage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lmaas.broker_config.repeats import Repeats
from lmaas.producer.gateway.api_keys import ADMIN, ANY, id_of, is_right
from lmaas.producer.gateway.buckets import Bucket
from lmaas.producer.gateway.failures import RETRY_AFTER, HttpError
from lmaas.producer.gateway.state import State
from lmaas.producer.gateway.state import keys as keys_table
from lmaas.producer.gateway.state import usage as usage_table
from lmaas.producer.gateway.state.keys import Key
from lmaas.producer.gateway.state.usage import Tally

log = logging.getLogger(__name__)

#: Seconds after which a change of a key counts, and after which counts are written, at most.
PERIOD: Final = 2.0
#: Seconds between two looks for keys that nobody knows yet.
PAUSE: Final = 0.2
#: Seconds between two notes of when a key was used last.
USED: Final = 60.0
#: What is raised when the database cannot be used.
_AWAY: Final = (DBAPIError, PoolTimeout, OSError)


class Tallies:
    """What has been asked for since it was written last, by owner."""

    def __init__(self) -> None:
        self._current: dict[str, Tally] = {}

    def of(self, owner: str) -> Tally:
        if (tally := self._current.get(owner)) is None:
            tally = self._current[owner] = Tally()
        return tally

    @contextlib.contextmanager
    def written(self) -> Iterator[dict[str, Tally]]:
        """All of them, to be written in this context; they stay when that fails."""
        taken, self._current = self._current, {}
        try:
            yield taken
        except BaseException:
            for owner, tally in taken.items():
                self.of(owner).add(tally)
            raise


class Caller:
    """One key, or everybody where access is open."""

    def __init__(self, tallies: Tallies, key: Key | None = None) -> None:
        self._tallies = tallies
        self.owner = key.id if key else ""
        self._in_flight = 0
        self._take_limits(key)

    def renew(self, key: Key) -> None:
        """The key has changed."""
        if key != self.key:
            self._take_limits(key)

    def _take_limits(self, key: Key | None) -> None:
        self.key = key
        self._scopes = frozenset(key.scopes.split() if key else (ADMIN,))
        self._concurrency = key.concurrency if key else None
        self._buckets = {
            name: Bucket(rate)
            for name, rate in (
                ("Requests", key.requests_per_second if key else None),
                ("Items", key.items_per_second if key else None),
            )
            if rate is not None
        }

    @property
    def is_admin(self) -> bool:
        return ADMIN in self._scopes

    def allows(self, scope: str) -> bool:
        """Whether it may do what has this scope, or one of several with spaces between."""
        allowed = self._scopes
        return self.is_admin or scope == ANY or any(one in allowed for one in scope.split())

    def begin(self) -> None:
        """A request; `end` follows. Raises HttpError 429 when it is one too many."""
        self._tallies.of(self.owner).requests += 1
        if self._concurrency is not None and self._in_flight >= self._concurrency:
            raise _too_many(
                f"{self._in_flight} requests of this key are being answered, which is its limit",
                RETRY_AFTER,
            )
        self._take("Requests", 1)
        self._in_flight += 1

    def end(self, size: int) -> None:
        """A request that had a body of `size` bytes is answered."""
        self._in_flight -= 1
        self._tallies.of(self.owner).bytes += size

    def charge(self, items: int) -> None:
        """A call with so many items. Raises HttpError 429 when they are too many for now."""
        self._take("Items", items)
        self.count_items(items)

    def count_items(self, items: int) -> None:
        """What is not limited, as the items of a job."""
        self._tallies.of(self.owner).items += items

    def count_error(self) -> None:
        self._tallies.of(self.owner).errors += 1

    def _take(self, name: str, amount: int) -> None:
        bucket = self._buckets.get(name)
        if bucket is not None and (wait := bucket.take(amount)):
            raise _too_many(
                f"this key may have {bucket.rate:g} {name.lower()} a second; try again in "
                f"{wait:.3g} s",
                wait,
            )

    @property
    def headers(self) -> dict[str, str]:
        """What is left of its limits, for the answer."""
        told: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            level = bucket.level
            told[f"X-RateLimit-Limit-{name}"] = f"{bucket.size:g}"
            told[f"X-RateLimit-Remaining-{name}"] = str(max(0, int(level + 1e-9)))
            told[f"X-RateLimit-Reset-{name}"] = f"{bucket.wait(bucket.size):.3f}"
        return told


def _too_many(message: str, wait: float) -> HttpError:
    return HttpError(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", message, wait)


class Callers:
    """All who may call.

    >>> async with Callers(state, with_keys=True) as callers:
    ...     caller = await callers.of("lmaas_...")
    """

    def __init__(self, state: State, *, with_keys: bool) -> None:
        self._state = state
        self._with_keys = with_keys
        self._tallies = Tallies()
        self._known: dict[str, Caller] = {}
        self._seen: tuple[int, int] | None = None
        self._looking = asyncio.Lock()
        self._flushing = asyncio.Lock()
        self._looked = float("-inf")
        self._noted: dict[str, float] = {}
        self._repeats = Repeats()
        #: Who calls without a key, where access is open.
        self.anybody = Caller(self._tallies)

    async def __aenter__(self) -> Self:
        if self._with_keys:
            await self._look()
            if not self._known:
                log.warning(
                    "there is no API key yet: `lmaas gateway keys create --name NAME --scope "
                    "classify --scope jobs` makes one",
                    extra={"action": "no_key"},
                )
        self._task = asyncio.create_task(self._work(), name="keys and usage")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._trying(self.flush())

    async def of(self, written: str) -> Caller | None:
        """Whose key it is, if it is one that may be used now.

        Raises what the database raises, when nobody here knows it.
        """
        name = id_of(written)
        if name is None:
            return None
        if name not in self._known:
            await self._look()
        caller = self._known.get(name)
        if caller is None or caller.key is None or not is_right(caller.key, written, time.time()):
            return None
        return caller

    def count_items(self, owner: str, items: int) -> None:
        """What is done for an owner who does not wait for it."""
        self._tallies.of(owner).items += items

    async def _look(self) -> None:
        """Keys as they are in the database at some moment after this call."""
        asked = time.monotonic()
        async with self._looking:
            if self._looked >= asked:
                return
            await asyncio.sleep(self._looked + PAUSE - time.monotonic())
            began = time.monotonic()
            async with self._state.reading() as connection:
                seen = await keys_table.state(connection)
                if seen != self._seen:
                    self._renew(await keys_table.every(connection))
            self._seen, self._looked = seen, began

    def _renew(self, keys: list[Key]) -> None:
        before, self._known = self._known, {}
        for key in keys:
            if (caller := before.get(key.id)) is None:
                caller = Caller(self._tallies, key)
            caller.renew(key)
            self._known[key.id] = caller

    async def flush(self) -> None:
        """Add what was counted to the table: all of it is there when this returns.

        Raises what the database raises.
        """
        async with self._flushing:  # what another flush has taken is not there yet
            await self._flush()

    async def _flush(self) -> None:
        with self._tallies.written() as tallies:
            if not tallies:
                return
            now = time.time()
            due = [
                owner for owner in tallies if owner and now - self._noted.get(owner, 0.0) >= USED
            ]
            day = datetime.fromtimestamp(now, UTC).date().isoformat()
            async with self._state.writing() as connection:
                await usage_table.add(connection, day, tallies)
                if due:
                    await keys_table.used(connection, due, now)
            self._noted.update(dict.fromkeys(due, now))

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            if self._with_keys:
                await self._trying(self._look())
            await self._trying(self.flush())

    async def _trying(self, step: Coroutine[Any, Any, None]) -> None:
        """What is known stays valid while the database is away."""
        try:
            await step
        except _AWAY as error:
            words = f"keys and usage: the database cannot be used: {error}"
            if self._repeats.is_due(words):
                log.warning("%s", words, extra={"action": "state_away"})
        except Exception:
            log.exception("keys and usage", extra={"action": "bug"})
