"""What an application has for its handlers: `request.app[CLIENT]`."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.gateway.callbacks.outbox import Outbox
from lmaas.producer.gateway.callers import Callers
from lmaas.producer.gateway.congestion import Congestion
from lmaas.producer.gateway.hooks.configured import Ready
from lmaas.producer.gateway.inference_protocol.statistics import Statistics
from lmaas.producer.gateway.jobs.collecting import Collecting, Finished
from lmaas.producer.gateway.known_cards import KnownCards
from lmaas.producer.gateway.monitoring.dead_letters import DeadLetters
from lmaas.producer.gateway.monitoring.looks import Looks
from lmaas.producer.gateway.monitoring.recent import Recent
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State

CALLERS: Final[web.AppKey[Callers]] = web.AppKey("callers", Callers)
CARDS: Final = web.AppKey("cards", KnownCards)
CLIENT: Final[web.AppKey[Client]] = web.AppKey("client", Client)
CONGESTION: Final = web.AppKey("congestion", Congestion)
SETTINGS: Final = web.AppKey("settings", GatewaySettings)
STATISTICS: Final = web.AppKey("statistics", Statistics)
STATE: Final = web.AppKey("state", State)
OUTBOX: Final = web.AppKey("outbox", Outbox)
HOOKS: Final[web.AppKey[dict[str, Ready]]] = web.AppKey("hooks", dict)
BROKER_JOBS: Final = web.AppKey("broker_jobs", Jobs)
COLLECTING: Final = web.AppKey("collecting", Collecting)
#: What is to be done in the transaction in which a job ends; modules append to it.
FINISHED: Final[web.AppKey[list[Finished]]] = web.AppKey("finished", list)
#: Set when the gateway is stopped: answers without an end are ended.
STOPPING: Final = web.AppKey("stopping", asyncio.Event)
LOOKS: Final[web.AppKey[Looks]] = web.AppKey("looks", Looks)
DEAD_LETTERS: Final = web.AppKey("dead_letters", DeadLetters)
RECENT: Final = web.AppKey("recent", Recent)
