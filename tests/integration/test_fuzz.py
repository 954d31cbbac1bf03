"""Malformed messages: each is dead-lettered or answered, and the worker does not mind."""

from __future__ import annotations

from benchmarks.failures.fuzz import fuzz
from lmaas.broker_config.settings import Settings
from tests import tls

MESSAGES = 2_000
#: Bytes by which a worker may grow that has seen a quarter of them before: by 25 MiB here, alone
#: as well as beside other work. TLS has buffers of its own.
MAY_GROW = (100 if tls.are_wanted() else 64) * 2**20
#: Seconds for which its event loop may stand still, beside whatever else runs.
MAY_BLOCK = 3


async def test_malformed_messages_are_dead_lettered_or_answered(settings: Settings) -> None:
    found = await fuzz(settings, MESSAGES, seed=7)
    assert found.sent == MESSAGES
    assert found.lost == {}
    assert found.multiplied == {}
    assert found.left == 0
    assert found.redelivered == 0
    assert found.blocked < MAY_BLOCK
    assert (found.code, found.disconnected) == (0, 0)
    assert found.good
    assert found.after - found.before < MAY_GROW
