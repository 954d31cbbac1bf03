"""A web service that asks the queue: one client for all requests, which then share messages.

Needs a broker and a worker, as `lmaas up` starts them, and `pip install aiohttp`.

    python examples/service.py &
    curl -d 'What a wonderful film!' localhost:8080/sentiment
"""

from collections.abc import AsyncIterator

from aiohttp import web

import lmaas

CLIENT = web.AppKey("CLIENT", lmaas.Client)


async def classify(request: web.Request) -> web.Response:
    model = request.match_info["model"]
    try:
        result = await request.app[CLIENT].classify(model, await request.text(), timeout=5)
    except lmaas.ModelNotFound as error:
        return web.json_response({"error": str(error)}, status=404)
    except lmaas.ItemFailed as error:
        return web.json_response({"error": str(error), "code": error.code}, status=422)
    except (lmaas.BrokerError, lmaas.TimeLimitExceeded) as error:
        return web.json_response({"error": str(error)}, status=503)
    return web.json_response({"label": result.label, "score": result.score})


async def client(app: web.Application) -> AsyncIterator[None]:
    async with lmaas.Client() as app[CLIENT]:
        yield


def application() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_post("/{model}", classify)
    return app


if __name__ == "__main__":
    web.run_app(application(), port=8080)
