"""Jobs and hooks that tell a receiver of their end; also when the gateway is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import runpy
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.secret import Secrets
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.settings.callbacks import Callbacks
from lmaas.producer.gateway.settings.hooks import Callback, Hook
from tests.gateway.conftest import Gateway, listening
from tests.gateway.receivers import Came, Receiver, receiving, statuses
from tests.gateway.test_callbacks import MINE, OURS
from tests.gateway.test_hooks import BAD, GOOD, SECRET, by_github, signed
from tests.gateway.test_jobs_survive import process
from tests.integration.lanes import until

CALL = {"model": "sentiment", "items": [{"id": "a", "text": GOOD}, {"id": "b", "text": ""}]}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def gateway_settings(gateway_settings: GatewaySettings, receiver: Receiver) -> GatewaySettings:
    hook = Hook(
        scheme="standard",
        secret=Secrets(SECRET),
        items="data",
        text="@",
        model="sentiment",
        reply="job",
        callback=Callback(url=receiver.url + "labels", secret=Secrets([MINE, OURS])),
    )
    return msgspec.structs.replace(
        gateway_settings,
        allowed_networks=("127.0.0.0/8",),
        callbacks=Callbacks(secret=Secrets(OURS), delays=(0.0, 0.1, 0.1)),
        hooks={"reviews": hook},
    )


async def delivered(gateway: Gateway, job: str) -> list[dict[str, Any]]:
    """The log of a job, once everything is delivered."""
    found: list[dict[str, Any]] = []

    async def is_so() -> bool:
        status, answer = await gateway.get(f"/v1/jobs/{job}/deliveries")
        assert status == 200
        found[:] = answer["deliveries"]
        return bool(found) and all(one["state"] == "delivered" for one in found)

    await until(is_so)
    return found


@pytest.mark.usefixtures("worker")
async def test_the_end_of_a_job_is_told(gateway: Gateway, receiver: Receiver) -> None:
    receiver.answer = statuses(500, 204)
    call = {**CALL, "callback_url": receiver.url, "callback_secret": MINE}
    status, job = await gateway.post("/v1/jobs", json=call)
    assert status == 202
    assert MINE not in str(job)
    came = (await receiver.received(2))[-1]
    event = Webhook(MINE).verify(came.body, dict(came.headers))
    assert event["type"] == "job.finished"
    data = event["data"]
    assert (data["id"], data["items"], data["done"], data["failed"]) == (job["id"], 2, 2, 1)
    assert [(one["id"], one.get("label") or one["error"]["code"]) for one in data["results"]] == [
        ("a", "positive"),
        ("b", "empty_text"),
    ]
    async with gateway.http.get(gateway.url + data["results_path"]) as answer:
        assert len((await answer.read()).splitlines()) == 2
    (told,) = await delivered(gateway, job["id"])
    assert [made["status"] for made in told["tries"]] == [500, 204]
    assert (told["id"], told["url"], told["next_try"]) == (came.id, receiver.url, None)
    assert MINE not in str(told)

    status, again = await gateway.post(f"/v1/deliveries/{told['id']}/redeliver")
    assert (status, again["id"]) == (202, told["id"])
    assert (await receiver.received(3))[-1].id == came.id
    status, answer = await gateway.post("/v1/deliveries/evt_none/redeliver")
    assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer = await gateway.get("/v1/jobs/none/deliveries")
    assert (status, answer["error"]["code"]) == (404, "not_found")


@pytest.mark.usefixtures("worker")
async def test_many_results_are_not_sent_along(gateway: Gateway, receiver: Receiver) -> None:
    call = {"model": "sentiment", "items": [GOOD] * 1000, "callback_url": receiver.url}
    _, job = await gateway.post("/v1/jobs", json=call)
    (came,) = await receiver.received(1)
    data = Webhook(OURS).verify(came.body, dict(came.headers))["data"]
    assert (data["id"], data["done"], data["results"]) == (job["id"], 1000, None)
    assert len(came.body) < 20_000


@pytest.mark.usefixtures("lanes")
async def test_a_cancelled_job_is_told_too(gateway: Gateway, receiver: Receiver) -> None:
    _, job = await gateway.post("/v1/jobs", json={**CALL, "callback_url": receiver.url})
    async with gateway.http.delete(f"{gateway.url}/v1/jobs/{job['id']}") as answer:
        assert answer.status in {200, 202}
    (came,) = await receiver.received(1)
    assert came.json["type"] == "job.cancelled"
    assert came.json["data"]["results"] == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"callback_url": "http://169.254.169.254/latest/meta-data"}, "link-local"),
        ({"callback_url": "http://[::ffff:10.0.0.1]/"}, "private"),
        ({"callback_url": "ftp://receiver.example/"}, "no URL"),
        ({"callback_url": "https://r.example/", "callback_secret": "short"}, "callback_secret"),
        ({"callback_url": "https://r.example/", "callback_secret": " "}, "secret"),
    ],
)
async def test_a_callback_that_cannot_be_is_refused(
    gateway: Gateway, more: dict[str, str], words: str
) -> None:
    status, answer = await gateway.post("/v1/jobs", json=CALL | more)
    assert status == 422
    assert words in answer["error"]["message"]


@pytest.mark.usefixtures("worker")
async def test_a_hook_may_make_a_job_and_tell_of_it(gateway: Gateway, receiver: Receiver) -> None:
    body = json.dumps({"data": [GOOD, BAD]}).encode()
    url = gateway.url + "/hooks/reviews"
    answers = []
    for off in range(3):
        headers = signed(body, at=time.time() - off)
        async with gateway.http.post(url, data=body, headers=headers) as answer:
            answers.append((answer.status, answer.headers["Location"], await answer.json()))
    assert answers == [answers[0]] * 3
    status, location, job = answers[0]
    assert (status, location) == (202, f"/v1/jobs/{job['id']}")
    (came,) = await receiver.received(1)
    assert came.path == "/labels"
    for secret in (MINE, OURS):
        event = Webhook(secret).verify(came.body, dict(came.headers))
    assert [one["label"] for one in event["data"]["results"]] == ["positive", "negative"]
    status, answer = await gateway.get("/v1/jobs")
    assert [one["id"] for one in answer["jobs"]] == [job["id"]]
    # There is nothing to do, and so no job.
    body = b'{"data": []}'
    status, answer = await gateway.post("/hooks/reviews", data=body, headers=signed(body, "msg_9"))
    assert (status, answer["results"]) == (200, [])


@pytest.mark.usefixtures("worker")
async def test_kill_9_in_the_middle_of_a_callback(
    settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    """It has been sent, and nobody knows whether it was received: it is sent again."""
    config = tmp_path / "lmaas.toml"
    config.write_text(
        '[gateway]\nallowed_networks = ["127.0.0.0/8"]\n'
        f'[gateway.callbacks]\nsecret = "{OURS}"\ntimeout = 3.0\ndelays = [0.0, 3600.0]\n'
    )
    never = asyncio.Event()

    async def hang(_came: Came) -> web.Response:
        await never.wait()
        return web.Response()

    receiver.answer = hang
    use = {"LMAAS_CONFIG": str(config)}
    async with process(tmp_path / "state", settings, **use) as first:
        call = {**CALL, "callback_url": receiver.url}
        _, job = await first.gateway.post("/v1/jobs", json=call)
        await receiver.received(1)
        await first.kill()
    receiver.answer = statuses(204)
    async with process(tmp_path / "state", settings, **use) as second:
        sent, again = await receiver.received(2)
        assert (sent.id, sent.body) == (again.id, again.body)
        Webhook(OURS).verify(again.body, dict(again.headers))
        (told,) = await delivered(second.gateway, job["id"])
        assert [made["status"] for made in told["tries"]] == [204]


@pytest.mark.usefixtures("lanes")
async def test_a_mounted_gateway_says_where_its_jobs_are(
    settings: Settings, gateway_settings: GatewaySettings
) -> None:
    from lmaas.producer.gateway.app import create_app

    outer = web.Application()
    outer.add_subapp("/ai", create_app(gateway_settings, settings))
    runner = web.AppRunner(outer)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        body = b'{"data": ["a text"]}'
        url = "http://{}:{}".format(*runner.addresses[0])
        async with aiohttp.ClientSession() as http:
            hook = url + "/ai/hooks/reviews"
            async with http.post(hook, data=body, headers=signed(body)) as answer:
                assert answer.status == 202
                location = answer.headers["Location"]
            assert location.startswith("/ai/v1/jobs/")
            async with http.get(url + location) as answer:
                assert answer.status == 200
    finally:
        await runner.cleanup()


EXAMPLES = Path(__file__).parents[2] / "examples"
TICKETS = [
    {"id": "T1", "status": "new", "subject": "Thanks", "description": GOOD},
    {"id": "T2", "status": "closed", "subject": "Old", "description": BAD},
    {"id": "T3", "status": "new", "subject": "No!", "description": BAD},
]


@pytest.mark.usefixtures("worker")
async def test_the_examples_work(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """With the shipped model in the place of theirs, and `receiver` in the place of GitHub."""
    for name, value in {
        "LMAAS_CONFIG": str(EXAMPLES / "hooks.toml"),
        "GITHUB_WEBHOOK_SECRET": "old secret",
        "GITHUB_API": receiver.url.rstrip("/"),
        "GITHUB_TOKEN": "of-github",
        "LABELS_WEBHOOK_SECRET": MINE,
        "TICKETS_WEBHOOK_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    loaded = GatewaySettings.load(access="open", port=0, folder=str(tmp_path / "gateway"))
    labels = runpy.run_path(str(EXAMPLES / "label_issues.py"))
    runner = web.AppRunner(labels["application"]())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = "http://{}:{}/".format(*runner.addresses[0])
        hooks = {
            name: msgspec.structs.replace(
                hook,
                model="sentiment",
                callback=hook.callback and msgspec.structs.replace(hook.callback, url=url),
            )
            for name, hook in loaded.hooks.items()
        }
        changed = msgspec.structs.replace(loaded, hooks=hooks)
        async with listening(changed, settings) as gateway:
            await _label_an_issue(gateway, receiver)
            body = json.dumps({"type": "tickets", "data": {"tickets": TICKETS}}).encode()
            status, answer = await gateway.post("/hooks/tickets", data=body, headers=signed(body))
    finally:
        await runner.cleanup()
    assert status == 200
    assert [(one["id"], one["label"]) for one in answer["results"]] == [
        ("T1", "positive"),
        ("T3", "negative"),
    ]
    assert len(answer["results"][0]["scores"]) == 2


async def _label_an_issue(gateway: Gateway, github: Receiver) -> None:
    issue = {"url": github.url + "repos/a/b/issues/7", "title": "It is awful", "body": BAD}
    body = json.dumps({"action": "opened", "issue": issue}).encode()
    status, job = await gateway.post("/hooks/github-issues", data=body, headers=by_github(body))
    assert (status, job["items"]) == (202, 1)
    (came,) = await github.received(1)
    assert came.path == "/repos/a/b/issues/7/labels"
    assert came.headers["Authorization"] == "Bearer of-github"
    assert came.json == {"labels": ["negative"]}
