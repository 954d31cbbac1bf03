"""A RabbitMQ cluster on this machine: private nodes that can be killed one by one.

    async with LocalCluster() as cluster:
        settings = Settings(broker_url=cluster.url, queue_type="quorum")

Each node is a LocalNode in a folder of its own; they share a user, a cookie and one epmd, by which
they find each other. Several nodes on one machine protect from nothing that ends the machine: this
is for trying out and for tests.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Final, Self

from lmaas.broker_config import node_folder
from lmaas.broker_config.errors import LocalNodeError
from lmaas.broker_config.guarded import ProcessGroup
from lmaas.broker_config.local_node import LocalNode, Member, start_epmd
from lmaas.broker_config.ports import free_ports, listens
from lmaas.broker_config.together import all_of

#: Seconds for all nodes together; three take about 20 on two cores that have other work.
START_TIMEOUT: Final = 240.0
_EPMD_TIMEOUT: Final = 10.0
_POLL: Final = 0.05

_CONFIGURATION: Final = """\
cluster_formation.peer_discovery_backend = classic_config
{peers}
# Each node has a log of this size in memory and on disk; the default is 512 MiB.
raft.wal_max_size_bytes = 33554432
"""


class LocalCluster:
    """Nodes `0` to `count - 1`, started together; temporary, as is all that they hold."""

    def __init__(self, count: int = 3, *, start_timeout: float = START_TIMEOUT) -> None:
        self._count = count
        self._start_timeout = start_timeout
        self._folder: Path | None = None
        self._group: ProcessGroup | None = None
        #: Each with its `url`, `pid` and `ctl`, once the cluster was started.
        self.nodes: list[LocalNode] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def urls(self) -> list[str]:
        """Of every node, running or not, in the order of `nodes`."""
        return [node.url for node in self.nodes]

    @property
    def url(self) -> str:
        """All of them, as the setting broker_url takes it."""
        return ",".join(self.urls)

    async def start(self, number: int | None = None) -> None:
        """Starts what does not run: one node, or all; returns when they answer as one cluster.

        Raises LocalNodeError when RabbitMQ is not installed or a node does not come up.
        """
        if number is not None:
            await self.nodes[number].start()
            return
        try:
            if self._group is None:
                await self._prepare()
            await all_of(*(node.start() for node in self.nodes))
            await self._joined()
        except BaseException:
            await self.stop()
            raise

    async def _prepare(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lmaas-cluster-"))
        self._group = ProcessGroup()
        (port,) = free_ports(1)
        epmd = start_epmd(self._group, self._folder, os.environ, port)
        async with asyncio.timeout(_EPMD_TIMEOUT):
            while not await listens(port):
                if epmd.poll() is not None:
                    raise LocalNodeError("epmd ended: its port was taken by another program")
                await asyncio.sleep(_POLL)
        names = [f"r{number + 1}@localhost" for number in range(self._count)]
        password, cookie = secrets.token_urlsafe(24), secrets.token_hex(16).upper()
        for name in names:
            folder = self._folder / name
            node_folder.configure(folder, "cluster", _configuration(names))
            member = Member(name, port, password, cookie)
            self.nodes.append(LocalNode(folder, start_timeout=self._start_timeout, member=member))

    async def _joined(self) -> None:
        """Each node looks for the others while it starts; here it is told when one did not."""
        running = await self.nodes[0].ctl("eval", "length(rabbit_nodes:all_running()).")
        if int(running) != self._count:
            raise LocalNodeError(f"{running.strip()} of {self._count} nodes formed a cluster")

    def kill(self, number: int) -> None:
        """SIGKILL of one node, as a crash would; its data stay for the next `start`."""
        self.nodes[number].kill()

    async def stop(self) -> None:
        """Ends all nodes at once and removes what they held; does nothing twice."""
        # By force: a clean stop of one member after the other waits for those that are gone.
        for node in self.nodes:
            node.kill()
        if self._group is not None:
            self._group.end()
            self._group = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.nodes = []


def _configuration(names: list[str]) -> str:
    peers = "\n".join(
        f"cluster_formation.classic_config.nodes.{place} = {name}"
        for place, name in enumerate(names, 1)
    )
    return _CONFIGURATION.format(peers=peers)
