"""Clients for your tests: the real ones, on a service that is in this process instead of a broker.

    client = testing.SyncClient({"What a film!": "positive"})
    assert client.classify("sentiment", "What a film!").label == "positive"
    assert client.calls == [testing.Call("sentiment", "What a film!")]

Everything above the queue is the code that runs in production: checks of texts, packs, ids, order,
time limits, errors. What the broker and the workers would do is `Service`. Code that makes its own
clients is tested with the pytest fixture `lmaas_service` (see docs/testing.md).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import msgspec

from lmaas.broker_config.connection import Session
from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import LmaasError, ModelNotFound
from lmaas.broker_config.messages import (
    CANCEL,
    MSGPACK,
    UNSURE,
    Item,
    ItemError,
    ModelCard,
    Options,
    Reply,
    Request,
    Result,
    Tensor,
    encode,
    plain,
)
from lmaas.broker_config.scheduling import GUESS
from lmaas.broker_config.seals import Seals
from lmaas.broker_config.server import LARGEST_MESSAGE
from lmaas.broker_config.settings import Settings
from lmaas.producer import client as real
from lmaas.producer import sync as real_sync
from lmaas.producer.publishing import PackPublisher
from lmaas.producer.replies import Replies
from lmaas.workers.repository import Repository

if TYPE_CHECKING:
    from lmaas.workers.answering import Answerer

#: What an item is to be judged by: its text; its text and the second one; its bytes; its tensors.
Content = str | tuple[str, str] | bytes | Mapping[str, Tensor]
#: What an item gets: a label; a label and its score; the score of each label; a list of labels, as
#: of a model that gives several; an error as its result; or an exception, as Busy, which ends the
#: call (and those that share its message).
Answer = str | tuple[str, float] | Mapping[str, float] | list[str] | ItemError | LmaasError
#: An answer for each content, or a function of the content, which may also raise. Tensors are no
#: keys of a mapping: they take a function.
Answers = Mapping[Any, Answer] | Callable[[Any], Answer]

#: In the replies, where a worker has its name.
WORKER: Final = "lmaas.testing"
DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class Call:
    """An item that has reached the service."""

    model: str
    content: Content
    version: str | None = None
    top_k: int = 0
    media_type: str | None = None

    @property
    def text(self) -> str | None:
        """The text, of two the first; None of an item without one."""
        first = self.content[0] if isinstance(self.content, tuple) else self.content
        return first if isinstance(first, str) else None


class Service:
    """What answers the clients that are connected to it. All of it may be changed at any time."""

    def __init__(
        self,
        answers: Answers | None = None,
        *,
        serves: Collection[str] | None = None,
        delay: float = 0.0,
    ) -> None:
        """Without `answers` the models run in this process (setting `models`; needs lmaas[worker]).

        `serves` names the models that there are; None: those of the folder, or with `answers` any.
        A reply comes `delay` seconds after its request.
        """
        self.answers = answers
        self.serves = serves
        self.delay = delay
        #: The items that have come, in their order.
        self.calls: list[Call] = []

    def ends(self, settings: Settings, client: str) -> tuple[PackPublisher, Replies]:
        """The two ends of the queue, for a client."""
        replies = _Replies(settings, client)
        return _Publisher(self, settings, replies), replies

    def check_served(self, model: str, settings: Settings) -> None:
        """Raises ModelNotFound."""
        served = self.serves
        if served is None and self.answers is None:
            served = Repository(*settings.model_folders).models()
        if served is not None and model not in served:
            known = ", ".join(sorted(served)) or "none"
            raise ModelNotFound(f"no worker has ever served model {model!r} (served here: {known})")

    async def cards(self, settings: Settings, model: str | None) -> list[ModelCard]:
        """Of the models that there are; of a service with answers those that it `serves`."""
        served = self.serves
        if served is None and self.answers is None:
            served = Repository(*settings.model_folders).models()
        names = [name for name in sorted(served or [model or ""]) if name and model in {None, name}]
        if self.answers is None:
            return await asyncio.to_thread(_cards, names, settings)
        return [_canned_card(name, settings) for name in names]

    async def reply(self, body: bytes, settings: Settings) -> Reply:
        """The reply to the body of a request. Raises what an answer says or its function raises."""
        request, faults = decode_request(
            body,
            MSGPACK,
            max_item_bytes=settings.max_item_bytes,
            max_data_bytes=settings.largest_data,
            max_items=settings.max_pack_items,
            max_bytes=settings.largest_pack,
        )
        self.calls += [
            Call(
                request.model,
                _content(item),
                request.version,
                request.options.top_k,
                item.media_type,
            )
            for place, item in enumerate(request.items)
            if place not in faults
        ]
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.answers is None:
            return await asyncio.to_thread(_run, body, settings)
        return Reply(
            model=request.model,
            version=request.version,
            worker=WORKER,
            results=[
                self._result(item, faults.get(place), request)
                for place, item in enumerate(request.items)
            ],
        )

    def _result(self, item: Item, fault: ItemError | None, request: Request) -> Result:
        if fault is not None:
            return Result(id=item.id, error=fault)
        return result_of(item.id, self._answer(_content(item)), request.options)

    def _answer(self, content: Content) -> Answer:
        assert self.answers is not None
        if not isinstance(self.answers, Mapping):
            return self.answers(content)
        if isinstance(content, Mapping):
            raise AssertionError(
                "lmaas.testing cannot look tensors up in a mapping of answers: give it a function"
            )
        try:
            return self.answers[content]
        except KeyError:
            kind = "text" if isinstance(content, str) else "content"
            words = f"lmaas.testing has no answer for the {kind} {content!r}"
            raise AssertionError(words) from None


def _content(item: Item) -> Content:
    """Of an item without an error."""
    if item.text is not None:
        return item.text if item.text_pair is None else (item.text, item.text_pair)
    content = item.data if item.data is not None else item.tensors
    assert content is not None
    return content


def result_of(item_id: str, answer: Answer, options: Options) -> Result:
    """Raises the answer that is an exception, and TypeError for what is no answer."""
    if isinstance(answer, LmaasError):
        raise answer
    if isinstance(answer, ItemError):
        return Result(id=item_id, error=answer)
    if isinstance(answer, list):
        return _with_labels(item_id, [str(plain(label)) for label in answer], options)
    if isinstance(answer, str):
        answer = {answer: 1.0}
    elif isinstance(answer, tuple) and len(answer) == 2:
        answer = dict([answer])
    if not isinstance(answer, Mapping) or not answer:
        raise TypeError(
            f"{answer!r} is no answer: expected a label, (label, score), {{label: score}}, "
            "[label, ...], an ItemError or an LmaasError"
        )
    ranked = {
        str(plain(label)): round(float(score), DECIMALS)
        for label, score in sorted(answer.items(), key=lambda pair: -pair[1])
    }
    label, score = next(iter(ranked.items()))
    scores = dict(list(ranked.items())[: options.top_k]) if options.top_k else None
    if options.min_score and score < options.min_score:
        label = UNSURE
    return Result(id=item_id, label=label, score=score, scores=scores)


def _with_labels(item_id: str, labels: list[str], options: Options) -> Result:
    return Result(
        id=item_id,
        label=labels[0] if labels else None,
        score=1.0 if labels else 0.0,
        scores=dict.fromkeys(labels[: options.top_k], 1.0) if options.top_k else None,
        labels=labels,
    )


class _OfService:
    """What both clients have beside the real ones."""

    service: Service

    @property
    def calls(self) -> list[Call]:
        """The items that have reached the service."""
        return self.service.calls


class Client(_OfService, real.Client):
    """`lmaas.Client` on a service in this process."""

    def __init__(
        self,
        answers: Answers | Service | None = None,
        *,
        serves: Collection[str] | None = None,
        delay: float = 0.0,
        settings: Settings | None = None,
        **arguments: Any,
    ) -> None:
        """As `Service`, or with one that several clients share; other arguments are settings."""
        super().__init__(settings, **arguments)
        if not isinstance(answers, Service):
            answers = Service(answers, serves=serves, delay=delay)
        self.service = answers

    def _ends(self) -> tuple[PackPublisher, Replies]:
        return self.service.ends(self.settings, self.id)


class SyncClient(_OfService, real_sync.SyncClient):
    """`lmaas.SyncClient` on a service in this process."""

    def __init__(
        self,
        answers: Answers | Service | None = None,
        *,
        serves: Collection[str] | None = None,
        delay: float = 0.0,
        settings: Settings | None = None,
        **arguments: Any,
    ) -> None:
        """As `Client`."""
        super().__init__(settings, **arguments)
        client = Client(answers, serves=serves, delay=delay, settings=self._client.settings)
        self._client = client
        self.service = client.service


class _Unconnected(Session):
    """A session that is up while it is open, and has no connection."""

    async def _open(self) -> None:
        self._up.set()

    async def _close(self) -> None:
        self._up.clear()


class _Replies(Replies):
    """Gets its replies from `_Publisher`."""

    def __init__(self, settings: Settings, client: str) -> None:
        super().__init__(settings, client)
        self._seals = Seals.none()
        self.session = _Unconnected(settings, f"client {client} replies")

    def fail(self, correlation_id: str | None, error: Exception) -> None:
        """The call that waits raises it."""
        waiting, *_ = self._waiting.pop(correlation_id or "", (None, 0.0, ""))
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


class _Publisher(_Unconnected, PackPublisher):
    """Hands what a broker would get to the service."""

    def __init__(self, service: Service, settings: Settings, replies: _Replies) -> None:
        super().__init__(settings, "testing")
        self._seals = Seals.none()
        self._service = service
        self._answers_to = replies
        self._under_way: set[asyncio.Task[None]] = set()

    async def publish(
        self, exchange: str, key: str, message: aio_pika.Message, *, timeout: float | None = None
    ) -> None:
        if not self.is_up:
            raise self._failure()
        if message.type == CANCEL:
            return
        model = msgspec.msgpack.decode(message.body, type=_Named).model
        self._service.check_served(model, self.settings)
        self._check_size(message)
        answering = asyncio.create_task(self._answer(message))
        self._under_way.add(answering)
        answering.add_done_callback(self._under_way.discard)

    def _largest(self) -> int:
        return LARGEST_MESSAGE[4]

    async def _answer(self, message: aio_pika.Message) -> None:
        try:
            reply = await self._service.reply(message.body, self.settings)
            await self._answers_to.take(message.correlation_id, encode(reply), MSGPACK, {})
        except Exception as error:
            self._answers_to.fail(message.correlation_id, error)

    async def _close(self) -> None:
        await super()._close()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def cards(self, model: str | None = None, *, first: bool = False) -> list[ModelCard]:
        if not self.is_up:
            raise self._failure()
        return await self._service.cards(self.settings, model)

    async def _counts(self, queue: str) -> tuple[int, int]:
        return 0, 1


class _Named(msgspec.Struct):
    model: str


_running: Final = threading.Lock()


def _run(body: bytes, settings: Settings) -> Reply:
    """The models' reply. Blocks; one at a time, as in a worker."""
    with _running:
        answerer = _loaded(settings)
        from lmaas.workers.pack import read

        return answerer.answer([read(body, MSGPACK, settings)])[0]


def _cards(models: list[str], settings: Settings) -> list[ModelCard]:
    with _running:
        loaded = _loaded(settings).models
        from lmaas.workers.cards import card

        return [
            card(settings, loaded, model, loaded.load(model).manifest.cost.calibration)
            for model in models
        ]


def _canned_card(model: str, settings: Settings) -> ModelCard:
    return ModelCard(
        model=model,
        version="1",
        versions=["1"],
        labels=[],
        input="words",
        examples=[],
        max_item_bytes=settings.max_item_bytes,
        max_data_bytes=settings.largest_data,
        max_pack_items=settings.max_pack_items,
        max_pack_bytes=settings.largest_pack,
        fixed_seconds=GUESS.fixed,
        seconds_per_byte=GUESS.per_byte,
        seconds_per_item=GUESS.per_item,
    )


def _loaded(settings: Settings) -> Answerer:
    try:
        return _answerer(
            settings.models, settings.providers, settings.threads, settings.batch_units
        )
    except ModuleNotFoundError as error:
        raise LmaasError(
            f"{error.name} is missing, which runs models: install lmaas with its extra `worker`, "
            "or give lmaas.testing the answers"
        ) from error


@functools.lru_cache(maxsize=4)
def _answerer(
    models: str | tuple[str, ...], providers: tuple[str, ...], threads: int, batch_units: int
) -> Answerer:
    """Loaded once for all tests."""
    from lmaas.workers.answering import Answerer

    settings = Settings(
        models=models, providers=providers, threads=threads, batch_units=batch_units
    )
    return Answerer(settings, WORKER)
