"""`lmaas up`: its worker, its gateway and those who find its broker, each with few rights."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import aiohttp
import psutil
import pytest
from aiormq.exceptions import ChannelAccessRefused
from standardwebhooks import Webhook

from lmaas.broker_config.local_node import INSTALLATION
from lmaas.broker_config.messages import JSON
from lmaas.broker_config.rights import ROLES, Role
from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Names
from lmaas.cli.lanes import Lanes
from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.workers.worker import Worker
from tests.gateway.conftest import Gateway, listening
from tests.gateway.receivers import receiving
from tests.gateway.test_callbacks import MINE
from tests.gateway.test_jobs import ended, results, told
from tests.gateway.test_jobs_survive import process
from tests.gateway.test_openai_batches import calling, counts, line, submitted
from tests.gateway.test_openai_batches import ended as batch_ended
from tests.integration.forbidden import (
    Action,
    of_callers,
    of_monitors,
    of_nobody,
    of_operators,
    of_workers,
)
from tests.integration.lanes import LIMIT, MODELS, channel_to, depth, serving, until

PREFIX = "up"
GOOD = "a wonderful, moving film"
CALL = {"model": "sentiment", "items": [GOOD]}
#: The kernel's, for programs of this machine.
LOOPBACK = {"LMAAS_GATEWAY_ALLOWED_NETWORKS": "127.0.0.0/8"}


@dataclass(frozen=True)
class Up:
    """One that runs."""

    #: Of its gateway.
    url: str
    pid: int
    #: Where it keeps everything.
    state: Path
    #: Of the environment of who finds it.
    variables: dict[str, str]

    @property
    def models(self) -> Path:
        """The user's."""
        return self.state / "data" / "lmaas" / "models"

    def file(self, role: Role) -> Path:
        return self.state / "lmaas" / ("up.toml" if role == "producer" else f"up-{role}.toml")

    def settings(self, role: Role) -> Settings:
        return Settings(
            broker_url=tomllib.loads(self.file(role).read_text())["broker_url"],
            prefix=PREFIX,
            connect_timeout=10,
            timeout=LIMIT,
            payload_keys=self.variables.get("LMAAS_PAYLOAD_KEYS"),
        )


@pytest.fixture(scope="module")
def up(
    rabbitmq: Path, payload_keys: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Up]:
    state = tmp_path_factory.mktemp("up")
    variables = {"XDG_STATE_HOME": str(state), "LMAAS_PREFIX": PREFIX}
    if payload_keys is not None:
        variables |= {"LMAAS_PAYLOAD_KEYS": str(payload_keys), "LMAAS_ACCEPT_UNSEALED": "true"}
    folders = {"HOME": state, "XDG_DATA_HOME": state / "data", "XDG_CONFIG_HOME": state / "config"}
    own = LOOPBACK | {name: str(folder) for name, folder in folders.items()}
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LMAAS_") or name == INSTALLATION
    }
    with subprocess.Popen(
        [sys.executable, "-m", "lmaas", "up", "--processes", "1", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=outside | variables | own,
    ) as program:
        assert program.stdout is not None
        told = next((line for line in program.stdout if line.startswith("gateway: ")), "")
        try:
            assert "without a key" in told
            yield Up(told.split()[1].rstrip(","), program.pid, state, variables)
        finally:
            program.send_signal(signal.SIGTERM)
            program.communicate(timeout=2 * LIMIT)
    assert not list(state.glob("lmaas/up*.toml"))


@pytest.fixture
async def gateway(up: Up) -> AsyncIterator[Gateway]:
    """That of `lmaas up`, whose user is `gateway`."""
    async with aiohttp.ClientSession() as http:
        yield Gateway(up.url, http)


async def test_it_answers_over_http_as_soon_as_it_says_so(gateway: Gateway) -> None:
    status, answer = await gateway.post("/v1/classify", json=CALL)
    assert (status, answer["results"][0]["label"]) == (200, "positive")


def test_each_role_has_a_file_that_only_its_owner_can_read(up: Up) -> None:
    assert [up.settings(role).user for role in ROLES] == list(ROLES)
    folder = up.state / "lmaas" / "broker"
    for path in [*map(up.file, ROLES), folder / "node.json", folder / "definitions.json"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    hashes = (folder / "definitions.json").read_text()
    for role in ROLES:
        password = up.settings(role).broker_url.rpartition("@")[0].rpartition(":")[2]
        assert password not in hashes


DELAY = "1s"
PRODUCER, GATEWAY = Names(PREFIX, "producer"), Names(PREFIX, "gateway")
OF_NOBODY = of_nobody(PRODUCER, DELAY)
OF_CALLERS = of_callers(PRODUCER, DELAY)
FORBIDDEN: dict[Role, dict[str, Action]] = {
    "producer": of_nobody(GATEWAY, DELAY) | of_callers(GATEWAY, DELAY),
    "gateway": OF_NOBODY | OF_CALLERS,
    "monitor": OF_NOBODY | OF_CALLERS | of_monitors(PRODUCER),
    "worker": OF_NOBODY | of_workers(PRODUCER),
    "operator": of_operators(PRODUCER, DELAY),
}
#: What a worker does.
SERVING = {"take from a lane", "empty a lane"}


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_role_may_not_do(up: Up, role: Role) -> None:
    settings = up.settings(role)
    done = set()
    async with await aio_pika.connect(settings.broker_url) as connection:
        for name, action in FORBIDDEN[role].items():
            async with connection.channel(on_return_raises=True) as channel:
                try:
                    await action(channel, settings.names.home)
                    done.add(name)
                except ChannelAccessRefused:
                    pass
    assert done == (SERVING if role == "worker" else set())


@pytest.fixture
def found(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded without an argument finds the broker."""
    for name, value in up.variables.items():
        monkeypatch.setenv(name, value)


async def publish_broken(up: Up) -> None:
    """What becomes a dead letter."""
    settings = up.settings("producer")
    async with channel_to(settings) as channel:
        work = await channel.get_exchange(settings.names.work, ensure=False)
        await work.publish(aio_pika.Message(b"{", content_type=JSON), "sentiment.short")


@pytest.mark.usefixtures("found")
async def test_callers_and_operators_find_their_users(up: Up) -> None:
    async with Client() as client, Jobs() as jobs:
        assert client.settings.user == jobs.settings.user == "producer"
        assert (await client.classify("sentiment", GOOD)).label == "positive"
        entry = await jobs.submit("sentiment", [GOOD, ""])
        (chunk,) = [one async for one in jobs.results(entry.job)]
        assert [one.label for one in chunk.reply.results] == ["positive", None]
        names = client.settings.names
    await publish_broken(up)

    async def parked() -> bool:
        return await depth(up.settings("producer"), names.dead) == 1

    await until(parked)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "lmaas", "purge", "--older-than", "0s", "--yes", "--json"],
        capture_output=True, text=True, timeout=2 * LIMIT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    removed = {one["place"]: one["count"] for one in json.loads(done.stdout)["removed"]}
    assert removed == {names.dead: 1, names.jobs: 1}


@pytest.mark.usefixtures("found")
async def test_a_worker_beside_it_serves_a_model_that_is_new(up: Up) -> None:
    shutil.copytree(MODELS / "sentiment", up.models / "fresh")
    settings = Settings.load("worker", models=str(up.models), processes=1)
    assert settings.user == "worker"
    lanes = Lanes.for_worker(settings, ["fresh"], {})
    assert lanes is not None
    await lanes.make()
    async with serving(settings, Worker(settings, ["fresh"])), Client() as client:
        assert (await client.classify("fresh", GOOD)).label == "positive"


async def test_its_own_worker_that_ends_serves_models_that_are_new(
    up: Up, gateway: Gateway
) -> None:
    shutil.copytree(MODELS / "sentiment", up.models / "newest")
    (worker,) = [
        child
        for server in psutil.Process(up.pid).children()
        if "forkserver" in " ".join(server.cmdline())
        for child in server.children()
    ]
    worker.kill()

    async def is_served() -> bool:
        call = {"model": "newest", "items": [GOOD]}
        return (await gateway.post("/v1/classify", json=call))[0] == 200

    await until(is_served)


# ----------------------------------------------------------------- its gateway


async def test_a_job_has_results_and_a_callback(gateway: Gateway) -> None:
    async with receiving() as receiver:
        call = {"model": "sentiment", "items": [{"id": "a", "text": GOOD}, {"id": "b", "text": ""}]}
        callback = {"callback_url": receiver.url, "callback_secret": MINE}
        status, job = await gateway.post("/v1/jobs", json=call | callback)
        assert status == 202
        (came,) = await receiver.received(1, LIMIT)
    assert Webhook(MINE).verify(came.body, dict(came.headers))["type"] == "job.finished"
    found = await results(gateway, job["id"])
    assert told(found) == {"a": "positive", "b": "empty_text"}


async def test_a_job_is_cancelled(gateway: Gateway, up: Up) -> None:
    call = {"model": "sentiment", "items": [GOOD] * 4_000}
    _, job = await gateway.post("/v1/jobs", json=call)
    async with gateway.http.delete(f"{gateway.url}/v1/jobs/{job['id']}") as answer:
        assert answer.status == 200
        state = (await answer.json())["state"]
    assert state in {"cancelled", "finished"}
    async with Jobs(up.settings("gateway")) as jobs:
        assert (await jobs.progress(job["id"])).state in {"cancelled", "collected"}


async def test_a_batch_of_openais_client(gateway: Gateway) -> None:
    async with calling(gateway) as client:
        batch = await submitted(client, b"".join(line(name) for name in "abc"))
        assert counts(await batch_ended(client, batch)) == (3, 3, 0)


async def test_what_its_page_shows(gateway: Gateway, up: Up) -> None:
    async def parked() -> bool:
        status, seen = await gateway.get("/v1/lanes")
        assert status == 200
        return bool(seen["dead_letters"] == 1)

    await publish_broken(up)
    await until(parked)
    status, found = await gateway.get("/v1/dead-letters")
    assert (status, [one["error"] for one in found["dead_letters"]]) == (200, ["malformed"])
    path = f"{gateway.url}/v1/dead-letters/{found['dead_letters'][0]['id']}"
    async with gateway.http.delete(path) as answer:
        assert answer.status == 200


async def test_a_gateway_with_its_user_alone_says_who_may_look_at_dead_letters(
    up: Up, gateway_settings: GatewaySettings
) -> None:
    async with (
        listening(gateway_settings, up.settings("gateway")) as gateway,
        gateway.http.get(f"{gateway.url}/v1/dead-letters") as answer,
    ):
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "broker_refused")
        assert "user 'gateway'" in error["message"]
        assert "who has the role `operator` may" in error["message"]
        assert "Retry-After" not in answer.headers  # waiting does not mend it


@pytest.mark.usefixtures("found")
async def test_a_gateway_that_is_killed_comes_back_and_ends_its_jobs(
    up: Up, tmp_path: Path
) -> None:
    call = {"model": "sentiment", "items": [{"id": str(one), "text": GOOD} for one in range(300)]}
    small = {"LMAAS_PACK_ITEMS": "1"} | LOOPBACK
    settings = up.settings("gateway")
    async with process(tmp_path / "state", settings, **small) as first:
        _, job = await first.gateway.post("/v1/jobs", json=call)
        await first.kill()
    async with process(tmp_path / "state", settings, **small) as second:
        ended_job = await ended(second.gateway, job["id"])
        assert (ended_job["state"], ended_job["done"]) == ("finished", 300)
        found = told(await results(second.gateway, job["id"]))
    assert found == dict.fromkeys(map(str, range(300)), "positive")
