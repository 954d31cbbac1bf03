"""What an application has for its handlers: `request.app[CLIENT]`."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from lmaas.producer.client import Client
from lmaas.producer.gateway.settings import GatewaySettings
from lmaas.producer.gateway.state import State

CLIENT: Final[web.AppKey[Client]] = web.AppKey("client", Client)
SETTINGS: Final = web.AppKey("settings", GatewaySettings)
STATE: Final = web.AppKey("state", State)
