"""AMQP with bare hands: publishes what no library would send, and reads what none would take.

A message's properties are the bytes of its content header after the body's size: two bytes of
flags, then the values.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Final, Self

import pamqp.frame
from pamqp import commands
from pamqp.base import Frame
from yarl import URL

from lmaas.broker_config.settings import Settings
from lmaas.broker_config.tls import context_of

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEARTBEAT: Final = 8
END: Final = b"\xce"
FRAME_HEADER: Final = struct.Struct(">BHI")
CONTENT_HEADER: Final = struct.Struct(">HHQ")
BASIC: Final = 60

#: Flags of the properties, highest bit first, which is their order on the wire.
CONTENT_TYPE: Final = 1 << 15
CONTENT_ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
PRIORITY: Final = 1 << 11
CORRELATION_ID: Final = 1 << 10
REPLY_TO: Final = 1 << 9
EXPIRATION: Final = 1 << 8
MESSAGE_ID: Final = 1 << 7
TIMESTAMP: Final = 1 << 6
TYPE: Final = 1 << 5
USER_ID: Final = 1 << 4
APP_ID: Final = 1 << 3

#: Largest part of a body in one frame: brokers agree to 128 KiB.
_PART: Final = 100_000


class Refused(Exception):
    """The broker closed the channel or the connection, or returned a message."""


class RawChannel:
    """One connection with one channel, confirms on, no heartbeats."""

    def __init__(self, settings: Settings) -> None:
        self._url = URL(settings.broker_url)
        self._tls = context_of(settings, [self._url])
        self._published = 0

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._url.host, self._url.port, ssl=self._tls
        )
        try:
            await self._open()
        except BaseException:
            self._writer.transport.abort()
            raise
        return self

    async def _open(self) -> None:
        url = self._url
        self._writer.write(b"AMQP\x00\x00\x09\x01")
        await self._method("Connection.Start")
        login = f"\0{url.user}\0{url.password}"
        self._send(0, commands.Connection.StartOk({}, "PLAIN", login, "en_US"))
        await self._method("Connection.Tune")
        self._send(0, commands.Connection.TuneOk(1, 131_072, 0))
        self._send(0, commands.Connection.Open(url.path.removeprefix("/") or "/"))
        await self._method("Connection.OpenOk")
        self._send(1, commands.Channel.Open())
        await self._method("Channel.OpenOk")
        self._send(1, commands.Confirm.Select())
        await self._method("Confirm.SelectOk")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.transport.abort()

    async def publish_all(
        self, exchange: str, messages: Iterable[tuple[str, bytes, bytes]]
    ) -> None:
        """Routing key, properties and body of each; returns when the broker has them all.

        Raises Refused.
        """
        waiting: set[int] = set()
        for key, properties, body in messages:
            publish = commands.Basic.Publish(0, exchange, key, mandatory=True)
            self._send(1, publish)
            head = CONTENT_HEADER.pack(BASIC, 0, len(body)) + properties
            self._writer.write(_frame(HEADER, head))
            for start in range(0, len(body), _PART):
                self._writer.write(_frame(BODY, body[start : start + _PART]))
            await self._writer.drain()
            self._published += 1
            waiting.add(self._published)
        while waiting:
            method = await self._method("Basic.Ack")
            assert isinstance(method, commands.Basic.Ack)
            tag = method.delivery_tag
            waiting = {w for w in waiting if w > tag} if method.multiple else waiting - {tag}

    async def consume(self, queue: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Properties and body of each message that is or comes there; they are gone then."""
        self._send(1, commands.Basic.Consume(0, queue, no_ack=True))
        await self._method("Basic.ConsumeOk")
        while True:
            await self._method("Basic.Deliver")
            _, head = await self._frame()
            _, _, size = CONTENT_HEADER.unpack(head[: CONTENT_HEADER.size])
            body = b""
            while len(body) < size:
                body += (await self._frame())[1]
            yield head[CONTENT_HEADER.size :], body

    def _send(self, channel: int, method: Frame) -> None:
        self._writer.write(pamqp.frame.marshal(method, channel))

    async def _method(self, wanted: str) -> Frame:
        """The next method, which has to be that one."""
        kind, payload = await self._frame()
        _, _, method = pamqp.frame.unmarshal(
            FRAME_HEADER.pack(kind, 1, len(payload)) + payload + END
        )
        if not isinstance(method, Frame) or method.name != wanted:
            raise Refused(f"expected {wanted}, got {method!r}")
        return method

    async def _frame(self) -> tuple[int, bytes]:
        while True:
            kind, _, size = FRAME_HEADER.unpack(await self._reader.readexactly(FRAME_HEADER.size))
            payload = (await self._reader.readexactly(size + 1))[:-1]
            if kind != HEARTBEAT:
                return kind, payload


def _frame(kind: int, payload: bytes) -> bytes:
    return FRAME_HEADER.pack(kind, 1, len(payload)) + payload + END


def short(value: bytes) -> bytes:
    """A short string: at most 255 bytes, of any kind."""
    return bytes([len(value)]) + value


def long(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def properties(values: dict[int, bytes]) -> bytes:
    """From encoded values by flag."""
    flags = sum(values)
    return struct.pack(">H", flags) + b"".join(values[flag] for flag in sorted(values)[::-1])


def correlation_id(properties: bytes) -> bytes:
    """Of a message's properties; empty when there is none."""
    (flags,) = struct.unpack(">H", properties[:2])
    place = 2
    for flag in (CONTENT_TYPE, CONTENT_ENCODING):
        if flags & flag:
            place += 1 + properties[place]
    if flags & HEADERS:
        place += 4 + struct.unpack(">I", properties[place : place + 4])[0]
    place += bool(flags & DELIVERY_MODE) + bool(flags & PRIORITY)
    if not flags & CORRELATION_ID:
        return b""
    return properties[place + 1 : place + 1 + properties[place]]
