"""Who asks, and that one who asks for much does not keep the others waiting.

With users of their own, and a real model: `test_rights`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from lmaas.broker_config.settings import Settings
from tests.integration.lanes import having
from tests.integration.sender import Sender
from tests.integration.stage import Stage

pytestmark = pytest.mark.usefixtures("lanes", "priced")

FLOOD = [f"flood {number}" for number in range(50)]
CALLS = [f"call {number}" for number in range(5)]


def of(settings: Settings, tenant: str, age: float = 0.0) -> dict[str, Any]:
    """Properties of a message that the test's user sends for a tenant, `age` seconds ago."""
    published = int((time.time() - age) * 1000)
    headers = {"lmaas-tenant": tenant, "lmaas-published-ms": published}
    return {"user_id": settings.user, "headers": headers}


@pytest.mark.parametrize("memory", [30.0, 0.0])
async def test_calls_of_one_tenant_do_not_wait_for_the_backlog_of_another(
    settings: Settings, sender: Sender, memory: float
) -> None:
    """It has waited for a minute, which makes up for 9 s of work, and each pack takes 0.05 s."""
    stage = Stage()
    stage.hold()
    serving = having(
        settings, gateway_users=(settings.user,), prefetch=2 * len(FLOOD), tenant_memory=memory
    )
    async with stage.serving(serving):
        await sender.raw("first", 0.05, "medium", **of(settings, "greedy"))
        await stage.began()
        for name in FLOOD:
            await sender.raw(name, 0.05, "medium", **of(settings, "greedy", age=60))
        for name in CALLS:
            await sender.raw(name, 0.001, "instant", **of(settings, "other"))
        await stage.has(len(FLOOD) + len(CALLS))
        stage.release()
        await sender.replies(1 + len(FLOOD) + len(CALLS))
    assert stage.packs == ["first", *(CALLS + FLOOD if memory else FLOOD + CALLS)]


async def test_what_a_sender_says_of_itself_counts_no_more_in_a_copy(
    settings: Settings, sender: Sender
) -> None:
    """Its user may not speak for others: the worker that moves a pack knows the user alone."""
    stage = Stage()
    stage.hold()
    async with stage.serving(settings):
        await sender.raw("first", 0.05, "medium", **of(settings, "a"))
        await stage.began()
        await sender.raw("misplaced", 5.0, "instant", **of(settings, "b"))
        stage.step()
        await stage.began(2)
        (moved,) = stage.worker.execution.running
        stage.release()
        await sender.replies(2)
    assert stage.lanes["misplaced"] == "huge"
    assert (moved.message.user_id, moved.tenant) == (None, settings.user)
