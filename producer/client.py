"""The client: publish packs, wait for their replies."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sized
from types import TracebackType
from typing import Any, Literal, Self

from lmaas.broker_config import metrics
from lmaas.broker_config.codes import Code, meaning
from lmaas.broker_config.connection import check_process
from lmaas.broker_config.errors import (
    BrokerUnavailable,
    ItemFailed,
    LmaasError,
    MessageError,
    ModelError,
    SealError,
    TimeLimitExceeded,
)
from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, ItemError, ModelCard, Options, Reply, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.asking import asked
from lmaas.producer.cancelling import Cancelling
from lmaas.producer.entries import single_item
from lmaas.producer.linger import Linger
from lmaas.producer.packer import places
from lmaas.producer.packing import Entries, packs
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.remaining import Remaining
from lmaas.producer.replies import Replies
from lmaas.producer.window import windowed

#: What to do with an item that could not be classified: hand it out, or raise ItemFailed.
Errors = Literal["return", "raise"]


class Client:
    """Sends work to the queue and waits for the answers.

    >>> async with Client() as client:
    ...     result = await client.classify("sentiment", "What a film!")

    Without `async with` there are `open` and `close`. It belongs to the event loop and to the
    process in which it was opened: in a child of `os.fork` every call raises BrokerUnavailable.
    """

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        """Settings as a value, or single ones by name: `Client(broker_url=...)`."""
        self.settings = settings or Settings.load(**arguments)
        self.id = uuid.uuid4().hex
        #: Called with each reply that comes, beside whoever waits for it; they must not raise.
        self.observers: list[Callable[[Reply], None]] = []
        #: None while it is not open.
        self._stack: contextlib.AsyncExitStack | None = None
        self._process = 0

    async def open(self) -> None:
        """Connect; nothing, when it is open. Raises BrokerUnavailable or BrokerRefused."""
        if self._stack is not None:
            check_process(self._process)
            return
        async with contextlib.AsyncExitStack() as stack:
            self._publisher, self._replies = self._ends()
            await stack.enter_async_context(self._publisher)
            await stack.enter_async_context(self._replies.session)
            stack.push_async_callback(self._replies.close)
            self._cancelling = Cancelling(self._publisher, self._replies.queue_name)
            stack.push_async_callback(self._cancelling.close)
            self._linger = Linger(
                self.settings, self._send, self._publisher.seconds, self._why_silent
            )
            stack.push_async_callback(self._linger.close)
            self._process = os.getpid()
            self._stack = stack.pop_all()

    async def close(self) -> None:
        """Who still waits for an answer gets BrokerUnavailable. It may be opened again.

        In a child of `os.fork` it leaves the connection alone, which is the parent's.
        """
        stack, self._stack = self._stack, None
        if stack is not None and self._process == os.getpid():
            await stack.aclose()

    async def __aenter__(self) -> Self:
        """Raises BrokerUnavailable or BrokerRefused."""
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_ready(self) -> bool:
        """Whether its connections are up; for the readiness of a service that uses it."""
        is_open = self._stack is not None
        return is_open and self._publisher.is_up and self._replies.session.is_up

    def _ends(self) -> tuple[PackPublisher, Replies]:
        """Where packs go in and where replies come out; `lmaas.testing` has others."""
        publisher = PackPublisher(self.settings, f"client {self.id} publish")
        return publisher, Replies(self.settings, self.id)

    def _check_open(self) -> None:
        if self._stack is None:
            state = "was closed" if self._process else "is not connected"
            raise BrokerUnavailable(
                f"the client {state}; use `async with Client() as ...`, or `await client.open()`"
            )
        check_process(self._process)

    async def classify(
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
        """Classify one text, or an Item, whose id the result then has.

        Below `min_score` the label is `unsure`; None: below what the model says, if it does. Of a
        model with several labels an item `labels` has those that have this score, or 0.5.

        Calls at the same time share messages. One that is cancelled before its message leaves is
        not sent. `tenant` is as in `classify_many`; a message that calls for several tenants share
        counts for the service that asks. Raises ItemFailed for what cannot be classified
        (`errors="return"` returns it as a result), ModelNotFound, TimeLimitExceeded after
        `timeout` seconds, Busy when too many wait already, BrokerError.
        """
        self._check_open()
        model, version, top_k, min_score = asked(model, version, top_k, min_score)
        limit = self._patience(timeout)
        checked = single_item(item, self.settings)
        if checked.error is not None:
            return _or_raise(Result(id=checked.id, error=checked.error), errors)
        answer = self._linger.add((model, version, top_k, min_score, limit), checked, tenant)
        try:
            return _or_raise(await answer, errors)
        except asyncio.CancelledError:
            self._linger.given_up(answer)
            raise

    async def classify_many(
        self,
        model: str,
        items: Entries,
        *,
        version: str | None = None,
        top_k: int = 0,
        min_score: float | None = None,
        ordered: bool = True,
        errors: Errors = "return",
        timeout: float | None = None,
        tenant: str | None = None,
    ) -> AsyncGenerator[Result, None]:
        """Classify texts, pairs of id and text, or Items, of any number, in bounded memory.

        `items` is any iterable or asynchronous iterable; results come in its order, or with
        `ordered=False` as they are completed. `timeout` is the longest time without any answer.
        `tenant` is for whom a service asks, which workers believe those users of the broker that
        are in their setting `gateway_users`.

        Raises as `classify` does; an item's error is a result unless `errors="raise"`.
        """
        self._check_open()
        model, version, top_k, min_score = asked(model, version, top_k, min_score)
        options = Options(top_k=top_k, min_score=min_score)
        patience = self._patience(timeout)
        if not self._publisher.knows(model):
            await self._publisher.introduced(model)
        estimate = functools.partial(self._publisher.seconds, model)
        ranking = Remaining(estimate, len(items) if isinstance(items, Sized) else None)

        async def run(pack: list[Item]) -> Reply:
            request = Request(model=model, version=version, items=pack, options=options)
            headers = Headers(remaining=ranking.next(pack), tenant=tenant)
            return await self._exchange(request, patience, headers, wait=True)

        async with (
            contextlib.aclosing(packs(items, self.settings, estimate)) as source,
            contextlib.aclosing(
                windowed(source, run, self.settings.window, places, ordered=ordered)
            ) as replies,
        ):
            async for reply in replies:
                for result in reply.results:
                    yield _or_raise(result, errors)

    async def run(self, request: Request, *, timeout: float | None = None) -> Reply:
        """Send a pack and wait for its reply.

        A long queue is no reason to give up: the time limit counts from the last answer of any
        pack of this client. A full one is waited for as long. Raises ModelNotFound, ModelDamaged,
        TimeLimitExceeded, BrokerError.
        """
        self._check_open()
        return await self._exchange(request, self._patience(timeout), Headers(), wait=True)

    def seconds(self, model: str, items: int, size: int) -> float:
        """What a pack of `items` of `size` bytes is expected to take, as was learnt from
        answers.
        """
        return self._publisher.seconds(model, items, size)

    def of_file(self, file: uuid.UUID) -> FileClient:
        """This client's `run` for the packs of a file, by which the same pack is known again."""
        return FileClient(self, file)

    async def models(self, model: str | None = None) -> list[ModelCard]:
        """A card of each version of each model (or of one) that answers at this moment.

        None of a model that no worker serves now. Raises BrokerUnavailable.
        """
        self._check_open()
        return await self._publisher.cards(model)

    async def card(self, model: str) -> ModelCard | None:
        """What the first worker that answers says of a model; None when none serves it now.

        Raises BrokerUnavailable.
        """
        self._check_open()
        return await self._publisher.introduced(model)

    async def version(self, model: str) -> str | None:
        """The version that is current for a worker; None when none serves the model now.

        Raises BrokerUnavailable.
        """
        card = await self.card(model)
        return card.version if card else None

    async def workers(self, model: str) -> int:
        """How many workers serve the model at this moment. Raises BrokerUnavailable."""
        self._check_open()
        return await self._publisher.consumers(model)

    def _patience(self, timeout: float | None) -> float:
        seconds = self.settings.timeout if timeout is None else float(timeout)
        if math.isnan(seconds):
            raise ValueError("timeout is not a number of seconds: nan")
        return seconds

    async def _send(self, request: Request, seconds: float, tenant: str | None) -> Reply:
        """A pack of single calls, whose callers give up after `seconds`."""
        deadline = self._replies.clocks.deadline_ms(time.time(), seconds)
        headers = Headers(deadline_ms=deadline, tenant=tenant)
        reply = await self._exchange(request, seconds, headers)
        if _is_late(reply):
            # They have not given up: the worker's clock is another one. What it shows is known from
            # now on; as another worker's may differ again, this time there is no deadline.
            reply = await self._exchange(request, seconds, Headers(tenant=tenant))
        return reply

    async def _exchange(
        self,
        request: Request,
        patience: float,
        headers: Headers,
        *,
        wait: bool = False,
        name: uuid.UUID | None = None,
    ) -> Reply:
        """With `wait` a full lane is waited for. Packs of one `name` are one sent again."""
        if name is None or self._replies.expects(name.hex):
            name = uuid.uuid4()
        correlation_id = name.hex
        answer = self._replies.expect(correlation_id, request.model)
        try:
            size = await self._publisher.publish_patiently(
                request,
                patience if wait else 0.0,
                reply_to=self._replies.queue_name,
                correlation_id=correlation_id,
                headers=headers,
            )
            reply = await self._patiently(answer, patience, request.model)
        except asyncio.CancelledError:
            if self._stack is not None:  # else the queue for the answer goes, which tells the same
                self._cancelling.give_up(request.model, correlation_id)
            raise
        finally:
            self._replies.forget(correlation_id)
        metrics.answered(reply)
        for observe in self.observers:
            observe(reply)
        if reply.error is not None:
            raise refusal(reply.error)
        if reply.timings is not None and reply.timings.cost > 0:
            self._publisher.learn(request.model, len(request.items), size, reply.timings.cost)
        if len(reply.results) != len(request.items):
            raise MessageError(
                f"worker {reply.worker} sent {len(reply.results)} results for "
                f"{len(request.items)} items"
            )
        return reply

    async def _patiently(self, answer: asyncio.Future[Reply], patience: float, model: str) -> Reply:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while not answer.done():
            quiet_since = max(asked, self._replies.last_arrival)
            left = quiet_since + patience - loop.time()
            if left <= 0:
                raise TimeLimitExceeded(
                    f"no answer from model {model!r} for {patience:g} s; {self._why_silent()}"
                )
            await asyncio.wait([answer], timeout=left)
        return answer.result()

    def _why_silent(self) -> str:
        """Why there may be no answer, as far as is known."""
        for session in (self._publisher, self._replies.session):
            if not session.is_up:
                why = f": {session.trouble}" if session.trouble else ""
                return f"the connection is lost{why}"
        return str(self._publisher.silence or "is a worker running?")


class FileClient:
    """Sends the packs of one file; `broker_config.dead_letter_ids` says what its name is for."""

    def __init__(self, client: Client, file: uuid.UUID) -> None:
        self._client = client
        self._file = file

    @property
    def results(self) -> str:
        """The queue that its packs are answered to."""
        return self._client._replies.queue_name

    async def follow(self, results: str) -> None:
        """Take the place of a client that is gone, and was answered to this queue.

        The queue is deleted, so that workers do not run what it has sent. Where somebody still
        takes from it, nothing is done. Raises BrokerUnavailable.
        """
        if self._client.settings.names.address(results):
            await self._client._publisher.delete_unused(results)

    async def run(self, request: Request) -> Reply:
        """As `Client.run`."""
        client = self._client
        name = uuid.uuid5(self._file, request.items[0].id)
        patience = client.settings.timeout
        return await client._exchange(request, patience, Headers(), wait=True, name=name)

    def seconds(self, model: str, items: int, size: int) -> float:
        """As `Client.seconds`."""
        return self._client.seconds(model, items, size)


def _is_late(reply: Reply) -> bool:
    """Whether a worker found that the deadline of the pack, and so of each item, has passed."""
    error = reply.results[0].error if reply.results else None
    return error is not None and error.code == Code.DEADLINE_EXCEEDED


def _or_raise(result: Result, errors: Errors) -> Result:
    if result.error is not None and errors == "raise":
        raise ItemFailed(result.id, result.error.code, result.error.message)
    return result


def refusal(error: ItemError) -> LmaasError:
    """The exception for a pack that was refused as a whole."""
    kind = meaning(error.code).error
    if kind is SealError:
        return SealError(f"the worker refused the pack: {error.message}", error.code)
    by_itself = issubclass(kind, ModelError)
    return kind(error.message if by_itself else f"the worker refused the pack: {error.message}")
