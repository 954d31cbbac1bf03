"""For whom a worker takes a message to be."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from lmaas.broker_config.topology import Names
from lmaas.workers.callers import Callers

NAMES = Names()
CALLERS = Callers(NAMES, ["gateway"])


@pytest.mark.parametrize(
    ("user", "told", "tenant"),
    [
        ("shop", None, "shop"),
        ("gateway", None, "gateway"),
        ("gateway", "key-1", "gateway/key-1"),
        ("shop", "key-1", "shop"),  # may not speak for others
        ("shop", "gateway/key-1", "shop"),
        (None, None, None),
        (None, "shop", None),
    ],
)
def test_a_user_is_a_tenant_and_a_gateway_says_for_whom_it_asks(
    user: str | None, told: str | None, tenant: str | None
) -> None:
    message = Mock(user_id=user, exchange=NAMES.work)
    assert CALLERS.tenant(message, told, "m") == tenant


@pytest.mark.parametrize(("model", "tenant"), [("m", "shop"), ("other", None)])
def test_a_copy_is_of_whom_the_worker_said_that_made_it(model: str, tenant: str | None) -> None:
    """Nobody else may write to that exchange."""
    message = Mock(user_id=None, exchange=NAMES.copies(model))
    assert CALLERS.tenant(message, "shop", "m") == tenant


def test_a_long_name_is_cut() -> None:
    message = Mock(user_id="gateway", exchange=NAMES.work)
    assert len((CALLERS.tenant(message, "é" * 127, "m") or "").encode()) <= 255
