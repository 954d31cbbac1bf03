"""Users of the broker by role, each with no more rights than its role needs. Pure.

RabbitMQ's permissions are three regular expressions over the names of queues and exchanges, and two
over the routing keys of an exchange of type topic. What each role has them for:

=========  =====================================================================================
operator   makes the topology, reads and replays dead letters, looks with `lmaas broker doctor`
worker     takes from the lanes of its models; writes answers, dead letters, and copies for the
           lanes of its models, at once or after a delay
producer   publishes requests and cancellations; has queues of its own, for answers and jobs
gateway    is a producer
monitor    asks workers for cards and states, and sees RabbitMQ's own monitoring
=========  =====================================================================================
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.scheduling import LANES
from lmaas.broker_config.topology import Names, is_model_name, user_word

Role = Literal["operator", "worker", "producer", "gateway", "monitor"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

#: As a permission: no name at all.
NOTHING: Final = "^$"
#: Names that RabbitMQ gives to queues.
_UNNAMED: Final = r"amq\.gen-.*"
_SALT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class User:
    """A user that the broker is to have."""

    name: str
    role: Role
    #: Those that a worker serves; none: any.
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do, as regular expressions."""

    configure: str
    write: str
    read: str
    #: For routing keys of the exchange `results`.
    topic_write: str
    topic_read: str
    #: For RabbitMQ's management.
    tags: tuple[str, ...] = ()


def users(models: Iterable[str] = (), others: Iterable[User] = ()) -> list[User]:
    """A user of each role with its name, whose worker serves `models`, and `others`."""
    served = tuple(models)
    found = [User(role, role, served if role == "worker" else ()) for role in ROLES]
    return list({one.name: one for one in (*found, *others)}.values())


def parsed(text: str) -> User:
    """Of `NAME=ROLE` or `NAME=worker:MODEL,MODEL`. Raises SettingsError."""
    name, _, given = text.partition("=")
    role, has_models, models = given.partition(":")
    served = tuple(models.split(",")) if has_models else ()
    if not name or role not in ROLES or (has_models and role != "worker"):
        raise SettingsError(
            f"user {text!r} should look like NAME=ROLE, with one of the roles {', '.join(ROLES)}; "
            "or like NAME=worker:MODEL,MODEL, for a worker of these models alone"
        )
    if wrong := [model for model in served if not is_model_name(model)]:
        raise SettingsError(f"user {text!r}: no model can have the name {wrong[0]!r}")
    return User(name, role, served)


def rights(names: Names, user: User) -> Rights:
    """Of an installation, which is that of `names`; whose user is that is no matter."""
    root = re.escape(f"{names.root}.")
    word = re.escape(user_word(user.name))
    own = rf"{root}user\.{word}\..*"
    own_keys = rf"^{word}\..*$"
    if user.role == "operator":
        # `read` on the lanes is asked for who makes them, because they have dead letters.
        shared = rf"{root}(?!user\.).*"
        # The default exchange is for the trial of policies.
        return Rights(
            _any(shared, own),
            _any(shared, own, r"amq\.default"),
            _any(shared, own),
            own_keys,
            own_keys,
        )
    if user.role == "worker":
        models = f"({'|'.join(map(re.escape, user.models))})" if user.models else ".+"
        retry = rf"retry\.{models}\.[0-9]+(ms|s|m)"
        return Rights(
            _any(_UNNAMED),
            _any(_UNNAMED, rf"{root}(results|dead|copies\.{models}|{retry})"),
            _any(_UNNAMED, rf"{root}(cards|work\.{models}\.({'|'.join(LANES)}))"),
            ".*",
            NOTHING,
        )
    # RabbitMQ 4.3 tells the depth of a queue to those only who have some right to it. With this one
    # a producer can bind lanes to exchanges of its own, by which it publishes nothing else.
    written = "cards" if user.role == "monitor" else r"cards|work(\..+)?"
    return Rights(
        _any(own),
        _any(own, f"{root}({written})"),
        _any(own, f"{root}results"),
        NOTHING,
        own_keys,
        ("monitoring",) if user.role == "monitor" else (),
    )


def _any(*patterns: str) -> str:
    return f"^({'|'.join(patterns)})$"


def user_definitions(
    names: Names, wanted: Iterable[User], passwords: Mapping[str, str], vhost: str = "/"
) -> dict[str, Any]:
    """The part of RabbitMQ's definitions with users, hashes of their passwords, and rights."""
    found: dict[str, Any] = {"users": [], "permissions": [], "topic_permissions": []}
    for user in wanted:
        may = rights(names, user)
        found["users"].append(account(user.name, passwords[user.name], may.tags))
        where = {"user": user.name, "vhost": vhost}
        found["permissions"].append(
            {**where, "configure": may.configure, "write": may.write, "read": may.read}
        )
        found["topic_permissions"].append(
            {
                **where,
                "exchange": names.results,
                "write": may.topic_write,
                "read": may.topic_read,
            }
        )
    return found


def account(name: str, password: str, tags: Iterable[str] = ()) -> dict[str, Any]:
    """A user among RabbitMQ's definitions, without any right."""
    return {
        "name": name,
        "password_hash": hashed(password),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(tags),
    }


def hashed(password: str) -> str:
    """As RabbitMQ keeps a password: base64 of a random salt and the SHA-256 of both."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
