"""What a worker counts, and with which labels."""

from __future__ import annotations

import uuid
from collections import Counter
from unittest.mock import Mock

import prometheus_client
import pytest

from lmaas.broker_config.headers import Headers
from lmaas.broker_config.messages import Item, Request
from lmaas.workers import metrics
from lmaas.workers.delivery import Delivery
from lmaas.workers.pack import Pack


def value(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_was_retried_or_dead_lettered_is_counted_by_its_code() -> None:
    before = value("lmaas_retries_total", delay="5s", code="unavailable")
    metrics.retried("5s", "unavailable")
    metrics.retried("5s", "unavailable")
    assert value("lmaas_retries_total", delay="5s", code="unavailable") == before + 2
    before = value("lmaas_parked_total", code="poison")
    metrics.dead_lettered("poison")
    assert value("lmaas_parked_total", code="poison") == before + 1


def test_a_code_of_somebody_else_is_no_label() -> None:
    before = value("lmaas_parked_total", code="other")
    metrics.dead_lettered("user-4711")
    assert value("lmaas_parked_total", code="other") == before + 1
    assert value("lmaas_parked_total", code="user-4711") == 0.0


def answered(tenant: str | None) -> Delivery:
    """A pack of three items, one of which has an error."""
    pack = Pack(Request(model="m", items=[Item(id=name, text="x") for name in "abc"]))
    delivery = Delivery(Mock(), Headers(tenant=tenant, published_ms=1), pack, "m", "short")
    delivery.seconds = 0.5
    delivery.outcomes = Counter(ok=2, empty_text=1)
    metrics.began([delivery])
    metrics.ran([delivery], 0.25)
    metrics.answered(delivery)
    return delivery


def of_tenant(name: str) -> dict[str, float]:
    counted = ("items_total", "failures_total", "work_seconds_total", "wait_seconds_count")
    return {one: value(f"lmaas_tenant_{one}", tenant=name) for one in counted}


def test_items_errors_work_and_waits_are_counted_by_tenant() -> None:
    before = of_tenant("shop")
    answered("shop")
    found = {name: number - before[name] for name, number in of_tenant("shop").items()}
    assert found == {
        "items_total": 3,
        "failures_total": 1,
        "work_seconds_total": 0.25,
        "wait_seconds_count": 1,
    }
    answered(None)  # nobody has said who
    assert of_tenant("")["items_total"] >= 3


def test_of_any_number_of_tenants_so_many_have_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    known = metrics._metrics().tenants._known
    monkeypatch.setattr(metrics, "TENANTS", len(known) + 2)
    before = of_tenant("other")["items_total"]
    names = [uuid.uuid4().hex for _ in range(5)]
    for name in names:
        answered(name)
    assert [of_tenant(name)["items_total"] for name in names] == [3, 3, 0, 0, 0]
    assert of_tenant("other")["items_total"] == before + 9
