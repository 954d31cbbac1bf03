"""What an application has for all of its handlers: `request.app[CLIENT]`.

What belongs to one room has its key there, beside its class.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from lmaas.producer.batch import Jobs
from lmaas.producer.client import Client
from lmaas.producer.gateway.callers import Callers
from lmaas.producer.gateway.congestion import Congestion
from lmaas.producer.gateway.known_cards import KnownCards
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State

CALLERS: Final[web.AppKey[Callers]] = web.AppKey("callers", Callers)
CARDS: Final = web.AppKey("cards", KnownCards)
CLIENT: Final[web.AppKey[Client]] = web.AppKey("client", Client)
CONGESTION: Final = web.AppKey("congestion", Congestion)
SETTINGS: Final = web.AppKey("settings", GatewaySettings)
STATE: Final = web.AppKey("state", State)
BROKER_JOBS: Final = web.AppKey("broker_jobs", Jobs)
#: Set when the gateway is stopped: answers without an end are ended.
STOPPING: Final = web.AppKey("stopping", asyncio.Event)
