"""AMQP frames that pass by: which packs a consumer holds, and which are delivered again. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_FRAME: Final = struct.Struct(">BHI")
_METHOD: Final = 1
_CLASS_AND_METHOD: Final = struct.Struct(">HH")
_CONSUME: Final = (60, 20)
_DELIVER: Final = (60, 60)
_ACK: Final = (60, 80)
_REJECT: Final = (60, 90)
_NACK: Final = (60, 120)
_TAG: Final = struct.Struct(">Q")
_NO_ACK: Final = 2


class Methods:
    """The method frames in a stream of bytes that comes in any pieces."""

    def __init__(self, preamble: int = 0) -> None:
        """`preamble` bytes come before the first frame: a client's protocol header has 8."""
        self._buffer = bytearray()
        self._skip = preamble

    def feed(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        """Channel and payload of each that is complete now."""
        self._buffer += content
        while True:
            if self._skip:
                skipped = min(self._skip, len(self._buffer))
                del self._buffer[:skipped]
                self._skip -= skipped
            if len(self._buffer) < _FRAME.size:
                return
            kind, channel, size = _FRAME.unpack_from(self._buffer)
            if kind != _METHOD:  # bodies are long, and nobody reads them here
                self._skip = _FRAME.size + size + 1
                continue
            if len(self._buffer) < _FRAME.size + size + 1:
                return
            yield channel, bytes(self._buffer[_FRAME.size : _FRAME.size + size])
            self._skip = _FRAME.size + size + 1


class Held:
    """What one connection has been handed and has not settled."""

    def __init__(self) -> None:
        self._from_broker = Methods()
        self._from_client = Methods(preamble=8)
        self._tags: set[tuple[int, int]] = set()
        #: Consumers that settle nothing: what they are handed is theirs at once.
        self._without_acks: set[tuple[int, bytes]] = set()

    def __len__(self) -> int:
        return len(self._tags)

    def received(self, content: bytes) -> int:
        """From the broker; how many packs in it are delivered again."""
        again = 0
        for channel, payload in self._from_broker.feed(content):
            if _CLASS_AND_METHOD.unpack_from(payload) == _DELIVER:
                consumer, place = _short_string(payload, 4)
                if (channel, consumer) not in self._without_acks:
                    self._tags.add((channel, _TAG.unpack_from(payload, place)[0]))
                    again += payload[place + _TAG.size]
        return again

    def sent(self, content: bytes) -> None:
        """From the client."""
        for channel, payload in self._from_client.feed(content):
            method = _CLASS_AND_METHOD.unpack_from(payload)
            if method in {_ACK, _REJECT, _NACK}:
                self._settle(channel, payload)
            elif method == _CONSUME:
                _, place = _short_string(payload, 6)
                consumer, place = _short_string(payload, place)
                if payload[place] & _NO_ACK:
                    self._without_acks.add((channel, consumer))

    def _settle(self, channel: int, payload: bytes) -> None:
        (tag,) = _TAG.unpack_from(payload, 4)
        multiple = _CLASS_AND_METHOD.unpack_from(payload) != _REJECT and payload[12] & 1
        if multiple:
            self._tags = {held for held in self._tags if held[0] != channel or held[1] > tag}
        else:
            self._tags.discard((channel, tag))


def _short_string(payload: bytes, place: int) -> tuple[bytes, int]:
    """The one that begins there, and where it ends."""
    end = place + 1 + payload[place]
    return payload[place + 1 : end], end
