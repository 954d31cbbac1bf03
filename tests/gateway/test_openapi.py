"""The document of all routes."""

from __future__ import annotations

import re

import msgspec

from lmaas.producer.gateway import openapi
from lmaas.producer.gateway.app import ROUTES


def test_each_operation_has_a_name_of_its_own() -> None:
    paths = openapi.document(ROUTES)["paths"]
    names = [one["operationId"] for operations in paths.values() for one in operations.values()]
    assert len(set(names)) == len(names) >= len(paths) > 10
    assert "/v2/models/{model}/versions/{version}/infer" in paths


def test_each_operation_has_a_tag_that_the_document_lists() -> None:
    document = openapi.document(ROUTES)
    listed = [tag["name"] for tag in document["tags"]]
    used = [one["tags"] for operations in document["paths"].values() for one in operations.values()]
    assert all(len(tags) == 1 for tags in used)
    assert set(listed) == {tag for (tag,) in used}
    assert len(set(listed)) == len(listed) > 5
    assert document["paths"]["/v1/jobs/{id}/results"]["get"]["tags"] == ["Jobs"]


def test_what_there_is_not_is_not_described() -> None:
    assert not any("sharedmemory" in path for path in openapi.document(ROUTES)["paths"])


def test_structures_of_one_name_are_the_same() -> None:
    """Or else a reference would lead to neither."""
    document = msgspec.json.encode(openapi.document(ROUTES)).decode()
    schemas = set(openapi.document(ROUTES)["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', document)) <= schemas
