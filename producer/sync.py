"""The synchronous twin of the client, for scripts and notebooks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from lmaas.broker_config.errors import BrokerUnavailable
from lmaas.broker_config.messages import Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.client import Client, Errors
from lmaas.producer.packing import Entry

T = TypeVar("T")


class SyncClient:
    """`Client` on an event loop of its own, in a thread: works where a loop runs already.

    >>> with SyncClient() as client:
    ...     print(client.classify("sentiment", "What a film!").label)
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        """Settings as a value, or single ones by name: `SyncClient(broker_url=...)`."""
        self._client = Client(settings, **arguments)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        """Raises BrokerUnavailable or BrokerRefused."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="lmaas client", daemon=True)
        self._thread.start()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._client.__aexit__(kind, error, traceback))
        finally:
            self._end()

    @property
    def is_ready(self) -> bool:
        """As `Client.is_ready`."""
        return self._client.is_ready

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:  # nothing is given to a loop that will not run it
            if self._loop is None:
                work.close()
                raise BrokerUnavailable("the client is closed; use it inside `with`")
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
        text: str,
        *,
        version: str | None = None,
        top_k: int = 0,
        errors: Errors = "raise",
        timeout: float | None = None,
    ) -> Result:
        """As `Client.classify`. May be called from several threads."""
        return self._wait(
            self._client.classify(
                model, text, version=version, top_k=top_k, errors=errors, timeout=timeout
            )
        )

    def classify_many(
        self, model: str, texts: Iterable[Entry], **arguments: Any
    ) -> Iterator[Result]:
        """As `Client.classify_many`; `texts` is read in the client's thread."""
        results = self._client.classify_many(model, texts, **arguments)
        try:
            while (result := self._wait(anext(results, None))) is not None:
                yield result
        finally:
            with contextlib.suppress(BrokerUnavailable):  # the client was closed before us
                self._wait(results.aclose())


async def _end_all() -> None:
    """Ends whatever is left on the loop, as `asyncio.run` does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
