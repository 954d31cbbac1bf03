"""A new version under load: seen, switched to, and no caller has an error."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from lmaas.broker_config.messages import MSGPACK, Item, Request, encode
from lmaas.broker_config.settings import Settings
from lmaas.cli.models import command
from lmaas.producer.client import Client
from lmaas.workers.pack import glanced
from lmaas.workers.repository import activate
from lmaas.workers.worker import Worker
from tests.integration.lanes import MODELS, serving, until

PACK = Request(
    model="mine", items=[Item(id=str(place), text="a wonderful film") for place in range(40)]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Version 1 of a model of our own."""
    copy(tmp_path / "mine" / "1")
    return tmp_path


def copy(version: Path) -> None:
    """As people do: file by file, beside the workers that look."""
    shutil.copytree(MODELS / "sentiment" / "1", version)


@pytest.fixture
def settings(settings: Settings, folder: Path) -> Settings:
    return msgspec.structs.replace(settings, models=str(folder))


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    async with serving(settings, Worker(settings, ["mine"])) as worker:
        yield worker


class Callers:
    """Packs, one after the other; the version of each answer."""

    def __init__(self, client: Client) -> None:
        #: Of each pack by its number, in the order of the answers.
        self.answers: dict[int, str | None] = {}
        self._numbers = itertools.count()
        self._client = client
        self._calling = [asyncio.create_task(self._call()) for _ in range(4)]

    async def _call(self) -> None:
        while True:
            number = next(self._numbers)
            reply = await self._client.run(PACK)
            assert all(result.label == "positive" for result in reply.results)
            self.answers[number] = reply.version

    @property
    def versions(self) -> list[str | None]:
        """In the order in which packs were sent, without repetitions.

        Answers may pass each other on their way, and so may packs that are on their way together,
        in different lanes: a version of fewer answers in a row than there are callers is left out.
        """
        sent = [self.answers[number] for number in sorted(self.answers)]
        runs = [(version, len([*run])) for version, run in itertools.groupby(sent)]
        long = [version for version, length in runs if length >= len(self._calling)]
        return [version for version, _ in itertools.groupby(long)]

    async def are_answered_by(self, version: str) -> None:
        async def answered() -> bool:
            for calling in self._calling:
                if calling.done():
                    calling.result()
            return [*self.answers.values()][-1:] == [version]

        await until(answered)

    async def have_answers(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.answers) >= count

        await until(enough)

    async def end(self) -> None:
        for calling in self._calling:
            calling.cancel()
        await asyncio.gather(*self._calling, return_exceptions=True)


@pytest.fixture
async def callers(worker: Worker, client: Client) -> AsyncIterator[Callers]:
    callers = Callers(client)
    await callers.are_answered_by("1")
    yield callers
    await callers.end()


async def test_what_is_copied_activated_and_deleted_answers_without_an_error(
    folder: Path, callers: Callers
) -> None:
    copy(folder / "mine" / "2")
    await callers.are_answered_by("2")
    activate(folder, "mine", "1")
    await callers.are_answered_by("1")
    activate(folder, "mine", None)
    await callers.are_answered_by("2")
    shutil.rmtree(folder / "mine" / "2")
    await callers.are_answered_by("1")
    # Each pack stays with what was current when it came.
    await callers.have_answers(len(callers.answers) + 20)
    assert callers.versions == ["1", "2", "1", "2", "1"]


async def test_half_a_copy_is_not_switched_to(
    folder: Path, worker: Worker, callers: Callers
) -> None:
    copy(folder / "mine" / "3")
    (folder / "mine" / "3" / "model.onnx").write_bytes(b"half")

    async def told() -> bool:
        return bool(worker.execution.loaded.repository.told)

    await until(told)
    copy(folder / "mine" / "2")
    await callers.are_answered_by("2")
    shutil.copyfile(MODELS / "sentiment" / "1" / "model.onnx", folder / "mine" / "3" / "model.onnx")
    await callers.are_answered_by("3")


async def test_what_is_run_isolated_is_answered_by_the_version_that_was_current_when_it_came(
    settings: Settings, folder: Path
) -> None:
    copy(folder / "mine" / "2")
    execution = Worker(settings, ["mine"]).execution
    await execution.load()
    try:
        body = encode(PACK)
        pack = glanced(body, MSGPACK, settings, redelivered=True)
        pack.version = "1"
        _, reply = await execution._isolation.answer(pack, body, MSGPACK, "mine")
        assert reply.version == "1"
        pack.version = None
        _, reply = await execution._isolation.answer(pack, body, MSGPACK, "mine")
        assert reply.version == "2"
    finally:
        execution.close()


@pytest.mark.usefixtures("worker")
async def test_a_worker_follows_what_is_set_of_the_version_it_serves(
    folder: Path, client: Client
) -> None:
    async def answer() -> str | None:
        return (await client.classify("mine", "a wonderful film")).label

    async def set_to(min_score: str) -> None:
        arguments = ["--models", str(folder), "set", "mine", "--min-score", min_score]
        ended = await asyncio.to_thread(CliRunner().invoke, command, arguments)
        assert ended.exit_code == 0, ended.output

    assert await answer() == "positive"
    await set_to("0.999")
    await until(lambda: _is(answer(), "unsure"))
    assert (await client.classify("mine", "a wonderful film", min_score=0)).label == "positive"
    await set_to("0")
    await until(lambda: _is(answer(), "positive"))


async def _is(answer: Awaitable[str | None], label: str) -> bool:
    return await answer == label
