"""What holds a secret does not show it: not printed, formatted, pickled, nor written as JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import lmaas.producer.gateway.app  # noqa: F401 - with all that a gateway has
from lmaas.broker_config import local_cluster  # noqa: F401 - and a broker of one's own
from lmaas.broker_config.local_node import Member
from lmaas.broker_config.masked import Masked, is_secret
from lmaas.broker_config.node_folder import Record
from lmaas.broker_config.sealing import Keyring, PayloadKey
from lmaas.broker_config.settings import Settings
from lmaas.producer.gateway.secret import Secret, Secrets
from lmaas.producer.gateway.settings import GatewaySettings

HIDDEN = "correct-horse-battery-staple-32."
URL = f"scheme://me:p@ss:{HIDDEN}@host/name"

HOLDERS = [
    Secret(HIDDEN),
    Secrets([HIDDEN, HIDDEN]),
    PayloadKey("mine", HIDDEN.encode()),
    Keyring([PayloadKey("mine", HIDDEN.encode())]),
    Settings(broker_url=URL.replace("scheme", "amqp")),
    GatewaySettings(database=URL),
    Record(password=HIDDEN),
    Member("r1@localhost", 1, password=HIDDEN, cookie=HIDDEN),
]
#: Those that are secrets, and nothing else.
SECRETS = HOLDERS[:4]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
@pytest.mark.parametrize("show", [repr, str, "{}".format, "%s".__mod__, ascii, lambda h: repr([h])])
def test_printed_it_is_not_shown(holder: object, show: Callable[[object], str]) -> None:
    assert show(holder)
    assert HIDDEN not in show(holder)


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_a_traceback_with_local_values_does_not_show_it(holder: object) -> None:
    def fails(given: object) -> None:
        raise ValueError(f"{given} is not right")

    with pytest.raises(ValueError, match="is not right") as failure:
        fails(holder)
    error = failure.value
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    told = [frame.locals for frame in shown.stack if frame.name == "fails"]
    assert told[0] is not None
    assert "given" in told[0]
    assert not [frame for frame in shown.stack if frame.name == "fails" and HIDDEN in str(told)]
    assert HIDDEN not in str(error)


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize(
    "write", [pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.msgpack.encode]
)
def test_it_leaves_by_no_format(secret: object, write: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as failure:
        write(secret)
    assert HIDDEN not in str(failure.value)


def test_as_json_with_a_default_it_is_masked() -> None:
    assert json.dumps({"secret": Secret(HIDDEN)}, default=str) == '{"secret": "***"}'


# ---------------------------------------------------------- whatever is added


def _with_secrets() -> Iterator[type]:
    """Every class of ours with a field that is named as a secret."""
    waiting: list[type] = [msgspec.Struct]
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        fields = getattr(found, "__struct_fields__", ())
        if found.__module__.startswith("lmaas.") and any(map(is_secret, fields)):
            yield found


def test_every_struct_with_a_secret_is_masked() -> None:
    found = set(_with_secrets())
    assert {Record} < found
    assert [kind for kind in found if not issubclass(kind, Masked)] == []


def test_every_dataclass_with_a_secret_is_masked() -> None:
    # Not by gc.get_objects: a test may have frozen what was there.
    ours = [module for name, module in [*sys.modules.items()] if name.startswith("lmaas.")]
    kinds = [
        kind
        for module in ours
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    ]
    shown: list[Any] = [
        (kind, field.name)
        for kind in kinds
        for field in dataclasses.fields(kind)
        if is_secret(field.name) and field.repr
    ]
    assert Member in kinds
    assert shown == []
