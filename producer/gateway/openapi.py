"""The OpenAPI 3.1 document: made of the table of routes and the structures of the code."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

import lmaas
from lmaas.producer.gateway.routes import JSON, OURS, Route

_REFERENCE: Final = "#/components/schemas/{name}"


class Fault(msgspec.Struct):
    """Why a request was not done."""

    code: str
    message: str


class Refusal(msgspec.Struct):
    """The body of an error."""

    error: Fault


def routes(described: Sequence[Route]) -> tuple[Route, ...]:
    """Where the document is."""

    @functools.cache
    def made() -> bytes:
        return msgspec.json.encode(document(described))

    async def tell(_request: web.Request) -> web.Response:
        return web.Response(body=made(), content_type=JSON)

    return (Route("GET", "/openapi.json", tell, "This document", scope=None),)


def document(described: Sequence[Route]) -> dict[str, Any]:
    """As plain values."""
    described = [route for route in described if route.documented]
    types = [kind for route in described for kind in (route.takes, route.gives) if kind]
    _, schemas = msgspec.json.schema_components([*types, Refusal], ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMaaS",
            "version": lmaas.__version__,
            "description": "AI classifiers as a service: calls, jobs and webhooks over HTTP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    error = Refusal if route.protocol is OURS else None
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "summary": route.summary,
        "responses": {
            str(int(route.status)): {"description": "done", **_content(route.gives)},
            **{
                str(status): {"description": when, **_content(error)}
                for status, when in sorted(route.others.items())
            },
        },
    }
    if route.notes:
        operation["description"] = route.notes
    if names := re.findall(r"{(\w+)", route.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if route.takes is not None:
        operation["requestBody"] = {"required": True, **_content(route.takes)}
    if route.scope is not None:
        ways = [[scope] for scope in route.scope.split()] or [[]]
        operation["security"] = [{by: scopes} for scopes in ways for by in ("key", "header")]
    return operation


def _content(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return {"content": {JSON: {"schema": schema}}}
