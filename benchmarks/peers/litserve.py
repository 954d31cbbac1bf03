"""LitServe, one worker, batching on: "Features / Batching" of lightning.ai/docs/litserve."""

from __future__ import annotations

import sys
from typing import Any

import litserve

from benchmarks import rig
from benchmarks.peers import runtime

BATCH = 64
BATCH_TIMEOUT = 0.005


class Reviews(litserve.LitAPI):
    def setup(self, device: str) -> None:
        runtime()

    # LitServe takes a type that is named for that of a query.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        text: str = request["text"]
        return text

    def batch(self, inputs: list[str]) -> list[str]:
        return list(inputs)

    def predict(self, x: list[str]) -> list[tuple[str, float]]:
        return [(label, score) for label, score, _ in runtime().labelled(rig.items(x))]

    def unbatch(self, output: list[tuple[str, float]]) -> list[tuple[str, float]]:
        return output

    def encode_response(self, output: tuple[str, float]) -> dict[str, Any]:
        label, score = output
        return {"label": label, "score": score}


if __name__ == "__main__":
    api = Reviews(max_batch_size=BATCH, batch_timeout=BATCH_TIMEOUT)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
