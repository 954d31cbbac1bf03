"""A topology as the JSON that RabbitMQ imports, for brokers where users may not configure.

`rabbitmqctl import_definitions FILE` takes it. The one in `broker_config/definitions.json` is what
`lmaas broker definitions --model sentiment` prints.
"""

from __future__ import annotations

import re
from typing import Any

from lmaas.broker_config.settings import Settings
from lmaas.broker_config.topology import Topology


def policies(settings: Settings, vhost: str = "/") -> dict[str, Any]:
    """The setting keep_dead_letters as a policy; nothing without it.

    It is also for what the broker dead-letters by itself, and for what was there before.
    """
    if not settings.keep_dead_letters:
        return {}
    dead = settings.names.dead
    policy = {
        "vhost": vhost,
        "name": dead,
        "pattern": f"^{re.escape(dead)}$",
        "apply-to": "queues",
        "definition": {"message-ttl": max(1, round(settings.keep_dead_letters * 1000))},
        "priority": 0,
    }
    return {"policies": [policy]}


def definitions(wanted: Topology, vhost: str = "/") -> dict[str, Any]:
    """Exchanges, queues and bindings in `vhost`; users and permissions stay as they are."""
    exchanges = [
        {"name": exchange.name, "type": exchange.type, "internal": False}
        for exchange in wanted.exchanges
    ]
    queues = [{"name": queue.name, "arguments": queue.arguments} for queue in wanted.queues]
    bindings = [
        {
            "source": binding.source,
            "destination": binding.destination,
            "destination_type": binding.kind,
            "routing_key": binding.key,
            "arguments": {},
            "vhost": vhost,
        }
        for binding in wanted.bindings
    ]
    durable = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [{**exchange, **durable, "arguments": {}} for exchange in exchanges],
        "queues": [{**queue, **durable} for queue in queues],
        "bindings": bindings,
    }
