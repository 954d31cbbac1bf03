"""Sets labels on GitHub issues: the receiver of the hook `github-issues` of examples/hooks.toml.

    pip install aiohttp standardwebhooks
    export LABELS_WEBHOOK_SECRET=whsec_... GITHUB_TOKEN=...
    python examples/label_issues.py

LMaaS tells it of each issue that has been classified. The id of a result is the issue's address.
"""

import os
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

HTTP = web.AppKey("HTTP", aiohttp.ClientSession)
#: Only addresses that begin so get the token.
API = os.environ.get("GITHUB_API", "https://api.github.com")


async def receive(request: web.Request) -> web.Response:
    """An answer other than 2xx has LMaaS send it again."""
    try:
        event = Webhook(os.environ["LABELS_WEBHOOK_SECRET"]).verify(
            await request.text(), dict(request.headers)
        )
    except WebhookVerificationError as error:
        raise web.HTTPUnauthorized from error
    for result in event["data"]["results"] or []:
        if result.get("label") and result["id"].startswith(f"{API}/"):
            # To add a label that is there changes nothing, so the same event may come twice.
            await add_label(request.app[HTTP], result["id"], result["label"])
    return web.Response(status=204)


async def add_label(http: aiohttp.ClientSession, issue: str, label: str) -> None:
    headers = {"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}"}
    async with http.post(f"{issue}/labels", json={"labels": [label]}, headers=headers) as answer:
        answer.raise_for_status()


async def connected(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as app[HTTP]:
        yield


def application() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.router.add_post("/", receive)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8090)
