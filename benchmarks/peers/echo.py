"""What aiohttp itself takes: a handler that reads a call and answers as much as we do."""

from __future__ import annotations

import sys

import msgspec
import uvloop
from aiohttp import web

ANSWER = b'{"model":"sentiment","results":[{"id":"0","label":"positive","score":0.981234}]}'


async def echo(request: web.Request) -> web.Response:
    msgspec.json.decode(await request.read())
    return web.Response(body=ANSWER, content_type="application/json")


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/classify", echo)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
