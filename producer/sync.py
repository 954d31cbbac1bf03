"""The synchronous twin of the client, for scripts and notebooks."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import selectors
import threading
import weakref
from collections.abc import Coroutine, Iterable, Iterator
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from lmaas.broker_config.connection import check_process
from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.messages import Item, ModelCard, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client, Errors
from lmaas.producer.entries import Entry

T = TypeVar("T")

#: Seconds that the end of the program may wait for the broker.
EXIT_TIMEOUT: Final = 3.0

_CLOSED: Final = "the client is closed; `open()` connects it again"
#: Of the loops that run.
_selectors: weakref.WeakSet[selectors.BaseSelector] = weakref.WeakSet()


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class SyncClient:
    """`Client` on an event loop of its own, in a thread: works where a loop runs already.

    >>> with SyncClient() as client:
    ...     print(client.classify("sentiment", "What a film!").label)

    Without `with`, as in a notebook, the first call connects, and the end of the program closes.
    Several threads may share it. It belongs to the process in which it has connected: in a child of
    `os.fork` every call raises BrokerUnavailable. One that has not connected yet can be used there.
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        """Settings as a value, or single ones by name: `SyncClient(broker_url=...)`."""
        self._client = Client(settings, **arguments)
        #: Held by who opens or closes; the other one by who gives work to the loop.
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._state = _State.NEW

    def open(self) -> None:
        """Connect; nothing, when it is open. Raises BrokerUnavailable or BrokerRefused.

        A client that was closed is open again then.
        """
        if self._loop is not None:
            check_process(self._process)
        if self._process != os.getpid():  # a lock that another thread held stays held in here
            self._process = os.getpid()
            self._changing, self._lock = threading.Lock(), threading.Lock()
        with self._changing:
            if self._state is not _State.OPEN:
                self._start()

    def _start(self) -> None:
        loop = self._loop = _new_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="lmaas client", daemon=True)
        self._thread.start()
        try:
            self._wait(self._client.open())
        except BaseException:
            self._end()
            raise
        self._state = _State.OPEN
        atexit.register(self._at_exit)

    def close(self) -> None:
        """Calls of other threads that wait for an answer raise BrokerUnavailable.

        In a child of `os.fork` it leaves the connection alone, which is the parent's.
        """
        if self._process != os.getpid():
            return
        with self._changing:
            was, self._state = self._state, _State.CLOSED
            if was is not _State.OPEN:
                return
            atexit.unregister(self._at_exit)
            try:
                self._wait(self._client.close())
            finally:
                self._end()

    def _at_exit(self) -> None:
        """As `close`; a broker that does not answer keeps the program no longer than a little."""
        loop = self._loop
        if loop is None or self._process != os.getpid():
            return
        closing = asyncio.run_coroutine_threadsafe(self._client.close(), loop)
        with contextlib.suppress(Exception):
            closing.result(EXIT_TIMEOUT)
            self._end()

    def __enter__(self) -> Self:
        """Raises BrokerUnavailable or BrokerRefused."""
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        return self._client.is_ready

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of what the loop is given to do; connects before the first."""
        if self._state is _State.NEW:
            try:
                self.open()
            except BaseException:
                work.close()
                raise
        return self._wait(work)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            check_process(self._process)
        except BrokerUnavailable:
            work.close()
            raise
        with self._lock:  # nothing is given to a loop that will not run it
            if self._loop is None:
                work.close()
                raise BrokerUnavailable(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _end(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        assert loop is not None
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    def classify(
        self,
        model: str,
        item: str | Item,
        *,
        version: str | None = None,
        top_k: int = 0,
        min_score: float | None = None,
        errors: Errors = "raise",
        timeout: float | None = None,
        tenant: str | None = None,
    ) -> Result:
        """As `Client.classify`. May be called from several threads."""
        return self._call(
            self._client.classify(
                model,
                item,
                version=version,
                top_k=top_k,
                min_score=min_score,
                errors=errors,
                timeout=timeout,
                tenant=tenant,
            )
        )

    def models(self, model: str | None = None) -> list[ModelCard]:
        """As `Client.models`."""
        return self._call(self._client.models(model))

    def classify_many(
        self, model: str, items: Iterable[Entry], **arguments: Any
    ) -> Iterator[Result]:
        """As `Client.classify_many`; `items` is read in the client's thread."""
        results = self._client.classify_many(model, items, **arguments)
        try:
            while (result := self._call(anext(results, None))) is not None:
                yield result
        finally:
            with contextlib.suppress(BrokerUnavailable):  # the client was closed before us
                self._wait(results.aclose())


def _new_loop() -> asyncio.AbstractEventLoop:
    _register()
    selector = selectors.DefaultSelector()
    _selectors.add(selector)
    return asyncio.SelectorEventLoop(selector)


@functools.cache
def _register() -> None:
    """Once, and not before there is a client."""
    os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    """Puts nothing in the place of what the parent's loops watch: the broker's sockets.

    A child that cleans up, at the latest when it ends, would else say goodbye to the broker on the
    parent's connection, and take the parent's sockets out of the epoll that both share. And the
    broker would not see the end of a parent whose child still has its sockets.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for selector in _selectors:
        for key in (selector.get_map() or {}).values():
            os.dup2(nothing, key.fd)
    os.close(nothing)


async def _end_all() -> None:
    """Ends whatever is left on the loop, as `asyncio.run` does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
