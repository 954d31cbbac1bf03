"""What TLS costs: a broker with both, and a worker and a client on either, in turns.

All is verified, and the users log in by their passwords.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import rig
from benchmarks.report import Report
from benchmarks.turns import in_turns
from lmaas.broker_config import node_folder
from lmaas.broker_config.certificates import Authority, Pair
from lmaas.broker_config.local_node import LocalNode
from lmaas.broker_config.ports import free_ports
from lmaas.broker_config.settings import Settings

#: Goal for TLS against none.
AT_LEAST: Final = 0.9
ON, OFF = "TLS", "no TLS"
_HERE: Final = "127.0.0.1"


async def measure() -> Report:
    texts = rig.reviews()
    async with _broker() as ways, rig.workers(ways[ON], 1), rig.workers(ways[OFF], 1):
        turns = await in_turns(ways, texts)
    workers = "a worker process with TLS and one without, each asked by a client like it"
    return turns.report("tls", workers, ON, OFF, AT_LEAST)


@contextlib.asynccontextmanager
async def _broker() -> AsyncIterator[dict[str, Settings]]:
    """Settings for each way to the same private broker, where each has lanes of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority, pair = Authority.at(folder), Pair.named(folder, "broker")
        authority.issue(pair, "broker", 1, "server", [_HERE])
        (port,) = free_ports(1)
        lines = (
            f"listeners.ssl.default = {_HERE}:{port}",
            f"ssl_options.cacertfile = {folder / 'ca.pem'}",
            f"ssl_options.certfile = {pair.certificate}",
            f"ssl_options.keyfile = {pair.key}",
            "ssl_options.versions.1 = tlsv1.3",
            "ssl_options.versions.2 = tlsv1.2",
        )
        node_folder.configure(folder / "node", "tls", "".join(f"{line}\n" for line in lines))
        async with LocalNode(folder / "node") as node:
            plain = Settings(broker_url=node.url, models=str(rig.MODELS), prefix="plain")
            login = node.url.removeprefix("amqp://").rpartition("@")[0]
            yield {
                ON: msgspec.structs.replace(
                    plain, broker_url=f"amqps://{login}@{_HERE}:{port}/", prefix="tls",
                    tls_ca=str(folder / "ca.pem"),
                ),
                OFF: plain,
            }  # fmt: skip
