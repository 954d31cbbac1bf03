"""Ray Serve, one replica, `serve.batch`: "Dynamic Request Batching" of docs.ray.io."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks import rig
from benchmarks.peers import runtime


@serve.deployment(num_replicas=1, max_ongoing_requests=512)
class Reviews:
    def __init__(self) -> None:
        runtime()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        found = runtime().labelled(rig.items(texts))
        return [{"label": label, "score": float(score)} for label, score, _ in found]

    async def __call__(self, request: Request) -> Any:
        body = await request.json()
        return await self.classify(body["text"])


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Reviews.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
