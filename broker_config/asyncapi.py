"""The contract as an AsyncAPI 3.1 document, made from the structures that the code runs on.

`python -m lmaas.broker_config.asyncapi > docs/asyncapi.yaml` writes it; a test compares.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import msgspec

from lmaas.broker_config.codes import Code
from lmaas.broker_config.headers import CLOCK, HEADER_NAMES, Headers
from lmaas.broker_config.messages import (
    CANCEL,
    CARDS,
    JSON,
    MSGPACK,
    REPLY,
    REQUEST,
    Cancellation,
    Item,
    ItemError,
    ModelCard,
    Options,
    Reply,
    Request,
    Result,
    Tensor,
    Timings,
)
from lmaas.broker_config.scheduling import LANES, MAX_PRIORITY
from lmaas.broker_config.sealing import ENCODING, KEY_HEADER
from lmaas.broker_config.statuses import STATUS, WorkerStatus
from lmaas.broker_config.topology import Names, topology

_BINDING: Final = {"bindingVersion": "0.3.0"}

_REQUEST_EXAMPLE: Final = Request(
    model="sentiment",
    items=[Item(id="1", text="A quiet, lovely film."), Item(id="2", text="")],
    options=Options(top_k=2),
)
_KINDS_EXAMPLE: Final = Request(
    model="anything",
    items=[
        Item(id="two texts", text="Is it raining?", text_pair="It is pouring."),
        Item(id="bytes", data=b"\x89PNG", media_type="image/png"),
        Item(
            id="tensors",
            tensors={"ids": Tensor(shape=[2], datatype="INT16", data=b"\x07\x00\x2a\x00")},
        ),
    ],
)
_REPLY_EXAMPLE: Final = Reply(
    model="sentiment",
    version="1",
    worker="host-1",
    timings=Timings(waited=0.002, ran=0.001),
    results=[
        Result(
            id="1",
            label="positive",
            score=0.981234,
            scores={"positive": 0.981234, "negative": 0.018766},
        ),
        Result(id="2", error=ItemError(code=Code.EMPTY_TEXT, message="the text is empty")),
    ],
)


def document() -> dict[str, Any]:
    """The document as plain values, for the default prefix and classic queues."""
    names = Names()
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "LMaaS",
            "version": "1",
            "description": (
                "Classification requests over RabbitMQ (AMQP 0.9.1). A request is a pack of items "
                "for one model; its reply has one result an item, in the same order. An item that "
                "cannot be classified has an error as its result and does not harm its neighbours. "
                f"Bodies are `{JSON}` or `{MSGPACK}`, with the same structure; a reply comes in "
                "the language of its request. Bodies may be sealed, with the property "
                f"content_encoding `{ENCODING}`: docs/security.md has the format."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "servers": {
            "broker": {"host": "localhost:5672", "protocol": "amqp", "protocolVersion": "0.9.1"}
        },
        "channels": {
            "work": _work(names),
            "results": _results(names),
            "questions": _questions(names),
        },
        "operations": {
            "classify": _classify(),
            "describe": _describe(),
            "report": _report(),
            "cancel": _cancel(),
        },
        "components": {
            "messages": {
                "request": _request(),
                "reply": _reply(),
                "question": _question(),
                "cancellation": _cancellation(),
                "cards": _cards(),
                "inquiry": _inquiry(),
                "status": _status(),
            },
            "schemas": _schemas(),
            "correlationIds": {
                "pack": {
                    "description": "The AMQP property correlation_id; the reply repeats it.",
                    "location": "$message.header#/correlation_id",
                }
            },
        },
    }


def _work(names: Names) -> dict[str, Any]:
    queues = topology(names, "classic", ["MODEL"]).queues
    return {
        "address": "{model}.{lane}",
        "description": (
            f"Published to the exchange `{names.work}` with this routing key, persistent and "
            "mandatory: a message that comes back names a model that nobody serves."
        ),
        "parameters": {
            "model": {"description": "Name of the model, as in the request."},
            "lane": {
                "description": "By estimated service time: "
                + ", ".join(f"`{lane}` up to {bound:g} s" for lane, bound in LANES.items()),
                "enum": list(LANES),
                "default": next(iter(LANES)),
            },
        },
        "messages": {"request": {"$ref": "#/components/messages/request"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": names.work,
                    "type": "direct",
                    "durable": True,
                    "autoDelete": False,
                },
                **_BINDING,
            }
        },
        "x-queues": {
            queue.name: queue.arguments
            for queue in queues
            if queue.name.startswith(f"{names.work}.")
        },
    }


def _results(names: Names) -> dict[str, Any]:
    return {
        "address": None,
        "description": (
            "A queue of the caller's own, named in the request's `reply_to`: "
            f"`{names.root}.user.USER.client.NAME` with the broker's user, which the property "
            "`user_id` has to name too, and any name. It is bound to the exchange "
            f"`{names.results}` with the key `USER.client.NAME`, by which workers publish to it. "
            "(In USER, each byte of UTF-8 that is no letter of ASCII, no digit and none of `_-` is "
            "written as `:2E`, by its hexadecimal digits.) "
            "Workers whose user may write to the default exchange also answer to "
            f"`{names.results}.client.NAME`, bound to nothing, and to RabbitMQ's direct reply-to. "
            "A request that names another queue is refused, and dead-lettered as `malformed`."
        ),
        "messages": {
            "reply": {"$ref": "#/components/messages/reply"},
            "cards": {"$ref": "#/components/messages/cards"},
            "status": {"$ref": "#/components/messages/status"},
        },
    }


def _questions(names: Names) -> dict[str, Any]:
    return {
        "address": "{model}",
        "description": (
            f"Published to the exchange `{names.cards}`, mandatory: a message that comes back asks "
            "for a model that nobody serves now. Each worker answers for itself."
        ),
        "parameters": {"model": {"description": "Name of a model; empty for all models."}},
        "messages": {
            "question": {"$ref": "#/components/messages/question"},
            "inquiry": {"$ref": "#/components/messages/inquiry"},
            "cancellation": {"$ref": "#/components/messages/cancellation"},
        },
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": names.cards,
                    "type": "direct",
                    "durable": True,
                    "autoDelete": False,
                },
                **_BINDING,
            }
        },
    }


def _describe() -> dict[str, Any]:
    return {
        "action": "receive",
        "summary": "A worker says which models it serves, and what is to be known of them.",
        "channel": {"$ref": "#/channels/questions"},
        "messages": [{"$ref": "#/channels/questions/messages/question"}],
        "reply": {
            "address": {
                "description": "The AMQP property reply_to.",
                "location": "$message.header#/replyTo",
            },
            "channel": {"$ref": "#/channels/results"},
            "messages": [{"$ref": "#/channels/results/messages/cards"}],
        },
    }


def _question() -> dict[str, Any]:
    return {
        "name": "question",
        "title": "Which models there are; without a body",
        "contentType": JSON,
        "bindings": {"amqp": {"messageType": CARDS, **_BINDING}},
    }


def _report() -> dict[str, Any]:
    return {
        "action": "receive",
        "summary": "A worker says how it is, and what it has taken from its lanes.",
        "channel": {"$ref": "#/channels/questions"},
        "messages": [{"$ref": "#/channels/questions/messages/inquiry"}],
        "reply": {
            "address": {
                "description": "The AMQP property reply_to.",
                "location": "$message.header#/replyTo",
            },
            "channel": {"$ref": "#/channels/results"},
            "messages": [{"$ref": "#/channels/results/messages/status"}],
        },
    }


def _inquiry() -> dict[str, Any]:
    return {
        "name": "inquiry",
        "title": "How workers are; without a body",
        "contentType": JSON,
        "bindings": {"amqp": {"messageType": STATUS, **_BINDING}},
    }


def _status() -> dict[str, Any]:
    return {
        "name": "status",
        "title": "The state of one worker",
        "contentType": JSON,
        "payload": {"$ref": "#/components/schemas/WorkerStatus"},
        "bindings": {"amqp": {"messageType": STATUS, **_BINDING}},
    }


def _cancel() -> dict[str, Any]:
    return {
        "action": "receive",
        "summary": "A worker drops packs whose answers nobody waits for any more.",
        "channel": {"$ref": "#/channels/questions"},
        "messages": [{"$ref": "#/channels/questions/messages/cancellation"}],
    }


def _cancellation() -> dict[str, Any]:
    return {
        "name": "cancellation",
        "title": "Packs that are given up; the property reply_to is that of the packs",
        "contentType": JSON,
        "payload": {"$ref": "#/components/schemas/Cancellation"},
        "bindings": {"amqp": {"messageType": CANCEL, **_BINDING}},
    }


def _cards() -> dict[str, Any]:
    return {
        "name": "cards",
        "title": "A card of each model that the worker serves and was asked for",
        "contentType": JSON,
        "payload": {"type": "array", "items": {"$ref": "#/components/schemas/ModelCard"}},
        "bindings": {"amqp": {"messageType": CARDS, **_BINDING}},
    }


def _classify() -> dict[str, Any]:
    return {
        "action": "receive",
        "summary": "A worker takes a request, and acknowledges it after its reply is confirmed.",
        "channel": {"$ref": "#/channels/work"},
        "messages": [{"$ref": "#/channels/work/messages/request"}],
        "bindings": {"amqp": {"ack": True, **_BINDING}},
        "reply": {
            "address": {
                "description": "The AMQP property reply_to.",
                "location": "$message.header#/replyTo",
            },
            "channel": {"$ref": "#/channels/results"},
            "messages": [{"$ref": "#/channels/results/messages/reply"}],
        },
    }


def _request() -> dict[str, Any]:
    return {
        "name": "request",
        "title": "A pack of items for one model",
        "contentType": JSON,
        "correlationId": {"$ref": "#/components/correlationIds/pack"},
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": "#/components/schemas/Request"},
        "bindings": {"amqp": {"messageType": REQUEST, **_BINDING}},
        "examples": [
            {"name": "two items", "payload": _plain(_REQUEST_EXAMPLE)},
            {"name": "each kind of item", "payload": _plain(_KINDS_EXAMPLE)},
        ],
        "x-amqp-properties": {
            "message_id": "unique for every publish",
            "correlation_id": "chosen by the caller; the reply repeats it",
            "reply_to": "the queue that the reply goes to; without it there is none",
            "user_id": "the broker's user: who asks, and whose name a reply_to may have",
            "priority": f"0 to {MAX_PRIORITY} inside the lane, higher is sooner",
            "delivery_mode": "2, persistent",
        },
    }


def _reply() -> dict[str, Any]:
    return {
        "name": "reply",
        "title": "One result an item",
        "contentType": JSON,
        "correlationId": {"$ref": "#/components/correlationIds/pack"},
        "headers": {
            "type": "object",
            "properties": {
                CLOCK: {
                    "type": "integer",
                    "description": (
                        "What the worker's clock showed when it sent the reply, in Unix "
                        "milliseconds. The next deadlines are best told by it."
                    ),
                },
                KEY_HEADER: {
                    "type": "string",
                    "description": "The id of the payload key that the body is sealed with.",
                },
            },
        },
        "payload": {"$ref": "#/components/schemas/Reply"},
        "bindings": {"amqp": {"messageType": REPLY, **_BINDING}},
        "examples": [{"name": "a label and an error", "payload": _plain(_REPLY_EXAMPLE)}],
    }


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(
        [Request, Reply, Headers, ModelCard, Cancellation, WorkerStatus],
        ref_template="#/components/schemas/{name}",
    )
    schemas["ItemError"]["properties"]["code"]["examples"] = [code.value for code in Code]
    headers = schemas["Headers"]
    headers["properties"] = {
        HEADER_NAMES[field]: schema for field, schema in headers["properties"].items()
    }
    return dict(schemas)


def _plain(message: Request | Reply) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))


def render() -> str:
    """The document as YAML. Needs PyYAML, which only developers have."""
    yaml = importlib.import_module("yaml")
    head = "# `python -m lmaas.broker_config.asyncapi` makes this: change the structures instead.\n"
    text = yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=100)
    return head + str(text)


if __name__ == "__main__":
    sys.stdout.write(render())
