"""`/` and `/docs`, and what they load: files of this folder, without a build step.

The folder `swagger-ui` has files of the npm package swagger-ui-dist 5.35.0, unchanged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from lmaas.producer.gateway.routes import Handler, Route

_FOLDER: Final = Path(__file__).parent
_PAGES: Final = {"/": "page.html", "/docs": "docs.html"}
_ASSETS: Final = (
    "docs.css",
    "docs.js",
    "icon.svg",
    "page.css",
    "page.js",
    "swagger-ui/swagger-ui-bundle.js",
    "swagger-ui/swagger-ui.css",
)


def _sending(name: str) -> Handler:
    async def send(_request: web.Request) -> web.StreamResponse:
        # The browser asks each time whether what it has is still right.
        return web.FileResponse(_FOLDER / name, headers={hdrs.CACHE_CONTROL: "no-cache"})

    return send


def _route(path: str, name: str) -> Route:
    return Route("GET", path, _sending(name), "", scope=None, documented=False)


ROUTES: Final = (
    *(_route(path, name) for path, name in _PAGES.items()),
    *(_route(f"/assets/{name}", name) for name in _ASSETS),
)
