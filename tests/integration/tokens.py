"""Tokens for RabbitMQ's plugin for OAuth 2: what the broker needs for them, and who makes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

PLUGIN: Final = "rabbitmq_auth_backend_oauth2"
#: The broker's secret for tokens.
KEY: Final = "a key of at least thirty-two bytes"
#: Seconds for which a token is good.
LIFE: Final = 10

#: The broker takes tokens, and looks every half a second whether a channel's has expired.
BROKER: Final = f"""\
[{{rabbit, [{{auth_backends, [rabbit_auth_backend_internal, rabbit_auth_backend_oauth2]}},
           {{channel_tick_interval, 500}}]}},
 {{rabbitmq_auth_backend_oauth2, [
   {{resource_server_id, <<"rabbitmq">>}},
   {{key_config, [
     {{default_key, <<"k">>}},
     {{signing_keys, #{{<<"k">> => {{map, #{{<<"kty">> => <<"MAC">>, <<"alg">> => <<"HS256">>,
                                       <<"use">> => <<"sig">>, <<"value">> => <<"{KEY}">>}}}}}}}}
   ]}}
 ]}}].
"""

#: Prints a token for the user, who may do all, and notes when it expires.
ISSUER: Final = f"""\
import base64, hashlib, hmac, json, sys, time
user, life, notes = sys.argv[1], float(sys.argv[2]), sys.argv[3]
part = lambda content: base64.urlsafe_b64encode(content).rstrip(b"=")
expires = int(time.time() + life)
scopes = [f"rabbitmq.{{right}}:*/*/*" for right in ("configure", "write", "read")]
claims = {{"sub": user, "aud": ["rabbitmq"], "scope": scopes, "exp": expires}}
head = part(json.dumps({{"alg": "HS256", "kid": "k", "typ": "JWT"}}).encode())
body = head + b"." + part(json.dumps(claims).encode())
print((body + b"." + part(hmac.digest({KEY.encode()!r}, body, hashlib.sha256))).decode())
with open(notes, "a") as file:
    print(expires, file=file)
"""


class Issuer:
    """Commands that make tokens."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        (folder / "issuer.py").write_text(ISSUER)

    def command(self, user: str, life: float = LIFE) -> tuple[str, ...]:
        notes = str(self._notes(user))
        return (sys.executable, "-IS", str(self._folder / "issuer.py"), user, str(life), notes)

    def issued(self, user: str) -> list[float]:
        """When the tokens of the user expire."""
        return [float(line) for line in self._notes(user).read_text().split()]

    def _notes(self, user: str) -> Path:
        return self._folder / f"{user}.notes"
