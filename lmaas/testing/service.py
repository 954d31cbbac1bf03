"""What answers the clients of a test, in the place of a broker and its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lmaas.broker_config.decoding import decode_request
from lmaas.broker_config.errors import ModelNotFound
from lmaas.broker_config.messages import MSGPACK, Item, ItemError, ModelCard, Reply, Request, Result
from lmaas.broker_config.scheduling import GUESS
from lmaas.broker_config.settings import Settings
from lmaas.testing import models
from lmaas.testing.answers import Answer, Answers, Content, content_of, result_of
from lmaas.workers.repository import Repository


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
            return await asyncio.to_thread(models.cards, names, settings)
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
                content_of(item),
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
            return await asyncio.to_thread(models.reply, body, settings)
        return Reply(
            model=request.model,
            version=request.version,
            worker=models.WORKER,
            results=[
                self._result(item, faults.get(place), request)
                for place, item in enumerate(request.items)
            ],
        )

    def _result(self, item: Item, fault: ItemError | None, request: Request) -> Result:
        if fault is not None:
            return Result(id=item.id, error=fault)
        return result_of(item.id, self._answer(content_of(item)), request.options)

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
