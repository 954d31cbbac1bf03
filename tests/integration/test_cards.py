"""What workers say of the models that they serve."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest

from lmaas.broker_config.estimator import Estimator
from lmaas.broker_config.messages import CARDS, JSON, ModelCard
from lmaas.broker_config.scheduling import Cost
from lmaas.broker_config.settings import Settings
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.workers.worker import Worker
from tests.integration.lanes import MODELS, channel_to, serving, until


async def test_a_client_learns_which_models_there_are(worker: Worker, client: Client) -> None:
    (card,) = await client.models()
    assert (card.model, card.version, card.versions) == ("sentiment", "1", ["1"])
    assert card.labels == ["negative", "positive"]
    assert card.max_item_bytes == worker.settings.max_item_bytes
    assert card.fixed_seconds > 0
    results = [await client.classify("sentiment", item.text or "") for item in card.examples]
    assert all(result.label for result in results)
    (again,) = await client.models("sentiment")
    assert (again.model, again.version) == ("sentiment", "1")
    assert await client.models("nope") == []


async def test_a_client_estimates_by_the_card(worker: Worker, client: Client) -> None:
    known = Cost(fixed=0.5, per_item=0.25, per_byte=0.125)
    worker.execution.estimators["sentiment"] = Estimator(known)
    (card,) = await client.models()
    assert (card.fixed_seconds, card.seconds_per_item, card.seconds_per_byte) == (0.5, 0.25, 0.125)
    answers = client.classify_many("sentiment", ["fine"])
    assert [result.label async for result in answers] == ["positive"]
    # What the answer took was a surprise, which has changed little.
    assert client.seconds("sentiment", 8, 16) == pytest.approx(4.5, rel=0.5)


async def test_without_a_worker_there_is_none(client: Client) -> None:
    assert await client.models() == []


async def test_workers_that_differ_are_all_heard(
    settings: Settings, worker: Worker, client: Client, tmp_path: Path
) -> None:
    for version in ("2", "10"):
        shutil.copytree(MODELS / "sentiment" / "1", tmp_path / "sentiment" / version)
        shutil.copytree(MODELS / "sentiment" / "1", tmp_path / "mine" / version)
    other = msgspec.structs.replace(settings, models=str(tmp_path))

    async def heard(*expected: tuple[str, str]) -> bool:
        """On a busy machine one of them may answer too late."""
        return [(card.model, card.version) for card in await client.models()] == [*expected]

    async with serving(other):
        await until(lambda: heard(("mine", "10"), ("sentiment", "1"), ("sentiment", "10")))
    await until(lambda: heard(("sentiment", "1")))


async def test_whoever_knows_json_may_ask(settings: Settings, worker: Worker) -> None:
    async with channel_to(settings) as channel:
        direct = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        answers: list[aio_pika.abc.AbstractIncomingMessage] = []

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            answers.append(message)

        await direct.consume(take, no_ack=True)
        asked = await channel.get_exchange(settings.names.cards, ensure=False)
        await asked.publish(aio_pika.Message(b"", reply_to=direct.name), "sentiment")

        async def answered() -> bool:
            return bool(answers)

        await until(answered)
    assert (answers[0].content_type, answers[0].type) == (JSON, CARDS)
    assert msgspec.json.decode(answers[0].body)[0]["model"] == "sentiment"


async def test_cards_go_to_queues_for_answers_only(settings: Settings, worker: Worker) -> None:
    async with channel_to(settings) as channel, Client(settings) as client:
        asked = await channel.get_exchange(settings.names.cards, ensure=False)
        for queue in (settings.names.dead, settings.names.work_queue("sentiment", "short"), ""):
            await asked.publish(aio_pika.Message(b"", reply_to=queue), "sentiment")
        assert await client.models()  # the questions before it have been heard
        dead = await channel.get_queue(settings.names.dead)
        assert dead.declaration_result.message_count == 0


async def test_a_stream_after_single_calls_asks_what_packs_cost(
    worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client guesses for a call, or learns of it, says nothing of packs of a slow model."""
    asked: list[str | None] = []
    publisher = client._publisher
    ask = publisher.cards

    async def counted(model: str | None = None, **options: Any) -> list[ModelCard]:
        asked.append(model)
        return await ask(model, **options)

    monkeypatch.setattr(publisher, "cards", counted)
    assert client.seconds("sentiment", 1, 1000) > 0
    await client.classify("sentiment", "a wonderful film")
    assert (asked, publisher.knows("sentiment")) == ([], False)
    for _ in range(3):
        assert [one async for one in client.classify_many("sentiment", ["a film"])]
    assert (asked, publisher.knows("sentiment")) == (["sentiment"], True)
    await client.version("sentiment")
    assert publisher.knows("sentiment")


async def test_where_no_worker_says_what_packs_cost_what_was_learnt_counts(
    worker: Worker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with workers of an older release."""
    publisher = client._publisher

    async def silent(*_: object, **__: object) -> list[ModelCard]:
        return []

    monkeypatch.setattr(publisher, "cards", silent)
    guess = client.seconds("sentiment", 1, 1000)
    assert [one async for one in client.classify_many("sentiment", ["a film"])]
    assert publisher.knows("sentiment")
    assert client.seconds("sentiment", 1, 1000) != guess


async def test_a_job_is_answered_by_the_version_that_was_current_when_it_was_submitted(
    worker: Worker, jobs: Jobs
) -> None:
    entry = await jobs.submit("sentiment", ["a wonderful film"] * 3)
    assert entry.version == "1"
    async for chunk in jobs.results(entry.job):
        assert chunk.reply.version == "1"
