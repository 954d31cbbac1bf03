"""Who leads a quorum queue of a private cluster, who follows, and whether they have the same."""

from __future__ import annotations

from enum import StrEnum
from random import Random

from lmaas.broker_config.local_cluster import LocalCluster
from lmaas.broker_config.local_node import LocalNode


class Role(StrEnum):
    """What a node is to a queue."""

    FOLLOWER = "follower"
    LEADER = "leader"


async def node_of(cluster: LocalCluster, queue: str, role: Role, source: Random) -> int:
    """The number of the queue's leader, or of one of its followers; all nodes have to run."""
    leader = leader_of(queue, await cluster.nodes[0].ctl("list_queues", "name", "leader"))
    if role is Role.LEADER:
        return leader
    return source.choice([number for number in range(len(cluster.nodes)) if number != leader])


def leader_of(queue: str, listed: str) -> int:
    """From the names of queues and of their leaders, node 0 of which is `r1@localhost`."""
    leaders = dict(line.split("\t") for line in listed.splitlines())
    name, _, _ = leaders[queue].partition("@")
    return int(name.removeprefix("r")) - 1


async def in_sync(node: LocalNode, queue: str) -> bool:
    """Whether the logs of all three members end alike."""
    members = f'rabbit_quorum_queue:status(<<"/">>, <<"{queue}">>)'
    ends = f'[proplists:get_value(<<"Log Index">>, Member) || Member <- {members}]'
    counts = await node.ctl("eval", f"{{length({ends}), length(lists:usort({ends}))}}.")
    return counts.strip() == "{3,1}"
