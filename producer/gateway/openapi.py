"""The OpenAPI 3.1 document: made of the table of routes and the structures of the code."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec
from aiohttp import web

from lmaas.producer.gateway.bodies import FORM, UNNAMED
from lmaas.producer.gateway.forms import MULTIPART
from lmaas.producer.gateway.routes import JSON, Route

_REFERENCE: Final = "#/components/schemas/{name}"
#: What any route of its kind may answer, in which a route may say more.
_WITH_KEY: Final = {
    401: "no key that may be used came with the request",
    403: "the key does not have the scope, or the gateway has another name",
    429: "the key is at a limit; see Retry-After",
    503: "the gateway's database cannot be used; see Retry-After",
}
_WITH_BODY: Final = {
    400: "the body cannot be read, or is incomplete",
    408: "the body came too slowly",
    413: "too many bytes or items",
    415: "bodies of this type are not read",
    422: "the body has another structure",
}
_WITH_QUERY: Final = {422: "a parameter of the query is wrong"}
_WITH_PATH: Final = {404: "there is no such path"}


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
    found = (kind for route in described for kind in _types(route) if kind is not None)
    _, schemas = msgspec.json.schema_components(dict.fromkeys(found), ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMaaS",
            "version": version("lmaas"),
            "description": "AI classifiers as a service: calls, jobs and webhooks over HTTP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in described)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _types(route: Route) -> tuple[Any, ...]:
    return (route.takes, route.form, route.gives, route.protocol.refusal, *route.bodies.values())


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *re.findall(r"\w+", route.path)]),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    if route.notes:
        operation["description"] = route.notes
    if parameters := [*_of_path(route), *_of_query(route), *_of_headers(route)]:
        operation["parameters"] = parameters
    if route.takes is not None or route.reads:
        operation["requestBody"] = {"required": True, **_sent(route)}
    if route.scope is not None:
        ways = [[scope] for scope in route.scope.split()] or [[]]
        operation["security"] = [{by: scopes} for scopes in ways for by in ("key", "header")]
    return operation


def _responses(route: Route) -> dict[str, Any]:
    """Of each status that a caller may see."""
    done = {"description": "done", **_content(route.gives, route.sends)}
    refusals: dict[int, dict[str, Any]] = {}
    for status, when in (*route.others.items(), *_common(route).items()):
        body = route.bodies.get(status, route.protocol.refusal)
        refusals.setdefault(route.protocol.status(status), {"description": when, **_content(body)})
    return {str(int(route.status)): done} | {
        str(status): refusals[status] for status in sorted(refusals)
    }


def _common(route: Route) -> dict[int, str]:
    """The refusals that its parts make possible."""
    return {
        **(_WITH_PATH if "{" in route.path else {}),
        **(_WITH_QUERY if route.query is not None else {}),
        **(_WITH_BODY if route.takes is not None or route.reads else {}),
        **(_WITH_KEY if route.scope is not None else {}),
    }


def _of_path(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)", route.path)
    ]


def _of_headers(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "header", "schema": {"type": "string"}} for name in route.headers]


def _of_query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, schemas = msgspec.json.schema_components([route.query], ref_template=_REFERENCE)
    schema = schemas[route.query.__name__]
    return [
        {"name": name, "in": "query", "schema": _set(one)}
        for name, one in schema["properties"].items()
    ]


def _set(schema: dict[str, Any]) -> dict[str, Any]:
    """Without null, which a query cannot say."""
    given = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return given[0] if len(given) == 1 else schema


def _sent(route: Route) -> dict[str, Any]:
    """The bodies that it takes."""
    content = {one: {"schema": _body(one)} for one in route.reads}
    if route.form is not None:
        content[MULTIPART] = {"schema": _schema(route.form)}
    if route.takes is not None:
        content = {JSON: {"schema": _schema(route.takes)}} | content
    return {"content": content}


def _content(kind: Any, sends: Sequence[str] = ()) -> dict[str, Any]:
    """Of answers with this structure, or of other media types."""
    content: dict[str, Any] = {one: {} for one in sends}
    if kind is not None:
        content = {JSON: {"schema": _schema(kind)}} | content
    return {"content": content} if content else {}


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return schema


def _body(media_type: str) -> dict[str, Any]:
    if media_type == MULTIPART:
        return {
            "type": "object",
            "properties": {"file": {"type": "string", "contentMediaType": UNNAMED}},
            "required": ["file"],
            "additionalProperties": {"type": "string"},
        }
    if media_type == FORM:
        return {"type": "object"}
    return {} if media_type.endswith("json") else {"type": "string"}
