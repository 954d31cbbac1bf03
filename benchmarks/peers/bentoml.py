"""BentoML, one worker, adaptive batching on: "Adaptive batching" of docs.bentoml.com."""

from __future__ import annotations

from typing import Any

import bentoml

from benchmarks import rig
from benchmarks.peers import runtime


@bentoml.service(workers=1, traffic={"timeout": 30})
class Reviews:
    def __init__(self) -> None:
        runtime()

    @bentoml.api(batchable=True, max_batch_size=256)  # type: ignore[untyped-decorator]
    def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        found = runtime().labelled(rig.items(texts))
        return [{"label": label, "score": float(score)} for label, score, _ in found]
