"""What a worker counts, and with which labels."""

from __future__ import annotations

import prometheus_client

from lmaas.workers import metrics


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
